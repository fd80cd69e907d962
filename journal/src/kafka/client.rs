//! librdkafka's clients: how each kind is configured, and what becomes of what they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::error::client_error;
use super::options::KafkaOptions;
use super::{OpenError, lock};

/// What librdkafka says about its connections, shared by all clients of one journal.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// The newest trouble with a broker, for errors that only know that nobody answered.
    trouble: std::sync::Mutex<Option<String>>,
    /// Set when all connections are lost: whoever watches the brokers should look now.
    look_now: AtomicBool,
}

impl Voice {
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(super) fn forget_trouble(&self) {
        *lock(&self.trouble) = None;
    }

    pub(super) fn ask_to_look(&self) {
        self.look_now.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_look_now(&self) -> bool {
        self.look_now.swap(false, Ordering::Relaxed)
    }
}

/// The context of clients that only ask and read.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) voice: Arc<Voice>,
}

impl Listener {
    pub(super) fn heard(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // Not an error: a reader has read everything.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => self.voice.ask_to_look(),
            _ => {
                tracing::debug!(%error, reason, "kafka client");
                *lock(&self.voice.trouble) = Some(reason.to_owned());
            }
        }
    }
}

/// Reconnecting is librdkafka's affair and goes to the debug log; that brokers are away is logged once, by whoever
/// watches them.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, message, "librdkafka");
        }
        _ => tracing::debug!(facility, message, "librdkafka"),
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard(&error, reason);
    }
}

impl ConsumerContext for Listener {}

/// A consumer that is assigned by hand, or only asks.
pub(super) type Consumer = BaseConsumer<Listener>;

/// Makes a client.
pub(super) fn create<T, C>(config: &ClientConfig, context: C) -> Result<T, OpenError>
where
    T: FromClientConfigAndContext<C>,
    C: ClientContext,
{
    config.create_with_context(context).map_err(client_error)
}

impl KafkaOptions {
    fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", &self.client_id);
        // After an outage everything resumes within a second or two.
        config.set("reconnect.backoff.max.ms", "1000");
        // A request to a broker that has stopped answering does not hold the connection for a minute.
        config.set("socket.timeout.ms", "10000");
        config.set("socket.connection.setup.timeout.ms", "5000");
        config.set("socket.keepalive.enable", "true");
        config
    }

    fn with_properties(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// For questions: watermarks, metadata, topics.
    pub(super) fn asking(&self) -> ClientConfig {
        let mut config = self.with_properties(self.common());
        config.set("allow.auto.create.topics", "false");
        // Ends are those up to which a reader gets.
        config.set("isolation.level", "read_committed");
        config
    }

    /// For topics: only to make and describe them.
    pub(super) fn administrating(&self) -> ClientConfig {
        let mut config = self.with_properties(self.common());
        config.set("allow.auto.create.topics", "false");
        config
    }

    pub(super) fn producing(&self) -> ClientConfig {
        let mut config = self.common();
        // A batch leaves as soon as the connection is free: our records are batches already, and small requests
        // were merged before.
        config.set("linger.ms", "0");
        let mut config = self.with_properties(config);
        config.set("acks", "all");
        config.set("enable.idempotence", "true");
        config.set("allow.auto.create.topics", "false");
        config.set("message.timeout.ms", self.timeout.as_millis().to_string());
        config.set("message.max.bytes", self.record_bytes_max.to_string());
        // What waits is counted by the bytes before it gets here (`Room`); this only must not be less.
        config.set("queue.buffering.max.kbytes", (i32::MAX).to_string());
        config.set("queue.buffering.max.messages", "0");
        config
    }

    /// For reading partitions from given offsets on.
    pub(super) fn reading(&self) -> ClientConfig {
        let mut config = self.common();
        // A partition that was full, or is new to a client that waits for others, is asked for soon.
        config.set("fetch.queue.backoff.ms", "5");
        config.set("fetch.error.backoff.ms", "100");
        config.set("fetch.wait.max.ms", "50");
        config.set("fetch.message.max.bytes", (4 << 20).to_string());
        config.set("queued.max.messages.kbytes", (16 << 10).to_string());
        let mut config = self.with_properties(config);
        // librdkafka assigns only to clients that name a group; nothing is ever stored for it.
        config.set("group.id", format!("{}.reader", self.client_id));
        config.set("allow.auto.create.topics", "false");
        config.set("auto.offset.reset", "error");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed");
        config.set("check.crcs", "true");
        config
    }

    /// For a member of a group, which reads nothing.
    pub(super) fn joining(&self, group: &str) -> ClientConfig {
        let mut config = self.with_properties(self.common());
        let session = self.session_timeout.as_millis();
        config.set("group.id", group);
        config.set("allow.auto.create.topics", "false");
        config.set("auto.offset.reset", "latest");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        // Deals the partitions of each topic out one after the other, so that a busy stream is everybody's. The sticky
        // ones balance the number of partitions only: whoever was there first keeps all of some topics.
        config.set("partition.assignment.strategy", "roundrobin");
        config.set("session.timeout.ms", session.to_string());
        config.set("heartbeat.interval.ms", (session / 3).to_string());
        // It is polled by a thread of its own ten times a second. A group also waits for so long for members that it
        // remembers and nobody else does, as after a broker's end in the middle of their joining.
        config.set("max.poll.interval.ms", session.max(10_000).to_string());
        config
    }
}
