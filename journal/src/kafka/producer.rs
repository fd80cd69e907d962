//! The one producer: idempotent, acks=all; an append is answered by the delivery reports of its messages (K-1).
//!
//! Bytes are counted before anything is handed to librdkafka, for the whole group at once: what does not fit fails
//! as a whole, before any of it was sent, and memory stays flat while brokers are away (K-2). librdkafka gives up on
//! a message after `message.timeout.ms`, which is the configured timeout.
//!
//! # When librdkafka says that an error is fatal
//! Its producer has lost track of what the broker has of it, and takes nothing more. A new one begins a new sequence
//! under a new id; what waited in the old one is answered as not confirmed. Nothing is sent twice, since nothing
//! here ever sends again what was given to librdkafka before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use event::{Batch, Position, RecordFormat};
use futures::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::{Voice, create};
use super::delivery::{Answer, Delivery, Reports};
use super::message::{Message, Messages};
use super::options::KafkaOptions;
use super::topic::Topic;
use super::{Inner, OpenError};
use crate::AppendError;

/// Groups of fewer bytes are encoded where the caller runs: at 4 GB/s (design.md §6) they take half a millisecond.
const ENCODED_INLINE_BYTES_MAX: usize = 2 << 20;
/// The same where events become JSON again, which takes much longer.
const JSON_INLINE_BYTES_MAX: usize = 64 << 10;
/// The unit in which waiting bytes are counted.
const ROOM_UNIT_BYTES: usize = 1 << 10;

type Client = ThreadedProducer<Reports>;

/// The producer and the room in front of it.
pub(super) struct Producer {
    config: rdkafka::ClientConfig,
    voice: Arc<Voice>,
    client: RwLock<Arc<Client>>,
    room: Arc<Semaphore>,
    room_units: u32,
    queue_bytes: usize,
    closed: AtomicBool,
}

impl Producer {
    pub(super) fn new(options: &KafkaOptions, voice: Arc<Voice>) -> Result<Self, OpenError> {
        let config = options.producing();
        let client = Arc::new(create(&config, Reports::new(&voice))?);
        let units = (options.queue_bytes / ROOM_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        let room_units = u32::try_from(units).unwrap_or(u32::MAX);
        Ok(Self {
            config,
            voice,
            client: RwLock::new(client),
            room: Arc::new(Semaphore::new(room_units as usize)),
            room_units,
            queue_bytes: options.queue_bytes,
            closed: AtomicBool::new(false),
        })
    }

    /// Waits until everything that was sent is confirmed or has failed, and takes nothing more. Blocks.
    pub(super) fn close(&self, timeout: Duration) {
        self.closed.store(true, Ordering::Release);
        if let Err(error) = self.client().flush(timeout) {
            tracing::warn!(%error, "kafka did not confirm everything before the journal was closed");
        }
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes room for bytes that will wait, all of it or nothing. A group that is larger than all the room there is
    /// passes when nothing else waits.
    fn take_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX);
        let units = units.min(self.room_units);
        let taken = Arc::clone(&self.room).try_acquire_many_owned(units);
        taken.map_err(|_| AppendError::QueueFull {
            limit_bytes: self.queue_bytes as u64,
        })
    }

    /// Puts a new client in the place of one with a fatal error; gives the one that is there now.
    fn renew(&self, failed: &Arc<Client>) -> Arc<Client> {
        let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, failed) {
            return Arc::clone(&current);
        }
        let reason = failed.client().fatal_error().map(|(_, reason)| reason);
        match create(&self.config, Reports::new(&self.voice)) {
            Ok(client) => {
                tracing::warn!(
                    reason,
                    "a new kafka producer begins after a fatal error of the old one"
                );
                metrics::counter!("tidemill_journal_kafka_producers_renewed_total").increment(1);
                let old = std::mem::replace(&mut *current, Arc::new(client));
                // Its end waits for threads of its own.
                let ended = std::thread::Builder::new()
                    .name("kafka-producer-end".to_owned())
                    .spawn(move || drop(old));
                drop(ended);
            }
            Err(error) => tracing::error!(%error, "no new kafka producer could be made"),
        }
        Arc::clone(&current)
    }

    /// Hands the messages of one batch to librdkafka; the answer comes with the last delivery report.
    fn send(&self, topic: &Arc<Topic>, batch: Messages, room: &Arc<OwnedSemaphorePermit>) -> Answer {
        let (delivery, answer) = Delivery::new(topic, batch.messages.len(), room);
        let mut client = self.client();
        let mut messages = batch.messages.into_iter();
        let partition = batch.partition.0 as i32;
        for message in messages.by_ref() {
            let sent = send_one(&client, topic, partition, &message, &delivery).or_else(|error| {
                if client.client().fatal_error().is_none() {
                    return Err(error);
                }
                // It was not taken, so it is not sent twice.
                client = self.renew(&client);
                send_one(&client, topic, partition, &message, &delivery)
            });
            if let Err(error) = sent {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                delivery.failed(1 + messages.len(), code, message.value.len());
                break;
            }
        }
        answer
    }

    fn renew_if_fatal(&self) {
        let client = self.client();
        if client.client().fatal_error().is_some() {
            self.renew(&client);
        }
    }
}

fn send_one(
    client: &Client,
    topic: &Topic,
    partition: i32,
    message: &Message,
    delivery: &Arc<Delivery>,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic.name, Arc::clone(delivery))
        .partition(partition)
        .payload(&message.value)
        .headers(message.headers.clone());
    if let Some(key) = &message.key {
        record = record.key(key.as_bytes());
    }
    client.send(record).map_err(|(error, _)| error)
}

/// Appends a group: the contract of [`Journal::append`](crate::Journal::append). A batch whose topic was replaced
/// fails alone, so that merged requests to other streams go on.
pub(super) async fn append(inner: &Arc<Inner>, group: Vec<Batch>) -> Result<Vec<Position>, AppendError> {
    if inner.producer.closed.load(Ordering::Acquire) {
        return Err(AppendError::Closed);
    }
    if let Some(message) = inner.health.borrow().unreachable_for(inner.options.timeout) {
        // What was sent since has expired by now; so would this, and meanwhile it would take up room.
        return Err(AppendError::Unavailable { message });
    }
    let topics = topics_of(inner, &group)?;
    let partitions: Vec<_> = group.iter().map(|batch| batch.partition).collect();
    let bytes: usize = group.iter().map(Batch::bytes).sum();
    let json = topics.iter().any(|topic| topic.format == RecordFormat::Json);
    let inline_bytes = if json {
        JSON_INLINE_BYTES_MAX
    } else {
        ENCODED_INLINE_BYTES_MAX
    };
    let answers = if bytes < inline_bytes {
        encode_and_send(inner, &topics, &group)?
    } else {
        let (inner, topics) = (Arc::clone(inner), topics.clone());
        let sent = tokio::task::spawn_blocking(move || encode_and_send(&inner, &topics, &group));
        sent.await.map_err(|_| AppendError::Closed)??
    };
    let mut outcomes = Vec::with_capacity(answers.len());
    for ((answer, topic), partition) in join_all(answers).await.into_iter().zip(&topics).zip(partitions) {
        // Where it was replaced meanwhile, what is confirmed is there, but not where anybody will look for it.
        let outcome = topic
            .check()
            .map_err(AppendError::Replaced)
            .and_then(|()| answer.unwrap_or(Err(AppendError::Closed)));
        outcomes.push(outcome.map(|end| Position::new(partition, end)));
    }
    if outcomes.iter().any(Result::is_err) {
        inner.producer.renew_if_fatal();
    }
    together(outcomes)
}

fn topics_of(inner: &Inner, group: &[Batch]) -> Result<Vec<Arc<Topic>>, AppendError> {
    let mut topics = Vec::with_capacity(group.len());
    for batch in group {
        let topic = inner.topics.get(&batch.stream);
        let partitions = topic.map_or(0, |topic| topic.partitions);
        let topic = topic.filter(|_| batch.partition.0 < partitions);
        let topic = topic.ok_or(AppendError::NoPartition {
            partition: batch.partition,
            partitions,
        })?;
        topics.push(Arc::clone(topic));
    }
    Ok(topics)
}

/// Encodes everything before it sends anything: what cannot be encoded fails the group as a whole.
fn encode_and_send(
    inner: &Inner,
    topics: &[Arc<Topic>],
    group: &[Batch],
) -> Result<Vec<Answer>, AppendError> {
    let encoded = topics.iter().zip(group);
    let encoded = encoded.map(|(topic, batch)| Messages::of(topic, batch));
    let encoded: Vec<_> = encoded.collect::<Result<_, _>>()?;
    let room = inner
        .producer
        .take_room(encoded.iter().map(Messages::bytes).sum())?;
    let room = Arc::new(room);
    let mut answers = Vec::with_capacity(encoded.len());
    for (topic, messages) in topics.iter().zip(encoded) {
        answers.push(match topic.check() {
            Ok(()) => inner.producer.send(topic, messages, &room),
            Err(replaced) => refused(AppendError::Replaced(replaced)),
        });
    }
    Ok(answers)
}

fn refused(error: AppendError) -> Answer {
    let (done, answer) = oneshot::channel();
    // The other end is the answer that is given back.
    drop(done.send(Err(error)));
    answer
}

/// One outcome for the group: all durable, none, or some.
fn together(outcomes: Vec<Result<Position, AppendError>>) -> Result<Vec<Position>, AppendError> {
    let cause = outcomes
        .iter()
        .find_map(|outcome| outcome.as_ref().err().cloned());
    let Some(cause) = cause else {
        return Ok(outcomes.into_iter().flatten().collect());
    };
    let durable: Vec<_> = outcomes.into_iter().map(Result::ok).collect();
    if durable.iter().all(Option::is_none) {
        return Err(cause);
    }
    Err(AppendError::Partial {
        durable,
        cause: Box::new(cause),
    })
}
