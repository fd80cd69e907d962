//! Redis as a destination: every event is published on a channel as JSON. And as the bus between processes ([`bus`]).
//!
//! The same anatomy as every database, behind the same two traits, so groups, retries, refilling, progress and metrics
//! are those of [`crate::database`]: `session.rs` (one connection, the steps of a "transaction"), `options.rs`
//! (settings), `error.rs` (who must act).
//!
//! # What is promised
//! I-2, as far as Redis goes: events are published and the position is moved by one script, which compares the
//! position first; so none is published twice and none is left out, whatever process dies, pauses or is replaced.
//! Pub/Sub itself keeps nothing: who is not subscribed in that moment does not get it, and comes back by the stream's
//! own tail or by a question.
//!
//! # Where the position is
//! In a hash `<group>:<stream>:<partition>` of the same Redis, with the journal's identity. A Redis that forgets it (no
//! persistence, a flush) is told again by the process that knows where it was. When nobody knows, as at the very
//! first start, it begins with the oldest record that the journal has, not with what only the lake has.

pub mod bus;
mod error;
mod options;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;
use journal::Journal;
use redis::{AsyncConnectionConfig, Client};

use crate::database::{Database, DatabaseError, DatabaseOptions, MappingError, Session, TargetTable};
pub use bus::{Bus, BusPosition};
use error::failure;
pub use options::{RedisOptions, RedisUrlError};
use session::RedisSession;

/// How long one answer of Redis may take; a transaction has a limit of its own.
const RESPONSE_TIME: Duration = Duration::from_secs(30);

/// A Redis server, and where to publish.
pub struct RedisDatabase {
    client: Client,
    shared: Arc<Shared>,
}

/// What all sessions share.
struct Shared {
    journal: Arc<dyn Journal>,
    options: RedisOptions,
    /// What this process has committed, by key: for a Redis that forgets.
    known: Mutex<HashMap<String, Offset>>,
}

impl RedisDatabase {
    /// A server by its settings. Connects to nobody yet.
    ///
    /// # Errors
    /// [`RedisUrlError`] (input), without any part of the URL.
    pub fn new(journal: Arc<dyn Journal>, options: RedisOptions) -> Result<Self, RedisUrlError> {
        let client = options::client(&options.url)?;
        Ok(Self {
            client,
            shared: Arc::new(Shared {
                journal,
                options,
                known: Mutex::default(),
            }),
        })
    }

    /// Bounds that suit messages: small scripts, since Redis does nothing else meanwhile, and short waits.
    #[must_use]
    pub fn bounds(options: DatabaseOptions) -> DatabaseOptions {
        DatabaseOptions {
            batch_rows: 1_000,
            batch_bytes: 1 << 20,
            commit_every: Duration::from_millis(2),
            connections: 4,
            ..options
        }
    }
}

impl fmt::Debug for RedisDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisDatabase")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Database for RedisDatabase {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn check(&self, _table: &TargetTable) -> Result<(), MappingError> {
        Ok(())
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>> {
        async {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(RESPONSE_TIME))
                .set_response_timeout(Some(RESPONSE_TIME));
            let connected = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await;
            let connection = connected.map_err(|error| failure("connect", &error))?;
            let session = RedisSession::new(connection, Arc::clone(&self.shared));
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
