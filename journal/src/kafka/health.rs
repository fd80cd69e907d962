//! Whether the brokers answer and the topics are still those that were opened: one thread looks, everybody else
//! reads what it saw.
//!
//! A topic that was deleted and made anew keeps its name but not its id. Its offsets begin again, so every
//! position that somebody holds means something else there. That is never passed over: from the moment it is seen,
//! everything that concerns the stream fails and says so, until a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::Inner;
use super::describe::describe_topics;
use super::error::describe;
use super::topic::{Topic, TopicState};

/// How often the topics are looked at while all is well.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often while no broker answers.
const INTERVAL_AWAY: Duration = Duration::from_millis(300);
/// What has not been answered after this long is no answer.
const ANSWER: Duration = Duration::from_secs(3);
/// For how long the thread waits for events of its client at a time.
const TURN: Duration = Duration::from_millis(100);

/// Whether the journal can be written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaHealth {
    /// A broker answered, and the topics are those that were opened.
    Reachable,
    /// No broker answers; this goes away by itself.
    Unreachable {
        /// What the last attempt said.
        message: String,
        /// Since when.
        since: Instant,
    },
    /// A topic is gone or another one; what concerns its stream fails until a restart.
    Replaced {
        /// The topic and both ids.
        message: String,
    },
}

impl KafkaHealth {
    /// What is wrong, when no broker has answered for so long: whoever asks need not wait for a timeout to hear it.
    pub(super) fn unreachable_for(&self, least: Duration) -> Option<String> {
        match self {
            Self::Unreachable { message, since } if since.elapsed() >= least => Some(message.clone()),
            Self::Unreachable { .. } | Self::Reachable | Self::Replaced { .. } => None,
        }
    }
}

/// Looks after the brokers until the journal is closed.
pub(super) fn watch(inner: &Arc<Inner>) {
    let mut next = Instant::now() + INTERVAL;
    while !inner.stopping.load(Ordering::Relaxed) {
        // Serves what the clients say, or it would pile up.
        serve(&inner.asking, TURN);
        inner.lanes.serve();
        if Instant::now() < next && !inner.voice.take_look_now() {
            continue;
        }
        look(inner);
        let reachable = !matches!(&*inner.health.borrow(), KafkaHealth::Unreachable { .. });
        next = Instant::now() + if reachable { INTERVAL } else { INTERVAL_AWAY };
    }
}

/// Serves the events of a client: what is logged, and errors.
pub(super) fn serve(consumer: &super::client::Consumer, wait: Duration) {
    let deadline = Instant::now() + wait;
    let mut empty = 0;
    for _ in 0..SERVED_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        // Without an assignment of its own it gives no messages, and errors went to the context. What was logged
        // looks like nothing, so nothing is believed only when it is seen again.
        match consumer.poll(left) {
            Some(_) => empty = 0,
            None if left.is_zero() => empty += 1,
            None => {}
        }
        if empty >= EMPTY_TRIES {
            break;
        }
    }
}

/// Most events that are served at a time; the rest waits for the next turn.
const SERVED_MAX: usize = 64;
/// How often nothing must come, one after the other, for there to be nothing.
const EMPTY_TRIES: u32 = 8;

/// Asks once for every topic and publishes what that shows.
pub(super) fn look(inner: &Inner) {
    let names: Vec<_> = inner.topics.values().map(|topic| topic.name.clone()).collect();
    let timeout = ANSWER.min(inner.options.timeout);
    let asked = if names.is_empty() {
        let answered = inner.asking.fetch_metadata(None, timeout);
        answered.map(|_| Vec::new()).map_err(|error| {
            let code = error.rdkafka_error_code();
            code.unwrap_or(RDKafkaErrorCode::AllBrokersDown)
        })
    } else {
        describe_topics(inner.asking.client(), &names, timeout, &inner.stopping)
    };
    if inner.stopping.load(Ordering::Relaxed) {
        return;
    }
    let health = match asked {
        Err(code) => {
            let said = describe(code);
            let message = match inner.voice.trouble() {
                Some(trouble) => format!("{said}: {trouble}"),
                None => said,
            };
            let since = Instant::now();
            KafkaHealth::Unreachable { message, since }
        }
        Ok(descriptions) => {
            inner.voice.forget_trouble();
            for description in descriptions {
                let topics = inner.topics.values();
                for topic in topics.filter(|topic| topic.name == description.name) {
                    match &description.found {
                        Ok(found) => topic.seen(Some(found)),
                        Err(RDKafkaErrorCode::UnknownTopicOrPartition) => topic.seen(None),
                        Err(error) => {
                            tracing::debug!(topic = topic.name, %error, "topic not described");
                        }
                    }
                }
            }
            let mut replaced = inner.topics.values().filter_map(|topic| topic.check().err());
            match replaced.next() {
                Some(replaced) => KafkaHealth::Replaced {
                    message: replaced.to_string(),
                },
                None => KafkaHealth::Reachable,
            }
        }
    };
    publish(inner, health);
}

fn publish(inner: &Inner, mut health: KafkaHealth) {
    metrics::gauge!("tidemill_journal_kafka_reachable").set(
        if matches!(health, KafkaHealth::Unreachable { .. }) {
            0.0
        } else {
            1.0
        },
    );
    inner.health.send_if_modified(|before| {
        let same_kind = std::mem::discriminant(before) == std::mem::discriminant(&health);
        if !same_kind {
            match &health {
                KafkaHealth::Reachable => tracing::info!("kafka answers again"),
                KafkaHealth::Unreachable { message, .. } => tracing::warn!(message, "kafka does not answer"),
                // Said by the topic itself.
                KafkaHealth::Replaced { .. } => {}
            }
        }
        if let (KafkaHealth::Unreachable { since, .. }, KafkaHealth::Unreachable { since: first, .. }) =
            (&mut health, &*before)
        {
            *since = *first;
        }
        *before = std::mem::replace(&mut health, KafkaHealth::Reachable);
        !same_kind
    });
}

impl Topic {
    /// Takes in what was seen of this topic: what is there, or that it is gone.
    fn seen(&self, found: Option<&super::describe::Found>) {
        if found.is_none() && !self.missed.swap(true, Ordering::Relaxed) {
            // A broker that has just started may not know of it yet: only what is missed twice is gone.
            return;
        }
        self.missed.store(found.is_none(), Ordering::Relaxed);
        let state = match found {
            Some(found) if found.id == self.id => TopicState::Same,
            Some(found) => TopicState::Replaced(Some(found.id.to_string())),
            None => TopicState::Replaced(None),
        };
        if let Some(found) = found
            && found.id == self.id
            && found.partitions != self.partitions
        {
            tracing::debug!(
                topic = self.name,
                partitions = found.partitions,
                opened = self.partitions,
                "the topic has more partitions than when it was opened; a restart takes them in"
            );
        }
        let before = self.set_state(state.clone());
        if before == TopicState::Same && before != state {
            metrics::counter!("tidemill_journal_topic_replaced_total", "topic" => self.name.clone())
                .increment(1);
            if let Err(replaced) = self.check() {
                tracing::error!(%replaced, "a topic is not the one that was opened");
            }
        }
    }
}
