//! The shared servers, with a schema, keys and queues of one test's own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Where they are, and what is this test's own there.
pub(crate) struct Servers {
    postgres: String,
    redis: String,
    amqp: String,
    name: String,
    runtime: Runtime,
}

impl Servers {
    /// `None`, loudly, when they are not up.
    pub(crate) fn find() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
        let found = (|| {
            Some((
                variable("POSTGRES_URL")?,
                variable("REDIS_URL")?,
                variable("AMQP_URL")?,
            ))
        })();
        let Some((postgres, redis, amqp)) = found else {
            assert!(
                std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
                "POSTGRES_URL, REDIS_URL, AMQP_URL must be set"
            );
            println!("SKIPPED: needs POSTGRES_URL, REDIS_URL and AMQP_URL (cargo xtask services up)");
            return None;
        };
        let servers = Self {
            postgres,
            redis,
            amqp,
            name: format!("assign_{}", uuid::Uuid::new_v4().simple()),
            runtime: Runtime::new().expect("a runtime"),
        };
        servers
            .psql(&format!("CREATE SCHEMA {}", servers.name))
            .expect("a schema");
        servers.with_queue("out", async |_| {});
        Some(servers)
    }

    pub(crate) fn config(&self) -> String {
        let Self {
            postgres,
            redis,
            amqp,
            name,
            ..
        } = self;
        format!(
            "[assign]\nqueue = \"{name}.out\"\nanswers = \"{name}.in\"\nworkers = 8\namqp_url = \"{amqp}\"\n\
             redis_url = \"{redis}\"\nredis_prefix = \"{name}.\"\n\
             postgres_url = \"{postgres}?options=-csearch_path%3D{name}\"\n"
        )
    }

    /// Posts messages, confirmed.
    pub(crate) fn post(&self, messages: Vec<String>) {
        let queue = format!("{}.out", self.name);
        self.with_queue("out", async move |channel: &Channel| {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .expect("confirms");
            for message in &messages {
                let persistent = BasicProperties::default().with_delivery_mode(2);
                let name = queue.as_str().into();
                let options = BasicPublishOptions::default();
                let sent = channel
                    .basic_publish("".into(), name, options, message.as_bytes(), persistent)
                    .await;
                assert!(sent.expect("sent").await.expect("confirmed").is_ack());
            }
        });
    }

    /// The statuses of each event, in order and without repetitions.
    pub(crate) fn answers(&self) -> BTreeMap<String, Vec<String>> {
        let queue = format!("{}.in", self.name);
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.with_queue("in", async |channel: &Channel| {
            let options = BasicGetOptions::default();
            while let Some(message) = channel
                .basic_get(queue.as_str().into(), options)
                .await
                .expect("asked")
            {
                let answer: Value = serde_json::from_slice(&message.delivery.data).expect("JSON");
                let text = |name: &str| answer[name].as_str().expect("text").to_owned();
                let statuses = answers.entry(text("event_id")).or_default();
                if !statuses.contains(&text("status")) {
                    statuses.push(text("status"));
                }
                message
                    .delivery
                    .acker
                    .ack(BasicAckOptions::default())
                    .await
                    .expect("acknowledged");
            }
        });
        answers
    }

    /// Assignments that are open.
    pub(crate) fn open(&self) -> Vec<String> {
        let rows = self.psql("SELECT assignment_id FROM assignments WHERE status = 'open'");
        rows.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The one number that a statement gives; `None` while there are no tables.
    pub(crate) fn number(&self, statement: &str) -> Option<i64> {
        self.psql(statement)?.trim().parse().ok()
    }

    /// Removes what is this test's own.
    pub(crate) fn remove(&self) {
        self.psql(&format!("DROP SCHEMA {} CASCADE", self.name));
        for end in ["out", "in"] {
            let queue = format!("{}.{end}", self.name);
            self.with_queue(end, async |channel: &Channel| {
                let options = QueueDeleteOptions::default();
                channel
                    .queue_delete(queue.as_str().into(), options)
                    .await
                    .expect("deleted");
            });
        }
        self.runtime.block_on(async {
            let client = redis::Client::open(self.redis.as_str()).expect("a URL");
            let mut redis = client.get_multiplexed_async_connection().await.expect("redis");
            let keys = format!("{}.*", self.name);
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg(keys)
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
        });
    }

    fn with_queue(&self, end: &str, work: impl AsyncFnOnce(&Channel)) {
        let queue = format!("{}.{end}", self.name);
        self.runtime.block_on(async {
            let connection = Connection::connect(&self.amqp, ConnectionProperties::default());
            let connection = tokio::time::timeout(Duration::from_secs(20), connection).await;
            let connection = connection.expect("in time").expect("rabbitmq");
            let channel = connection.create_channel().await.expect("a channel");
            let durable = QueueDeclareOptions::durable();
            channel
                .queue_declare(queue.as_str().into(), durable, FieldTable::default())
                .await
                .expect("a queue");
            work(&channel).await;
        });
    }

    fn psql(&self, statement: &str) -> Option<String> {
        let schema = format!("SET search_path TO {}", self.name);
        let output = Command::new("psql")
            .args([
                self.postgres.as_str(),
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                &schema,
                "-c",
                statement,
            ])
            .output()
            .expect("psql");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
