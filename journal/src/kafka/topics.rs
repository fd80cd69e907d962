//! The topics of a journal: found or made when it is opened, and checked against what was asked for.
//!
//! What differs is named, with who can mend it, and never changed: a topic may be other people's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::{Offset, Partition, Position, RecordFormat, StreamDeclaration, StreamName};
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;

use super::client::{Listener, create};
use super::describe::{Found, TopicId};
use super::error::describe;
use super::options::KafkaOptions;
use super::watermarks::Starts;
use super::{OpenError, TopicProblem, lock};
use crate::{ReadError, Replaced};

/// Largest message that a topic of JSON events must take: Kafka's own default is a little more.
const JSON_MESSAGE_BYTES: usize = 1 << 20;

/// A stream's topic, as it was when the journal was opened.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) stream: StreamName,
    pub(super) name: String,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    pub(super) format: RecordFormat,
    /// What its events look like; the key of messages that are JSON.
    pub(super) declaration: Arc<StreamDeclaration>,
    /// For each partition the highest end that is known of it.
    ends: Vec<AtomicU64>,
    /// For each partition the end after the newest delivery report.
    reports: Vec<AtomicU64>,
    /// Where its partitions begin, as it was read last.
    pub(super) starts: Starts,
    state: Mutex<TopicState>,
    /// Whether the newest look did not find it.
    pub(super) missed: AtomicBool,
}

/// Whether a topic is the one that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicState {
    Same,
    /// Gone, or of another id.
    Replaced(Option<String>),
}

impl Topic {
    fn new(declaration: &Arc<StreamDeclaration>, name: String, found: &Found) -> Self {
        Self {
            stream: declaration.name.clone(),
            name,
            id: found.id,
            partitions: found.partitions,
            format: declaration.format,
            declaration: Arc::clone(declaration),
            ends: (0..found.partitions).map(|_| AtomicU64::new(0)).collect(),
            reports: (0..found.partitions).map(|_| AtomicU64::new(0)).collect(),
            starts: Starts::default(),
            state: Mutex::new(TopicState::Same),
            missed: AtomicBool::new(false),
        }
    }

    /// Says that it is not the topic that was opened, if so.
    pub(super) fn check(&self) -> Result<(), Replaced> {
        match &*lock(&self.state) {
            TopicState::Same => Ok(()),
            TopicState::Replaced(found) => Err(self.replaced(found.clone())),
        }
    }

    fn replaced(&self, found: Option<String>) -> Replaced {
        Replaced {
            stream: self.stream.clone(),
            topic: self.name.clone(),
            opened: self.id.to_string(),
            found,
        }
    }

    pub(super) fn set_state(&self, state: TopicState) -> TopicState {
        std::mem::replace(&mut *lock(&self.state), state)
    }

    pub(super) fn check_partition(&self, asked: Position) -> Result<(), ReadError> {
        if asked.partition.0 < self.partitions {
            return Ok(());
        }
        Err(ReadError::NoPartition {
            asked,
            partitions: self.partitions,
        })
    }

    /// The highest end that is known of a partition: everything below was there once.
    pub(super) fn known_end(&self, partition: Partition) -> Offset {
        let end = self.ends.get(partition.0 as usize);
        Offset(end.map_or(0, |end| end.load(Ordering::Acquire)))
    }

    /// Takes in an end; gives what was known before.
    pub(super) fn learn_end(&self, partition: Partition, end: Offset) -> Offset {
        let known = self.ends.get(partition.0 as usize);
        Offset(known.map_or(0, |known| known.fetch_max(end.0, Ordering::AcqRel)))
    }

    /// Takes in the end after a delivery report; gives whether it lies above those before.
    pub(super) fn reported(&self, partition: Partition, end: Offset) -> bool {
        let before = self.reports.get(partition.0 as usize);
        before.is_none_or(|before| before.fetch_max(end.0, Ordering::AcqRel) < end.0)
    }

    pub(super) fn every_partition(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }
}

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

    pub(super) fn into_topic(self, found: &Found) -> Topic {
        Topic::new(&self.declaration, self.topic, found)
    }

    /// What is wrong with the partitions and replicas of a topic.
    pub(super) fn check_found(&self, found: &Found, options: &KafkaOptions) -> Vec<TopicProblem> {
        let mut problems = Vec::new();
        let wanted = options.partitions;
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
    fn check_settings(
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

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Makes topics and reads their settings; lives while a journal is opened.
pub(super) struct Administrator {
    client: AdminClient<Listener>,
    timeout: Duration,
}

impl Administrator {
    pub(super) fn new(options: &KafkaOptions, listener: Listener) -> Result<Self, OpenError> {
        Ok(Self {
            client: create(&options.administrating(), listener)?,
            timeout: options.timeout,
        })
    }

    fn admin_options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    /// Makes missing topics; one that somebody else has just made is as good.
    pub(super) async fn create(
        &self,
        missing: &[&Wanted],
        options: &KafkaOptions,
    ) -> Result<Vec<TopicProblem>, OpenError> {
        let bytes = options.record_bytes_max.to_string();
        let retention = options.retention.map(|span| milliseconds(span).to_string());
        let partitions = i32::try_from(options.partitions).unwrap_or(i32::MAX);
        let new: Vec<_> = missing
            .iter()
            .map(|wanted| {
                let replication = TopicReplication::Fixed(options.replication.map_or(-1, i32::from));
                // -1 leaves it to the broker.
                let partitions = if partitions == 0 { -1 } else { partitions };
                let topic = NewTopic::new(&wanted.topic, partitions, replication)
                    .set("cleanup.policy", "delete")
                    .set("max.message.bytes", &bytes);
                match &retention {
                    Some(retention) => topic.set("retention.ms", retention),
                    None => topic,
                }
            })
            .collect();
        let created = self.client.create_topics(&new, &self.admin_options()).await;
        let created = created.map_err(|error| unreachable(options, &error))?;
        let mut problems = Vec::new();
        for outcome in created {
            match outcome {
                Ok(topic) => tracing::info!(topic, "made a kafka topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    let wanted = missing.iter().find(|wanted| wanted.topic == topic);
                    problems.extend(wanted.map(|wanted| wanted.missing(Some(code))));
                }
            }
        }
        Ok(problems)
    }

    /// Compares the settings of topics with what was asked for.
    pub(super) async fn check_settings(
        &self,
        topics: &[(&Wanted, &Found)],
        options: &KafkaOptions,
    ) -> Result<Vec<TopicProblem>, OpenError> {
        let resources: Vec<_> = topics
            .iter()
            .map(|(wanted, _)| ResourceSpecifier::Topic(&wanted.topic))
            .collect();
        let described = self
            .client
            .describe_configs(&resources, &self.admin_options())
            .await;
        let described = described.map_err(|error| unreachable(options, &error))?;
        let mut problems = Vec::new();
        for described in described {
            match described {
                Ok(resource) => {
                    let OwnedResourceSpecifier::Topic(name) = &resource.specifier else {
                        continue;
                    };
                    let Some((wanted, found)) = topics.iter().find(|(wanted, _)| wanted.topic == *name)
                    else {
                        continue;
                    };
                    let settings = resource.entries.into_iter();
                    let settings = settings
                        .filter_map(|entry| Some((entry.name, entry.value?)))
                        .collect();
                    problems.extend(wanted.check_settings(&settings, found, options));
                }
                Err(code) => {
                    let code = describe(code);
                    tracing::warn!(
                        code,
                        "the settings of a topic cannot be read, so they are not checked"
                    );
                }
            }
        }
        Ok(problems)
    }
}

fn unreachable(options: &KafkaOptions, error: &rdkafka::error::KafkaError) -> OpenError {
    OpenError::Unreachable {
        brokers: options.brokers.clone(),
        waited: options.timeout,
        message: error.to_string(),
    }
}
