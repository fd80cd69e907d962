//! Settings of a journal on Kafka, and which of librdkafka's own properties may be set beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use event::limits::RECORD_BYTES_MAX;

use super::OpenError;

/// Room for Kafka's own framing of a record batch and for our headers, beyond the record's bytes.
pub(super) const FRAMING_BYTES: usize = 64 << 10;

/// Settings of a journal on Kafka.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Brokers to begin with, `host:port,host:port`; the others are found through them.
    pub brokers: String,
    /// Begins the name of every topic whose stream does not declare one. Default: `tidemill.`.
    pub topic_prefix: String,
    /// Partitions of each topic; 0 takes what a topic has, and lets the broker choose for a new one. Default: 0.
    pub partitions: u32,
    /// Replicas of each partition; the broker's own choice when absent.
    pub replication: Option<u16>,
    /// Largest record batch that each topic must take (`max.message.bytes`). Default: the largest record and room
    /// for Kafka's framing.
    pub record_bytes_max: usize,
    /// For how long the broker keeps records (`retention.ms`); the broker's own choice when absent, and then not
    /// checked.
    pub retention: Option<Duration>,
    /// Whether missing topics are made. Default: yes.
    pub create_topics: bool,
    /// What the broker has not confirmed after this time has failed. Default: 10 s. Minimum: 1 s.
    pub timeout: Duration,
    /// Most bytes that wait for the broker; beyond, appends fail with `QueueFull`. Default: 256 MiB.
    pub queue_bytes: usize,
    /// What this process calls itself. Default: `tidemill`.
    pub client_id: String,
    /// A member of a group that is silent for so long loses its partitions. Default: 6 s, the least that brokers
    /// allow by default.
    pub session_timeout: Duration,
    /// Anything else for librdkafka, by its own names.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// The defaults, with some brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic_prefix: "tidemill.".to_owned(),
            partitions: 0,
            replication: None,
            record_bytes_max: RECORD_BYTES_MAX + FRAMING_BYTES,
            retention: None,
            create_topics: true,
            timeout: Duration::from_secs(10),
            queue_bytes: 256 << 20,
            client_id: "tidemill".to_owned(),
            session_timeout: Duration::from_secs(6),
            properties: BTreeMap::new(),
        }
    }

    /// Refuses what would break a promise.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if self.timeout < Duration::from_secs(1) {
            return Err(OpenError::Option {
                name: "timeout",
                message: format!("{:?} is less than a second", self.timeout),
            });
        }
        if self.queue_bytes < self.record_bytes_max {
            return Err(OpenError::Option {
                name: "queue_bytes",
                message: format!(
                    "{} bytes do not hold a record of {}",
                    self.queue_bytes, self.record_bytes_max
                ),
            });
        }
        for name in self.properties.keys() {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == name) {
                return Err(OpenError::Property {
                    name: name.clone(),
                    message: (*reason).to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Values that are secrets, or may hold one, are not shown.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| {
            let (name, value): (&String, &String) = (name, value);
            let value = if is_secret(name) { "***" } else { value };
            (name.clone(), value.to_owned())
        };
        let properties: BTreeMap<_, _> = self.properties.iter().map(shown).collect();
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("retention", &self.retention)
            .field("create_topics", &self.create_topics)
            .field("timeout", &self.timeout)
            .field("queue_bytes", &self.queue_bytes)
            .field("client_id", &self.client_id)
            .field("session_timeout", &self.session_timeout)
            .field("properties", &properties)
            .finish()
    }
}

/// Whether the value of a property is, or may hold, a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let words = [
        "password",
        "secret",
        "token",
        "private",
        "passphrase",
        "oauthbearer",
    ];
    words.iter().any(|word| name.contains(word)) || name.ends_with(".pem")
}

const DURABLE: &str = "an acknowledgement means that all in-sync replicas have the record";
const OWN: &str = "a setting of its own says this";
const POSITIONS: &str = "positions come from the destinations alone";
const BOUNDED: &str = "what waits is bounded by a setting of its own";
const MEMBERS: &str = "members of a group must agree on it";

/// Properties of librdkafka that are not to be set, and why.
const REFUSED: &[(&str, &str)] = &[
    ("acks", DURABLE),
    ("request.required.acks", DURABLE),
    ("enable.idempotence", DURABLE),
    ("enable.gapless.guarantee", DURABLE),
    ("transactional.id", DURABLE),
    ("max.in.flight", DURABLE),
    ("max.in.flight.requests.per.connection", DURABLE),
    ("retries", DURABLE),
    ("message.send.max.retries", DURABLE),
    ("delivery.report.only.error", DURABLE),
    ("bootstrap.servers", OWN),
    ("metadata.broker.list", OWN),
    ("client.id", OWN),
    ("group.id", OWN),
    ("message.timeout.ms", OWN),
    ("delivery.timeout.ms", OWN),
    ("message.max.bytes", OWN),
    ("session.timeout.ms", OWN),
    ("queue.buffering.max.kbytes", BOUNDED),
    ("queue.buffering.max.messages", BOUNDED),
    ("auto.offset.reset", POSITIONS),
    ("enable.auto.commit", POSITIONS),
    ("auto.commit.enable", POSITIONS),
    ("auto.commit.interval.ms", POSITIONS),
    ("enable.auto.offset.store", POSITIONS),
    ("offset.store.method", POSITIONS),
    ("enable.partition.eof", POSITIONS),
    ("isolation.level", POSITIONS),
    ("check.crcs", "a damaged record must not pass for a whole one"),
    (
        "allow.auto.create.topics",
        "topics are made with the settings that were asked for, or not at all",
    ),
    ("group.instance.id", MEMBERS),
    ("group.protocol", MEMBERS),
    ("heartbeat.interval.ms", MEMBERS),
    ("max.poll.interval.ms", MEMBERS),
    ("partition.assignment.strategy", MEMBERS),
    ("log.queue", "what librdkafka says is logged by this program"),
    ("log_level", "what librdkafka says is logged by this program"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut options = KafkaOptions::new("127.0.0.1:9092");
        for (name, value) in [
            ("sasl.password", "hidden1"),
            ("ssl.key.password", "hidden2"),
            ("ssl.key.pem", "hidden3"),
            ("sasl.oauthbearer.client.secret", "hidden4"),
            ("sasl.username", "shown"),
        ] {
            options.properties.insert(name.to_owned(), value.to_owned());
        }
        let text = format!("{options:?}");
        assert!(text.contains("shown") && text.contains("sasl.password"));
        assert!(!text.contains("hidden"), "{text}");
    }

    #[test]
    fn what_would_break_a_promise_is_refused_and_says_why() {
        for name in [
            "acks",
            "enable.idempotence",
            "auto.offset.reset",
            "message.timeout.ms",
        ] {
            let mut options = KafkaOptions::new("127.0.0.1:9092");
            options.properties.insert(name.to_owned(), "1".to_owned());
            let error = options.check().expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(KafkaOptions::new("127.0.0.1:9092").check().is_ok());
    }
}
