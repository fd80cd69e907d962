//! The journal on Kafka: a topic for each stream, through librdkafka.
//!
//! Used when one machine is not enough; the contract is the crate's, the same as on a disk.
//!
//! ```text
//! append ──► room (bytes, bounded) ──► one idempotent producer, acks=all ──► delivery reports ──► answers
//! reader ──► a place on a lane (a client that several partitions share) ──► records from a position on
//! watch  ──► are brokers there, are the topics still the same ──► health, errors
//! ```
//!
//! # Invariants
//! - K-1 an append is acknowledged by the delivery report of every message of it, and by nothing else (I-1)
//! - K-2 what waits for the broker is bounded in bytes and in time (I-4)
//! - K-3 a reader begins at the position that it was given: never at a group's offset, never at a reset
//! - K-4 a topic that was made anew is an error to everybody, never a jump
//!
//! # Why lanes
//! A librdkafka client has about four threads and two connections. One for each reader would be hundreds where
//! several destinations read many partitions; one for all cannot read a partition at two positions.

mod administrator;
mod client;
mod delivery;
mod describe;
mod error;
mod health;
mod lane;
mod member;
mod message;
mod opening;
mod options;
mod producer;
mod reader;
mod topic;
mod topics;
mod watermarks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use event::{Batch, Position, StreamDeclaration, StreamName};
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::{Semaphore, watch};

use self::client::{Consumer, Listener, Voice, create};
use self::lane::Lanes;
use self::member::KafkaMember;
use self::opening::{greet, open_topics, wanted};
use self::producer::Producer;
use self::reader::KafkaReader;
use self::topic::Topic;
use crate::{AppendError, Durability, GroupMember, Journal, JournalId, JournalReader, ReadError};

pub use self::error::{OpenError, TopicProblem};
pub use self::health::KafkaHealth;
pub use self::options::KafkaOptions;

/// Most questions for watermarks that block a thread at a time.
const QUESTIONS_MAX: usize = 32;

/// The journal in topics of a Kafka cluster.
pub struct KafkaJournal {
    inner: Arc<Inner>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

/// What the journal, its readers and its threads share.
struct Inner {
    options: KafkaOptions,
    cluster: String,
    topics: BTreeMap<StreamName, Arc<Topic>>,
    voice: Arc<Voice>,
    /// The client of all questions.
    asking: Arc<Consumer>,
    questions: Semaphore,
    producer: Producer,
    lanes: Arc<Lanes>,
    health: watch::Sender<KafkaHealth>,
    stopping: AtomicBool,
}

impl KafkaJournal {
    /// Opens the topics of some streams, makes those that are missing, and checks all of them.
    ///
    /// # Errors
    /// [`OpenError`]: within the configured timeout when no broker answers; [`OpenError::Topics`] names everything
    /// that is not as it was asked for.
    pub async fn open(
        options: KafkaOptions,
        streams: &[Arc<StreamDeclaration>],
    ) -> Result<Arc<Self>, OpenError> {
        options.check()?;
        let wanted = wanted(&options, streams)?;
        let voice = Arc::new(Voice::default());
        let listener = Listener {
            voice: Arc::clone(&voice),
        };
        let asking: Arc<Consumer> = Arc::new(create(&options.asking(), listener.clone())?);
        let cluster = greet(&asking, &options, &voice).await?;
        let topics = open_topics(&asking, &options, &listener, wanted).await?;
        let producer = Producer::new(&options, Arc::clone(&voice))?;
        let lanes = Arc::new(Lanes::new(options.reading(), listener));
        let inner = Arc::new(Inner {
            options,
            cluster,
            topics,
            voice,
            asking,
            questions: Semaphore::new(QUESTIONS_MAX),
            producer,
            lanes,
            health: watch::Sender::new(KafkaHealth::Reachable),
            stopping: AtomicBool::new(false),
        });
        let watched = Arc::clone(&inner);
        let watcher = std::thread::Builder::new()
            .name("kafka-watch".to_owned())
            .spawn(move || health::watch(&watched));
        let watcher = watcher.map_err(|error| OpenError::Client {
            message: format!("start a thread: {error}"),
        })?;
        Ok(Arc::new(Self {
            inner,
            watcher: Mutex::new(Some(watcher)),
        }))
    }

    /// Whether brokers answer and the topics are those that were opened, now and whenever that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<KafkaHealth> {
        self.inner.health.subscribe()
    }

    /// The name of a stream's topic.
    #[must_use]
    pub fn topic(&self, stream: &StreamName) -> Option<&str> {
        self.inner.topics.get(stream).map(|topic| topic.name.as_str())
    }

    /// Waits for what is on its way to the broker, takes nothing more, and ends the threads. Appends that the broker
    /// has not confirmed by the configured timeout fail.
    pub async fn close(self: &Arc<Self>) {
        let journal = Arc::clone(self);
        let closed = tokio::task::spawn_blocking(move || {
            journal.inner.producer.close(journal.inner.options.timeout);
            journal.stop();
        });
        if closed.await.is_err() {
            tracing::error!("closing the journal panicked");
        }
    }

    fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = lock(&self.watcher).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches kafka panicked");
        }
        self.inner.lanes.close();
    }

    fn topic_of(&self, stream: &StreamName) -> Result<&Arc<Topic>, ReadError> {
        let topic = self.inner.topics.get(stream);
        let topic = topic.ok_or_else(|| ReadError::NoStream {
            stream: stream.clone(),
        })?;
        topic.check().map_err(ReadError::Replaced)?;
        Ok(topic)
    }
}

impl fmt::Debug for KafkaJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaJournal")
            .field("cluster", &self.inner.cluster)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Journal for KafkaJournal {
    fn id(&self) -> JournalId {
        JournalId(self.inner.cluster.clone())
    }

    fn stream_id(&self, stream: &StreamName) -> JournalId {
        match self.inner.topics.get(stream) {
            Some(topic) => JournalId(format!("{}/{}", self.inner.cluster, topic.id)),
            None => self.id(),
        }
    }

    fn durability(&self) -> Durability {
        Durability::KafkaAcksAll
    }

    fn partitions(&self, stream: &StreamName) -> u32 {
        self.inner.topics.get(stream).map_or(0, |topic| topic.partitions)
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        producer::append(&self.inner, group).boxed()
    }

    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            let topic = self.topic_of(stream)?;
            watermarks::ends(&self.inner, topic).await
        }
        .boxed()
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            let topic = self.topic_of(stream)?;
            watermarks::starts(&self.inner, topic).await
        }
        .boxed()
    }

    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        async move {
            let topic = self.topic_of(stream)?;
            watermarks::check_position(&self.inner, topic, from).await?;
            let reader = KafkaReader::new(Arc::clone(&self.inner), Arc::clone(topic), from);
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        }
        .boxed()
    }

    fn retain<'a>(
        &'a self,
        _stream: &'a StreamName,
        _stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        ready(Ok(())).boxed()
    }

    fn group_positions<'a>(
        &'a self,
        group: &'a str,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            let topic = self.topic_of(stream)?;
            watermarks::of_group(&self.inner, topic, group).await
        }
        .boxed()
    }

    fn join<'a>(
        &'a self,
        group: &'a str,
        streams: &'a [StreamName],
    ) -> BoxFuture<'a, Result<Box<dyn GroupMember>, ReadError>> {
        async move {
            let topics: Result<Vec<_>, _> = streams.iter().map(|stream| self.topic_of(stream)).collect();
            let member = KafkaMember::join(&self.inner, group, &topics?)?;
            Ok(Box::new(member) as Box<dyn GroupMember>)
        }
        .boxed()
    }
}

/// Locks whatever state the holder left, which is whole after every statement here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
