//! Where partitions begin and end: one question to each broker for all partitions of a stream.
//!
//! The end is the one up to which a reader gets, so it is never below what was acknowledged, as long as nobody has a
//! transaction open in the topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use event::{Offset, Partition, Position};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use tokio::time::sleep;

use super::client::{Consumer, Listener, create};
use super::error::{describe, read_error};
use super::topic::Topic;
use super::{Inner, lock};
use crate::ReadError;

/// For how long a beginning that was read is good enough to open a reader by. It only rises, and a reader that
/// stands below it says so when it reads.
const START_AGE_MAX: Duration = Duration::from_secs(1);

/// How long until somebody asks again who leads a partition.
const MOVING: Duration = Duration::from_millis(50);
/// For how long no broker answers until a question is not even asked.
const AWAY: Duration = Duration::from_secs(2);

/// Which end of a partition is asked for.
#[derive(Clone, Copy, Debug)]
enum Side {
    Start,
    End,
}

/// The beginnings that were read last.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<Option<(Instant, BTreeMap<Partition, Offset>)>>);

impl Starts {
    fn fresh(&self, partition: Partition) -> Option<Offset> {
        let read = lock(&self.0);
        let (at, starts) = read.as_ref()?;
        (at.elapsed() < START_AGE_MAX).then(|| starts.get(&partition).copied())?
    }
}

/// The ends of all partitions.
pub(super) async fn ends(inner: &Arc<Inner>, topic: &Arc<Topic>) -> Result<Vec<Position>, ReadError> {
    let ends = ask(inner, topic, Side::End).await?;
    for end in &ends {
        if topic.learn_end(end.partition, end.offset) > end.offset {
            // What was there is not there any more: a topic made anew, or a replica that never had it.
            inner.voice.ask_to_look();
        }
    }
    Ok(ends)
}

/// The beginnings of all partitions.
pub(super) async fn starts(inner: &Arc<Inner>, topic: &Arc<Topic>) -> Result<Vec<Position>, ReadError> {
    let asked = Instant::now();
    let starts = ask(inner, topic, Side::Start).await?;
    let by_partition = starts.iter().map(|start| (start.partition, start.offset));
    *lock(&topic.starts.0) = Some((asked, by_partition.collect()));
    Ok(starts)
}

/// How far a group has said that it is.
pub(super) async fn of_group(
    inner: &Arc<Inner>,
    topic: &Arc<Topic>,
    group: &str,
) -> Result<Vec<Position>, ReadError> {
    let (asked, topic, group) = (Arc::clone(inner), Arc::clone(topic), group.to_owned());
    let asking = move || {
        let listener = Listener {
            voice: Arc::clone(&asked.voice),
        };
        // A client of its own, which is no member: groups are asked about once in a while.
        let client: Consumer =
            create(&asked.options.joining(&group), listener).map_err(|error| ReadError::Unavailable {
                message: error.to_string(),
            })?;
        let mut partitions = TopicPartitionList::with_capacity(topic.partitions as usize);
        for partition in topic.every_partition() {
            partitions.add_partition(&topic.name, partition.0 as i32);
        }
        let found = client.committed_offsets(partitions, asked.options.timeout);
        let found = found.map_err(|error| read_error(&error))?;
        let position = |element: &TopicPartitionListElem<'_>| {
            let rdkafka::Offset::Offset(offset) = element.offset() else {
                return None;
            };
            let partition = Partition(u32::try_from(element.partition()).ok()?);
            Some(Position::new(partition, Offset(u64::try_from(offset).ok()?)))
        };
        Ok(found.elements().iter().filter_map(position).collect())
    };
    tokio::task::spawn_blocking(asking)
        .await
        .map_err(|_| ReadError::Closed)?
}

/// Says whether a reader can begin at a position, with a question only where what is known does not tell.
pub(super) async fn check_position(
    inner: &Arc<Inner>,
    topic: &Arc<Topic>,
    asked: Position,
) -> Result<(), ReadError> {
    topic.check_partition(asked)?;
    let start = match topic.starts.fresh(asked.partition) {
        Some(start) => start,
        None => of(&starts(inner, topic).await?, asked.partition),
    };
    if asked.offset < start {
        return Err(ReadError::Gone { asked, start });
    }
    if asked.offset > topic.known_end(asked.partition) {
        let end = of(&ends(inner, topic).await?, asked.partition);
        if asked.offset > end {
            return Err(ReadError::PastEnd { asked, end });
        }
    }
    Ok(())
}

/// Says why a position cannot be read, by what the broker says now; `Ok` when it can.
pub(super) async fn explain(
    inner: &Arc<Inner>,
    topic: &Arc<Topic>,
    asked: Position,
) -> Result<(), ReadError> {
    let start = of(&starts(inner, topic).await?, asked.partition);
    let end = of(&ends(inner, topic).await?, asked.partition);
    topic.check().map_err(ReadError::Replaced)?;
    if asked.offset < start {
        return Err(ReadError::Gone { asked, start });
    }
    if asked.offset > end {
        return Err(ReadError::PastEnd { asked, end });
    }
    Ok(())
}

fn of(positions: &[Position], partition: Partition) -> Offset {
    let found = positions.iter().find(|position| position.partition == partition);
    found.map_or(Offset(0), |position| position.offset)
}

async fn ask(inner: &Arc<Inner>, topic: &Arc<Topic>, side: Side) -> Result<Vec<Position>, ReadError> {
    if let Some(message) = inner.health.borrow().unreachable_for(AWAY) {
        // Whoever watches asks on; nobody else waits for a timeout.
        return Err(ReadError::Unavailable { message });
    }
    let timeout = inner.options.timeout;
    let turn = tokio::time::timeout(timeout, inner.questions.acquire()).await;
    let late = |_| ReadError::Unavailable {
        message: "too many questions wait for kafka".to_owned(),
    };
    let _turn = turn.map_err(late)?.map_err(|_| ReadError::Closed)?;
    let deadline = Instant::now() + timeout;
    loop {
        let (asking, asked) = (Arc::clone(inner), Arc::clone(topic));
        let left = deadline.saturating_duration_since(Instant::now());
        let answered = tokio::task::spawn_blocking(move || ask_now(&asking, &asked, side, left)).await;
        match answered.map_err(|_| ReadError::Closed)? {
            Ok(positions) => return Ok(positions),
            Err(Unanswered::Moving(_)) if Instant::now() + MOVING < deadline => sleep(MOVING).await,
            Err(Unanswered::Moving(error) | Unanswered::Failed(error)) => return Err(error),
        }
    }
}

/// Why there are no positions.
enum Unanswered {
    /// A partition has no leader at this moment, as when its topic was just made or a broker went: soon it has one.
    Moving(ReadError),
    /// Anything else.
    Failed(ReadError),
}

impl From<ReadError> for Unanswered {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

/// Whether a partition's leader is being found.
fn is_moving(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::ReplicaNotAvailable
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::FencedLeaderEpoch
            | RDKafkaErrorCode::UnknownLeaderEpoch
    )
}

fn ask_now(inner: &Inner, topic: &Topic, side: Side, timeout: Duration) -> Result<Vec<Position>, Unanswered> {
    let mut partitions = TopicPartitionList::with_capacity(topic.partitions as usize);
    for partition in topic.every_partition() {
        let side = match side {
            Side::Start => rdkafka::Offset::Beginning,
            Side::End => rdkafka::Offset::End,
        };
        let added = partitions.add_partition_offset(&topic.name, partition.0 as i32, side);
        added.map_err(|error| read_error(&error))?;
    }
    let answered = inner.asking.offsets_for_times(partitions, timeout);
    let answered = answered.map_err(|error| {
        inner.voice.ask_to_look();
        match error.rdkafka_error_code() {
            Some(code) if is_moving(code) => Unanswered::Moving(read_error(&error)),
            _ => Unanswered::Failed(read_error(&error)),
        }
    })?;
    let mut positions = Vec::with_capacity(topic.partitions as usize);
    for partition in topic.every_partition() {
        let found = answered.find_partition(&topic.name, partition.0 as i32);
        let offset = match found.as_ref().map(|found| (found.error(), found.offset())) {
            Some((Ok(()), rdkafka::Offset::Offset(offset))) => u64::try_from(offset).ok(),
            Some((Err(error), _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                inner.voice.ask_to_look();
                let error = ReadError::Unavailable {
                    message: format!(
                        "partition {partition} of topic `{}`: {}",
                        topic.name,
                        describe(code)
                    ),
                };
                return Err(if is_moving(code) {
                    Unanswered::Moving(error)
                } else {
                    Unanswered::Failed(error)
                });
            }
            _ => None,
        };
        let offset = offset.ok_or_else(|| ReadError::Unavailable {
            message: format!(
                "topic `{}` does not say where partition {partition} ends",
                topic.name
            ),
        })?;
        positions.push(Position::new(partition, Offset(offset)));
    }
    Ok(positions)
}
