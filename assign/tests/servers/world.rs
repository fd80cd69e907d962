//! A schema, keys and queues of one test's own, on shared servers or on servers of its own; and what they must say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use assign::servers::{ServersDesk, ServersOptions};
use assign::{AssignOptions, Desk, Settlement};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::own::{self, Server};

/// How long anything may take before a test gives up; a broker on a busy machine takes a minute to start.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct World {
    name: String,
    options: ServersOptions,
    /// PostgreSQL, Redis, RabbitMQ, when they are this test's own.
    own: Vec<Server>,
    _folder: Option<TempDir>,
}

/// A generator of numbers, the same for a seed (xorshift).
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

impl World {
    /// On the shared servers; nothing, loudly, when they are not up.
    pub(crate) async fn shared(test: &str) -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
        let urls = (|| {
            Some((
                variable("POSTGRES_URL")?,
                variable("REDIS_URL")?,
                variable("AMQP_URL")?,
            ))
        })();
        let Some((postgres, redis, amqp)) = urls else {
            skipped(
                test,
                "POSTGRES_URL, REDIS_URL, AMQP_URL (cargo xtask services up)",
            );
            return None;
        };
        Some(Self::of(&postgres, &redis, &amqp, Vec::new(), None).await)
    }

    /// On servers of its own.
    pub(crate) async fn own(test: &str) -> Option<Self> {
        // Other accounts must be able to look into it.
        let folder = tempfile::Builder::new()
            .prefix("assign")
            .tempdir()
            .expect("a folder");
        open_to_all(folder.path().to_owned());
        let servers = (|| {
            Some(vec![
                own::postgres(folder.path())?,
                own::redis(folder.path())?,
                own::rabbitmq(folder.path())?,
            ])
        })();
        let Some(mut servers) = servers else {
            skipped(
                test,
                "postgresql, redis-server and rabbitmq-server on this machine",
            );
            return None;
        };
        servers.iter_mut().for_each(Server::up);
        let urls = until_they_answer(&mut servers).await;
        Some(Self::of(&urls[0], &urls[1], &urls[2], servers, Some(folder)).await)
    }

    async fn of(postgres: &str, redis: &str, amqp: &str, own: Vec<Server>, folder: Option<TempDir>) -> Self {
        let name = format!("assign_{}", Uuid::new_v4().simple());
        let client = connect(postgres).await.expect("postgres");
        client
            .batch_execute(&format!("CREATE SCHEMA {name}"))
            .await
            .expect("a schema");
        let joint = if postgres.contains('?') { '&' } else { '?' };
        let options = ServersOptions {
            redis_url: redis.to_owned(),
            redis_prefix: format!("{name}."),
            postgres_url: format!("{postgres}{joint}options=-csearch_path%3D{name}"),
            amqp_url: amqp.to_owned(),
            queue: format!("{name}.out"),
            answers: format!("{name}.in"),
            workers: 1,
        };
        let world = Self {
            name,
            options,
            own,
            _folder: folder,
        };
        // Posted before any desk is there.
        world.channel(&world.options.queue).await;
        world
    }

    pub(crate) fn desk(&self, options: AssignOptions, workers: u16) -> ServersDesk {
        let servers = ServersOptions {
            workers,
            ..self.options.clone()
        };
        ServersDesk::start(options, servers).expect("the URLs are right")
    }

    /// Removes what is on shared servers.
    pub(crate) async fn remove(&self) {
        let client = self.postgres().await.expect("postgres");
        client
            .batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name))
            .await
            .expect("dropped");
        let mut redis = self.redis().await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}*", self.options.redis_prefix))
            .query_async(&mut redis)
            .await
            .expect("keys");
        if !keys.is_empty() {
            let _: i64 = redis::cmd("DEL")
                .arg(&keys)
                .query_async(&mut redis)
                .await
                .expect("deleted");
        }
        for queue in [&self.options.queue, &self.options.answers] {
            let (_connection, channel, _) = self.channel(queue).await;
            let deleted = channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await;
            deleted.expect("deleted");
        }
    }

    /// Has the broker write down that there are the queues. It confirms messages of a queue whose declaration it has not
    /// written down yet, and when it is killed then, both are gone (RabbitMQ 3.10).
    pub(crate) async fn keep_queues(&mut self) {
        // That of events is there already.
        drop(self.channel(&self.options.answers).await);
        self.own[2].stop();
        self.up(2).await;
    }

    /// Kills the server of that number: PostgreSQL, Redis, RabbitMQ.
    pub(crate) fn kill(&mut self, number: usize) {
        self.own[number].kill();
    }

    pub(crate) fn is_down(&self, number: usize) -> bool {
        self.own[number].is_down()
    }

    pub(crate) async fn up(&mut self, number: usize) {
        self.own[number].up();
        until_they_answer(&mut self.own).await;
    }

    /// Posts events of these ids, confirmed.
    pub(crate) async fn post(&self, ids: impl IntoIterator<Item = String>) {
        let events = ids
            .into_iter()
            .map(|id| format!(r#"{{"event_id":"{id}","n":1}}"#));
        self.post_raw(events).await;
    }

    pub(crate) async fn post_raw(&self, events: impl IntoIterator<Item = String>) {
        let (_connection, channel, _) = self.channel(&self.options.queue).await;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        let mut confirms = Vec::new();
        for event in events {
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let queue = self.options.queue.as_str().into();
            let sent = channel
                .basic_publish(
                    "".into(),
                    queue,
                    BasicPublishOptions::default(),
                    event.as_bytes(),
                    persistent,
                )
                .await;
            confirms.push(sent.expect("sent"));
        }
        for confirm in confirms {
            assert!(confirm.await.expect("confirmed").is_ack());
        }
    }

    /// Messages that wait in the queue of events.
    pub(crate) async fn waiting(&self) -> u32 {
        let (_connection, _channel, waiting) = self.channel(&self.options.queue).await;
        waiting
    }

    /// Takes every answer that there is: the statuses of each event, in order and without repetitions.
    pub(crate) async fn answers(&self) -> BTreeMap<String, Vec<String>> {
        let (_connection, channel, waiting) = self.channel(&self.options.answers).await;
        let queue = self.options.answers.as_str().into();
        let consume = BasicConsumeOptions::default();
        let mut consumer = channel
            .basic_consume(queue, "".into(), consume, FieldTable::default())
            .await
            .expect("consumes");
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for taken in 0..waiting {
            let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await;
            let delivery = delivery.unwrap_or_else(|_| panic!("{taken} of {waiting} answers came"));
            let delivery = delivery.expect("the consumer goes on").expect("a message");
            let answer: Value = serde_json::from_slice(&delivery.data).expect("JSON");
            let text = |name: &str| answer[name].as_str().expect("text").to_owned();
            if seen.insert((text("assignment_id"), text("status"))) {
                answers.entry(text("event_id")).or_default().push(text("status"));
            }
            delivery
                .acker
                .ack(BasicAckOptions::default())
                .await
                .expect("acknowledged");
        }
        answers
    }

    /// Every event was said to be assigned, and completed in the end.
    pub(crate) async fn answered_everything(&self, events: i64) {
        let answers = self.answers().await;
        let missing: Vec<_> = (0..events)
            .map(|number| format!("e{number}"))
            .filter(|event| !answers.contains_key(event))
            .collect();
        assert!(missing.is_empty(), "no answer about {missing:?}");
        assert_eq!(answers.len() as i64, events);
        for (event, statuses) in answers {
            assert_eq!(
                statuses.first().map(String::as_str),
                Some("assigned"),
                "{event}: {statuses:?}"
            );
            assert_eq!(
                statuses.last().map(String::as_str),
                Some("completed"),
                "{event}: {statuses:?}"
            );
        }
    }

    /// Settles until so many events have been assigned and nothing is open.
    pub(crate) async fn settle_all(&self, desk: &ServersDesk, events: i64) {
        until("everything is assigned and settled", async || {
            for id in self.open(50).await {
                // Whoever is just back may not take it yet.
                let _ = desk.settle(&id, Settlement::Completed).await;
            }
            let done = "SELECT count(*) FROM assignments WHERE status = 'completed'";
            self.try_count(done).await == events
        })
        .await;
    }

    /// Each event has one assignment that is not `reassigned`, and each count is that of the rows.
    pub(crate) async fn judge(&self, events: i64) {
        let live = "SELECT count(*) FROM assignments WHERE status <> 'reassigned'";
        let different = "SELECT count(DISTINCT event_id) FROM assignments";
        assert_eq!(
            (self.count(live).await, self.count(different).await),
            (events, events)
        );
        let wrong = "SELECT count(*) FROM assignees WHERE open <> (SELECT count(*) FROM assignments \
            WHERE assignments.user_id = assignees.user_id AND status = 'open')";
        assert_eq!(self.count(wrong).await, 0);
    }

    /// Looks until somebody has more than that, in rows or in Redis.
    pub(crate) fn look_for_more_than(&self, limit: i64) -> impl Future<Output = ()> + Send + 'static {
        let (postgres, redis) = (self.options.postgres_url.clone(), self.options.redis_url.clone());
        let counts = format!("{}user_assignments", self.options.redis_prefix);
        async move {
            let client = connect(&postgres).await.expect("postgres");
            let mut redis = redis::Client::open(redis).expect("a URL");
            let mut redis = open_redis(&mut redis).await;
            loop {
                let most = "SELECT coalesce(max(open), 0) FROM (SELECT count(*) AS open FROM assignments \
                    WHERE status = 'open' GROUP BY user_id) AS counted";
                // There are no tables at first.
                let rows: i64 = client.query_one(most, &[]).await.map_or(0, |row| row.get(0));
                let counted: Vec<i64> = redis::cmd("HVALS")
                    .arg(&counts)
                    .query_async(&mut redis)
                    .await
                    .expect("counts");
                if rows > limit || counted.iter().any(|count| *count > limit) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// How many each person has open.
    pub(crate) async fn loads(&self) -> BTreeMap<String, i64> {
        let client = self.postgres().await.expect("postgres");
        let sql = "SELECT user_id, count(*) FROM assignments WHERE status = 'open' GROUP BY user_id";
        let rows = client.query(sql, &[]).await.unwrap_or_default();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The same, as Redis counts it.
    pub(crate) async fn redis_counts(&self) -> BTreeMap<String, i64> {
        let mut redis = self.redis().await;
        let counts = format!("{}user_assignments", self.options.redis_prefix);
        redis::cmd("HGETALL")
            .arg(counts)
            .query_async(&mut redis)
            .await
            .expect("counts")
    }

    /// Some assignments that are open.
    pub(crate) async fn open(&self, most: i64) -> Vec<String> {
        let Ok(client) = self.postgres().await else {
            return Vec::new();
        };
        let sql = "SELECT assignment_id FROM assignments WHERE status = 'open' ORDER BY assigned_at LIMIT $1";
        let rows = client.query(sql, &[&most]).await.unwrap_or_default();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let client = self.postgres().await.expect("postgres");
        client.query_one(sql, &[]).await.expect("counts").get(0)
    }

    /// The same, or -1 while it cannot be asked.
    pub(crate) async fn try_count(&self, sql: &str) -> i64 {
        let Ok(client) = self.postgres().await else {
            return -1;
        };
        client.query_one(sql, &[]).await.map_or(-1, |row| row.get(0))
    }

    pub(crate) async fn postgres(&self) -> Result<Client, tokio_postgres::Error> {
        connect(&self.options.postgres_url).await
    }

    async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let mut client = redis::Client::open(self.options.redis_url.as_str()).expect("a URL");
        open_redis(&mut client).await
    }

    /// A channel on which the durable queue is there, and how many messages wait in it.
    async fn channel(&self, queue: &str) -> (Connection, Channel, u32) {
        let connection = Connection::connect(&self.options.amqp_url, ConnectionProperties::default());
        let connection = connection.await.expect("rabbitmq");
        let channel = connection.create_channel().await.expect("a channel");
        let durable = QueueDeclareOptions::durable();
        let queue = channel.queue_declare(queue.into(), durable, FieldTable::default());
        let waiting = queue.await.expect("a queue").message_count();
        (connection, channel, waiting)
    }
}

async fn open_redis(client: &mut redis::Client) -> redis::aio::MultiplexedConnection {
    client.get_multiplexed_async_connection().await.expect("redis")
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with the client.
    drop(Handle::current().spawn(driver));
    Ok(client)
}

/// Whether all three answer, each within a moment.
async fn answer(urls: &[String]) -> bool {
    let redis = async {
        let client = redis::Client::open(urls[1].as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    let amqp = Connection::connect(&urls[2], ConnectionProperties::default());
    within(connect(&urls[0])).await && within(redis).await && within(amqp).await
}

async fn within<T, E>(asked: impl Future<Output = Result<T, E>>) -> bool {
    let answered = tokio::time::timeout(Duration::from_secs(3), asked).await;
    matches!(answered, Ok(Ok(_)))
}

fn skipped(test: &str, what: &str) {
    assert!(
        std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
        "{test} needs {what}"
    );
    eprintln!("SKIPPED: {test} needs {what}");
}

fn open_to_all(folder: PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, all).expect("permissions");
}

/// Waits until all of them answer, at these URLs.
async fn until_they_answer(servers: &mut [Server]) -> Vec<String> {
    let urls: Vec<_> = servers.iter().map(|server| server.url.clone()).collect();
    let answers = async || {
        servers.iter_mut().for_each(Server::up_again);
        answer(&urls).await
    };
    until("the servers answer", answers).await;
    urls
}

/// Waits until something holds; the failure says what for.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
