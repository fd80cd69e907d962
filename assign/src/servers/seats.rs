//! Sessions and counts in Redis: each step is one script, which nothing can come between.
//!
//! | key | what |
//! |---|---|
//! | `active_users` | hash: user → when the session ends, ms since 1970 |
//! | `user_assignments` | hash: user → open assignments, and what is reserved |
//! | `assignment_versions` | hash: user → version and count of the database that were last heard of |
//! | `assignment_leases` | sorted: token and user of a reservation → when it is given back |
//! | `assignment_order` | sorted: user with a session → count and turn; the first gets the next event |
//! | `assignment_turns` | hash: user → when the last event came, in events |
//! | `assignment_sessions` | sorted: user → when the session ends |
//! | `assignment_ended` | sorted: user → when a session ended, for as long as a session lasts |
//! | `assignment_meta` | hash: the last turn, since when these data are here, the database that they count |

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script};
use uuid::Uuid;

use super::database::Load;
use super::{LEASE, ServersOptions, UrlError};
use crate::options::ACTIVE_MAX;
use crate::retry::locked;
use crate::{AssignError, AssignOptions, Session};

/// A script that takes longer has no answer: it would be repeated by whoever waits.
const ANSWER: Duration = Duration::from_secs(3);
/// Names of our keys, in the order in which scripts have them.
const KEYS: [&str; 9] = [
    "active_users",
    "user_assignments",
    "assignment_versions",
    "assignment_leases",
    "assignment_order",
    "assignment_turns",
    "assignment_sessions",
    "assignment_ended",
    "assignment_meta",
];

/// A place for one more event that somebody keeps free for us.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) user: String,
    pub(super) token: String,
}

/// What ended by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expired {
    /// How many sessions.
    pub(super) ended: usize,
    /// How many there are.
    pub(super) active: usize,
    /// Whether counts are known; not when Redis has lost its data.
    pub(super) counted: bool,
}

struct Scripts {
    begin: Script,
    end: Script,
    expire: Script,
    reserve: Script,
    release: Script,
    committed: Script,
    recount: Script,
    absent: Script,
}

/// Redis.
pub(super) struct Seats {
    client: Client,
    keys: Vec<String>,
    scripts: Scripts,
    connection: Mutex<Option<MultiplexedConnection>>,
    limit: u32,
    session_ms: u64,
}

/// A client of a URL; does not connect.
pub(super) fn client(url: &str) -> Result<Client, UrlError> {
    if !url.starts_with("redis://") {
        return Err(UrlError::Redis);
    }
    Client::open(url).map_err(|_| UrlError::Redis)
}

impl Seats {
    pub(super) fn new(options: &AssignOptions, servers: &ServersOptions) -> Result<Self, UrlError> {
        let prefix = &servers.redis_prefix;
        Ok(Self {
            client: client(&servers.redis_url)?,
            keys: KEYS.iter().map(|key| format!("{prefix}{key}")).collect(),
            scripts: Scripts::new(),
            connection: Mutex::new(None),
            limit: options.limit,
            session_ms: u64::try_from(options.session.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Whether Redis answers.
    pub(super) async fn ping(&self) -> Result<(), AssignError> {
        let mut connection = self.connection().await?;
        let answer: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
        answer.map(drop).map_err(|error| self.failed(&error))
    }

    /// Begins or renews a session; says whether counts are known.
    pub(super) async fn begin(&self, user: &str) -> Result<(Session, bool), AssignError> {
        let args = [
            user.to_owned(),
            self.session_ms.to_string(),
            ACTIVE_MAX.to_string(),
        ];
        let (begun, until, counted): (i64, i64, i64) = self.run(&self.scripts.begin, &args).await?;
        if begun < 0 {
            return Err(AssignError::Crowded {
                active: usize::try_from(until).unwrap_or(usize::MAX),
                limit: ACTIVE_MAX,
            });
        }
        let session = Session {
            begun: begun == 1,
            until: until.saturating_mul(1_000),
        };
        Ok((session, counted == 1))
    }

    /// Ends a session.
    pub(super) async fn end(&self, user: &str) -> Result<bool, AssignError> {
        let there: i64 = self.run(&self.scripts.end, &[user.to_owned()]).await?;
        Ok(there == 1)
    }

    /// Ends the sessions whose time has passed, and gives back what dead assigners had reserved.
    pub(super) async fn expire(&self) -> Result<Expired, AssignError> {
        let args = [self.session_ms.to_string()];
        let (ended, active, counted): (usize, usize, i64) = self.run(&self.scripts.expire, &args).await?;
        Ok(Expired {
            ended,
            active,
            counted: counted == 1,
        })
    }

    /// Reserves a place with whoever should get the next event; `None` when nobody has room.
    pub(super) async fn reserve(&self) -> Result<Option<Seat>, AssignError> {
        let token = Uuid::new_v4().simple().to_string();
        let args = [token.clone(), LEASE.as_millis().to_string()];
        let user: Option<String> = self.run(&self.scripts.reserve, &args).await?;
        Ok(user.map(|user| Seat { user, token }))
    }

    /// Gives a place back.
    pub(super) async fn release(&self, seat: &Seat) -> Result<(), AssignError> {
        let args = [seat.user.clone(), seat.token.clone()];
        let _: i64 = self.run(&self.scripts.release, &args).await?;
        Ok(())
    }

    /// Says what the database has now; `seat` is what was reserved for it.
    pub(super) async fn committed(&self, load: &Load, seat: Option<&Seat>) -> Result<(), AssignError> {
        let token = seat.map_or(String::new(), |seat| seat.token.clone());
        let args = [
            load.user.clone(),
            load.open.to_string(),
            load.version.to_string(),
            token,
        ];
        let _: i64 = self.run(&self.scripts.committed, &args).await?;
        Ok(())
    }

    /// Makes counts what the database `id` has.
    pub(super) async fn recount(&self, id: &str, loads: &[Load]) -> Result<(), AssignError> {
        let mut args = vec![id.to_owned()];
        for load in loads {
            args.extend([load.user.clone(), load.open.to_string(), load.version.to_string()]);
        }
        let _: i64 = self.run(&self.scripts.recount, &args).await?;
        Ok(())
    }

    /// Everybody who has a count.
    pub(super) async fn counted_users(&self) -> Result<HashSet<String>, AssignError> {
        let mut connection = self.connection().await?;
        let counts = self.keys.get(1).map_or("", String::as_str);
        let users = redis::cmd("HKEYS").arg(counts).query_async(&mut connection).await;
        users.map_err(|error| self.failed(&error))
    }

    /// Those of some people whose assignments may go to others.
    pub(super) async fn absent(&self, users: &[String]) -> Result<Vec<String>, AssignError> {
        let mut args = vec![self.session_ms.to_string()];
        args.extend_from_slice(users);
        self.run(&self.scripts.absent, &args).await
    }

    async fn run<T: FromRedisValue>(&self, script: &Script, args: &[String]) -> Result<T, AssignError> {
        let mut connection = self.connection().await?;
        let mut call = script.prepare_invoke();
        call.key(&self.keys).arg(args).arg(self.limit);
        let answer = call.invoke_async(&mut connection).await;
        answer.map_err(|error| self.failed(&error))
    }

    async fn connection(&self) -> Result<MultiplexedConnection, AssignError> {
        if let Some(connection) = locked(&self.connection).clone() {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        let connection = connected.map_err(|error| self.failed(&error))?;
        *locked(&self.connection) = Some(connection.clone());
        Ok(connection)
    }

    /// What an error means: whatever it was, the next question goes over another connection.
    fn failed(&self, error: &RedisError) -> AssignError {
        drop(locked(&self.connection).take());
        AssignError::Unavailable {
            operation: "ask redis",
            message: error.to_string(),
        }
    }
}

impl Scripts {
    fn new() -> Self {
        let shared = include_str!("lua/shared.lua");
        let script = |body: &str| Script::new(&format!("{shared}\n{body}"));
        Self {
            begin: script(include_str!("lua/begin.lua")),
            end: script(include_str!("lua/end.lua")),
            expire: script(include_str!("lua/expire.lua")),
            reserve: script(include_str!("lua/reserve.lua")),
            release: script(include_str!("lua/release.lua")),
            committed: script(include_str!("lua/committed.lua")),
            recount: script(include_str!("lua/recount.lua")),
            absent: script(include_str!("lua/absent.lua")),
        }
    }
}
