//! What the topics of a journal should be, and what is otherwise.
//!
//! What differs is named, with who can mend it, and never changed: a topic may be other people's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::{RecordFormat, StreamDeclaration};
use rdkafka::error::RDKafkaErrorCode;

use super::TopicProblem;
use super::describe::Found;
use super::error::describe;
use super::options::KafkaOptions;
use super::topic::Topic;

/// Largest message that a topic of JSON events must take: Kafka's own default is a little more.
const JSON_MESSAGE_BYTES: usize = 1 << 20;

/// What a topic should be.
pub(super) struct Wanted {
    pub(super) declaration: Arc<StreamDeclaration>,
    pub(super) topic: String,
}

impl Wanted {
    pub(super) fn of(declaration: &Arc<StreamDeclaration>, options: &KafkaOptions) -> Self {
        let own = || format!("{}{}", options.topic_prefix, declaration.name);
        Self {
            topic: declaration.topic.clone().unwrap_or_else(own),
            declaration: Arc::clone(declaration),
        }
    }

    /// Whether other programs fill it, so that how many partitions it has and how long it keeps them is theirs.
    fn is_shared(&self) -> bool {
        self.declaration.topic.is_some() && self.declaration.format == RecordFormat::Json
    }

    /// How many partitions it shall have; 0 leaves it to the broker. The windows of a rollup are in one order.
    pub(super) fn partitions(&self, options: &KafkaOptions) -> u32 {
        if self.declaration.rollup.is_some() {
            1
        } else {
            options.partitions
        }
    }

    pub(super) fn into_topic(self, found: &Found) -> Topic {
        Topic::new(&self.declaration, self.topic, found)
    }

    /// What is wrong with the partitions and replicas of a topic.
    pub(super) fn check_found(&self, found: &Found, options: &KafkaOptions) -> Vec<TopicProblem> {
        let mut problems = Vec::new();
        let wanted = self.partitions(options);
        if !self.is_shared() && wanted != 0 && found.partitions != wanted {
            let remedy = if found.partitions < wanted {
                "configure what it has, or add partitions with `kafka-topics --alter`, after which equal keys go \
                 elsewhere than before"
            } else {
                "configure what it has: Kafka cannot take partitions away"
            };
            problems.push(self.problem("partitions", found.partitions, wanted, remedy));
        }
        if let Some(wanted) = options.replication
            && !self.is_shared()
            && found.replicas != usize::from(wanted)
        {
            let remedy = "configure what it has, or let the cluster's operator reassign its partitions";
            problems.push(self.problem("replication factor", found.replicas, wanted, remedy));
        }
        problems
    }

    /// What is wrong with the settings of a topic.
    pub(super) fn check_settings(
        &self,
        settings: &BTreeMap<String, String>,
        found: &Found,
        options: &KafkaOptions,
    ) -> Vec<TopicProblem> {
        let mut problems = Vec::new();
        let alter = |name: &str, value: &dyn std::fmt::Display| {
            format!(
                "let whoever owns it set `kafka-configs --alter --topic {} --add-config {name}={value}`, or configure \
                 what it has",
                self.topic
            )
        };
        let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
        let wanted = self.message_bytes(options) as i64;
        if let Some(bytes) = number("max.message.bytes")
            && bytes < wanted
        {
            let least = format!("at least {wanted}");
            problems.push(self.problem(
                "max.message.bytes",
                bytes,
                least,
                alter("max.message.bytes", &wanted),
            ));
        }
        if let Some(policy) = settings.get("cleanup.policy")
            && policy != "delete"
        {
            let remedy = "a compacted topic forgets events; use another topic for this stream";
            problems.push(self.problem("cleanup.policy", policy, "delete", remedy));
        }
        if let Some(retention) = options.retention
            && !self.is_shared()
        {
            let wanted = milliseconds(retention);
            if let Some(found) = number("retention.ms")
                && found != wanted
            {
                problems.push(self.problem("retention.ms", found, wanted, alter("retention.ms", &wanted)));
            }
        }
        if let Some(least) = number("min.insync.replicas") {
            let replicas = found.replicas as i64;
            if least > replicas {
                let most = format!("at most {replicas}, the replicas that it has");
                let remedy = alter("min.insync.replicas", &replicas);
                problems.push(self.problem("min.insync.replicas", least, most, remedy));
            } else if least == 1 && replicas > 1 {
                tracing::warn!(
                    topic = self.topic,
                    replicas,
                    "`min.insync.replicas` is 1: an event can be acknowledged that only one broker has"
                );
            }
        }
        problems
    }

    fn problem(
        &self,
        setting: &str,
        found: impl ToString,
        wanted: impl ToString,
        remedy: impl Into<String>,
    ) -> TopicProblem {
        TopicProblem {
            topic: self.topic.clone(),
            setting: setting.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_string(),
            remedy: remedy.into(),
        }
    }

    fn message_bytes(&self, options: &KafkaOptions) -> usize {
        match self.declaration.format {
            RecordFormat::Record => options.record_bytes_max,
            RecordFormat::Json => options.record_bytes_max.min(JSON_MESSAGE_BYTES),
        }
    }

    /// What is wrong with a topic that is not there and may not be made, or could not be.
    pub(super) fn missing(&self, why: Option<RDKafkaErrorCode>) -> TopicProblem {
        let remedy = match why {
            None => "make it with `kafka-topics --create`, or set `create_topics`".to_owned(),
            Some(code) => format!("the broker refused to make it: {}", describe(code)),
        };
        let wanted = format!("there, for stream `{}`", self.declaration.name);
        self.problem("topic", "missing", wanted, remedy)
    }
}

/// As Kafka's settings have a span of time.
pub(super) fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
