//! PostgreSQL through `psql`, RabbitMQ through its protocol, under names of one test's own.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::process::Command;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::runtime::Runtime;

/// A variable, or `None` with a loud word when the test is to be left out.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).map(|value| value.into_string().expect("UTF-8"));
    if value.is_none() {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
            "{name} must be set"
        );
        println!("SKIPPED: needs {name} (cargo xtask services up)");
    }
    value
}

/// A database of one test's own.
pub(crate) struct Postgres {
    pub(crate) url: String,
    pub(crate) name: String,
    base: String,
}

impl Postgres {
    pub(crate) fn find() -> Option<Self> {
        let base = variable("POSTGRES_URL")?;
        let name = format!("tidemill_{}", uuid::Uuid::new_v4().simple());
        psql(&base, &format!("CREATE DATABASE {name}"));
        let mut url = url::Url::parse(&base).expect("a URL");
        url.set_path(&name);
        Some(Self {
            url: url.into(),
            name,
            base,
        })
    }

    /// The one value that a statement gives.
    pub(crate) fn ask(&self, statement: &str) -> String {
        psql(&self.url, statement).trim_end().to_owned()
    }

    pub(crate) fn drop_database(&self) {
        psql(&self.base, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn psql(url: &str, statement: &str) -> String {
    let output = Command::new("psql")
        .args([url, "-X", "-q", "-At", "-c", statement])
        .output()
        .expect("psql");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The shared broker.
pub(crate) struct Broker {
    pub(crate) url: String,
    runtime: Runtime,
    connection: Connection,
}

impl Broker {
    pub(crate) fn find() -> Option<Self> {
        let url = variable("AMQP_URL")?;
        let runtime = Runtime::new().expect("a runtime");
        let connection = runtime.block_on(Connection::connect(&url, ConnectionProperties::default()));
        let connection = connection.expect("the broker answers");
        Some(Self {
            url,
            runtime,
            connection,
        })
    }

    fn on_channel<T>(&self, work: impl AsyncFnOnce(Channel) -> T) -> T {
        self.runtime.block_on(async {
            let channel = self.connection.create_channel().await.expect("a channel");
            work(channel).await
        })
    }

    /// Messages that wait in a queue; `None` when there is none.
    pub(crate) fn waiting(&self, queue: &str) -> Option<u32> {
        self.on_channel(async |channel| {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let found = channel
                .queue_declare(queue.into(), passive, FieldTable::default())
                .await;
            Some(found.ok()?.message_count())
        })
    }

    /// Takes every message: ids and bodies.
    pub(crate) fn drain(&self, queue: &str) -> Vec<(String, serde_json::Value)> {
        self.on_channel(async |channel| {
            let mut found = Vec::new();
            while let Some(message) = channel
                .basic_get(queue.into(), BasicGetOptions::default())
                .await
                .expect("a queue")
            {
                message
                    .ack(BasicAckOptions::default())
                    .await
                    .expect("acknowledged");
                let id = message
                    .properties
                    .message_id()
                    .clone()
                    .expect("an id")
                    .to_string();
                found.push((id, serde_json::from_slice(&message.data).expect("JSON")));
            }
            found
        })
    }

    pub(crate) fn send(&self, queue: &str, body: &str) {
        self.on_channel(async |channel| {
            let properties = BasicProperties::default();
            let options = BasicPublishOptions::default();
            let sent = channel
                .basic_publish("".into(), queue.into(), options, body.as_bytes(), properties)
                .await;
            sent.expect("published").await.expect("taken");
        });
    }

    pub(crate) fn delete(&self, queue: &str) {
        self.on_channel(async |channel| {
            // It may not be there.
            let _ = channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await;
        });
    }
}
