//! A member of a consumer group: which partitions this process works on, and how far it says that it is.
//!
//! It takes part in the group and reads nothing. A thread of its own serves it, so it is never late for the group
//! because a sink is busy. Only what really moves is published: a rebalance alone interrupts nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::{Partition, Position, StreamName};
use futures::future::{BoxFuture, FutureExt};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::watch;

use super::client::{Listener, create, log};
use super::error::read_error;
use super::topic::Topic;
use super::{Inner, lock};
use crate::{Assignment, GroupMember, ReadError};

/// For how long the thread waits for events at a time.
const TURN: Duration = Duration::from_millis(100);
/// How often positions are published.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

type Client = BaseConsumer<Membership>;

/// A member of a group on Kafka.
pub(super) struct KafkaMember {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What the member and its thread share.
struct State {
    group: String,
    /// What the group shares, by topic.
    streams: BTreeMap<String, StreamName>,
    /// The topics of all streams: a position may be one of a stream that the group does not share.
    topics: BTreeMap<StreamName, String>,
    assigned: watch::Sender<Assignment>,
    /// Positions that are not published yet.
    positions: Mutex<BTreeMap<(StreamName, Partition), Position>>,
    leaving: AtomicBool,
}

impl KafkaMember {
    pub(super) fn join(inner: &Inner, group: &str, topics: &[&Arc<Topic>]) -> Result<Self, ReadError> {
        let state = Arc::new(State {
            group: group.to_owned(),
            streams: topics
                .iter()
                .map(|topic| (topic.name.clone(), topic.stream.clone()))
                .collect(),
            topics: inner
                .topics
                .iter()
                .map(|(stream, topic)| (stream.clone(), topic.name.clone()))
                .collect(),
            assigned: watch::Sender::new(Arc::default()),
            positions: Mutex::default(),
            leaving: AtomicBool::new(false),
        });
        let unavailable = |message: String| ReadError::Unavailable { message };
        let membership = Membership {
            listener: Listener {
                voice: Arc::clone(&inner.voice),
            },
            state: Arc::clone(&state),
        };
        let client: Client = create(&inner.options.joining(group), membership)
            .map_err(|error| unavailable(error.to_string()))?;
        let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
        client.subscribe(&names).map_err(|error| read_error(&error))?;
        let served = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(move || serve(&served, client));
        Ok(Self {
            state,
            thread: Some(thread.map_err(|error| unavailable(error.to_string()))?),
        })
    }
}

impl GroupMember for KafkaMember {
    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.state.assigned.subscribe()
    }

    fn committed(&self, stream: &StreamName, position: Position) {
        let key = (stream.clone(), position.partition);
        lock(&self.state.positions).insert(key, position);
    }

    fn leave(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        self.state.leaving.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        async move {
            let Some(thread) = thread else { return };
            let left = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::error!("the thread of a group's member panicked");
            }
        }
        .boxed()
    }
}

impl Drop for KafkaMember {
    /// The thread sees it, leaves the group and ends; nobody waits for it.
    fn drop(&mut self) {
        self.state.leaving.store(true, Ordering::Relaxed);
    }
}

/// Serves a member until it leaves.
fn serve(state: &State, client: Client) {
    let mut committed_at = Instant::now();
    while !state.leaving.load(Ordering::Relaxed) {
        match client.poll(TURN) {
            // Assigned partitions are paused, so hardly any come, and none is wanted.
            None | Some(Ok(_)) => {}
            Some(Err(error)) => {
                heard(state, &error);
            }
        }
        if committed_at.elapsed() >= COMMIT_INTERVAL {
            committed_at = Instant::now();
            state.commit(&client, CommitMode::Async);
        }
    }
    state.commit(&client, CommitMode::Sync);
    state.publish(BTreeSet::new());
    // Leaves the group.
    drop(client);
}

/// What the group says against this member, which somebody has to mend, is warned of; the rest is over soon.
fn heard(state: &State, error: &KafkaError) {
    let group = &state.group;
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::PollExceeded) => state.publish(BTreeSet::new()),
        Some(
            RDKafkaErrorCode::InvalidSessionTimeout
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupMaxSizeReached,
        ) => tracing::warn!(%error, group, "the group does not take this process as a member"),
        _ => tracing::debug!(%error, group, "group member"),
    }
}

impl State {
    fn publish(&self, partitions: BTreeSet<(StreamName, Partition)>) {
        let changed = self.assigned.send_if_modified(|before| {
            let changed = **before != partitions;
            *before = Arc::new(partitions.clone());
            changed
        });
        if changed {
            let group = &self.group;
            tracing::info!(group, partitions = partitions.len(), "partitions of this process");
            metrics::gauge!("tidemill_group_partitions", "group" => group.clone())
                .set(partitions.len() as f64);
        }
    }

    /// The partitions of a list that are of streams that this process knows.
    fn shares(&self, list: &TopicPartitionList) -> BTreeSet<(StreamName, Partition)> {
        let share = |element: &TopicPartitionListElem<'_>| {
            let stream = self.streams.get(element.topic())?;
            let partition = u32::try_from(element.partition()).ok()?;
            Some((stream.clone(), Partition(partition)))
        };
        list.elements().iter().filter_map(share).collect()
    }

    /// Publishes the newest positions of partitions that are still this member's, or that the group does not share.
    fn commit(&self, client: &Client, mode: CommitMode) {
        let positions = std::mem::take(&mut *lock(&self.positions));
        let assigned = Arc::clone(&self.assigned.borrow());
        let mut list = TopicPartitionList::new();
        for (key, position) in positions {
            let Some(topic) = self.topics.get(&key.0) else {
                continue;
            };
            if self.streams.contains_key(topic) && !assigned.contains(&key) {
                continue;
            }
            let offset = rdkafka::Offset::Offset(i64::try_from(position.offset.0).unwrap_or(i64::MAX));
            if let Err(error) = list.add_partition_offset(topic, position.partition.0 as i32, offset) {
                tracing::debug!(%error, topic, "a position is not published");
            }
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = client.commit(&list, mode) {
            tracing::debug!(%error, group = self.group, "positions are not published");
        }
    }
}

/// Takes what the group decides.
struct Membership {
    listener: Listener,
    state: Arc<State>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.heard(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, client: &Client, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let changed = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // At the end and paused: it is assigned so that the group sees it as taken, not to be read.
            let at_end = partitions.set_all_offsets(rdkafka::Offset::End);
            let taken = at_end.and_then(|()| client.assign(partitions));
            let paused = taken.and_then(|()| client.pause(partitions));
            self.state.publish(self.state.shares(partitions));
            paused
        } else {
            // A rebalance takes everything and gives most of it back a moment later. Who works on a partition goes on
            // until it is known to be another one's: it can do no harm, and has nothing to begin anew.
            if client.assignment_lost() {
                self.state.publish(BTreeSet::new());
            }
            self.state.commit(client, CommitMode::Async);
            client.unassign()
        };
        if let Err(error) = changed {
            tracing::warn!(%error, group = self.state.group, "rebalance");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, group = self.state.group, "positions are not published");
        }
    }
}
