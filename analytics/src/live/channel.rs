//! One stream in one shape, read once for everybody who watches it.
//!
//! ```text
//! journal ──► feed, a task for each partition ──► gate: committed? ──► blocks ──► ring ──► clients' cursors
//! ```
//!
//! A channel is there for as long as somebody watches. Its feeds hold no reader while they wait long for a gate, so a
//! destination that is away does not keep the journal from letting go of records (I-5).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use event::{Offset, Partition, Position, StreamDeclaration};
use journal::{Journal, ReadError, Record};
use lake::Table;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::block::{Block, blocks};
use super::gate::Gate;
use super::place::Place;
use super::ring::Ring;
use super::shape::Shape;
use super::stored::{Stored, stored};
use super::wakings::Wakings;
use crate::{Kept, QueryError};

/// Bytes of records that are read at once.
pub(super) const READ_BYTES: usize = 1 << 20;
/// How long records that were read, and the reader, wait for a gate; then both go, and are opened again.
const HOLD: Duration = Duration::from_secs(10);
/// How long somebody who comes waits for a gate of which nothing is known yet.
const GATE_TIME: Duration = Duration::from_secs(5);
/// Waits after a failure, doubling.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What all channels share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) journal: Arc<dyn Journal>,
    /// Bytes of all rings together.
    pub(super) memory_bytes: usize,
    /// Rings that are there.
    rings: AtomicUsize,
    /// Turns of clients that read the journal for themselves.
    pub(super) turns: Arc<Semaphore>,
    /// How long a turn lasts; what is left then is read again in another one.
    pub(super) turn_time: Duration,
}

impl Pool {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        memory_bytes: usize,
        turns: usize,
        turn_time: Duration,
    ) -> Self {
        Self {
            journal,
            memory_bytes,
            rings: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(turns)),
            turn_time,
        }
    }

    /// Bytes that each ring may have.
    fn share(&self) -> usize {
        self.memory_bytes / self.rings.load(Ordering::Relaxed).max(1)
    }
}

/// What can be watched, whether somebody does or not.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) shape: Arc<Shape>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// Has what the journal has no more.
    table: Option<Arc<Table>>,
    /// Says what is kept, where ids are unique.
    kept: Option<Kept>,
    channel: Mutex<Weak<Channel>>,
    /// Held by who opens the channel.
    opening: tokio::sync::Mutex<()>,
}

/// A source that is being watched.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) shape: Arc<Shape>,
    pub(super) table: Option<Arc<Table>>,
    pub(super) kept: Option<Kept>,
    pub(super) pool: Arc<Pool>,
    /// One for each partition, by its number.
    pub(super) rings: Vec<Ring>,
    wakings: Arc<Wakings>,
    feeds: Mutex<JoinSet<()>>,
}

impl Source {
    pub(super) fn new(
        stream: Arc<StreamDeclaration>,
        shape: Shape,
        gate: Option<Arc<dyn Gate>>,
        table: Option<Arc<Table>>,
        kept: Option<Kept>,
    ) -> Self {
        Self {
            kept: kept.filter(|_| stream.unique.is_some()),
            stream,
            shape: Arc::new(shape),
            gate,
            table,
            channel: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The channel, if somebody watches.
    pub(super) fn watched(&self) -> Option<Arc<Channel>> {
        self.channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }

    /// The channel, opened at the newest events when nobody watches yet.
    pub(super) async fn channel(&self, pool: &Arc<Pool>) -> Result<Arc<Channel>, QueryError> {
        let _opening = self.opening.lock().await;
        if let Some(channel) = self.watched() {
            return Ok(channel);
        }
        if self.stream.unique.is_some() && self.kept.is_none() {
            let message = format!("nobody decides here what is kept of `{}`", self.stream.name);
            return Err(QueryError::Storage(message));
        }
        let ends = self.visible_ends(pool).await?;
        let channel = Channel::open(self, pool, &ends);
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&channel);
        Ok(channel)
    }

    /// Up to where each partition may be shown now.
    async fn visible_ends(&self, pool: &Pool) -> Result<Vec<Position>, QueryError> {
        let mut ends = pool.journal.end(&self.stream.name).await?;
        ends.sort();
        let Some(gate) = &self.gate else { return Ok(ends) };
        for end in &mut ends {
            let known = known(gate.as_ref(), &self.stream, end.partition);
            let passed = timeout(GATE_TIME, known).await.map_err(|_| {
                QueryError::NotNow(format!(
                    "it is not known yet how far the destination is with partition {} of `{}`",
                    end.partition, self.stream.name
                ))
            })?;
            end.offset = end.offset.min(passed);
        }
        Ok(ends)
    }
}

impl Channel {
    fn open(source: &Source, pool: &Arc<Pool>, ends: &[Position]) -> Arc<Self> {
        pool.rings.fetch_add(ends.len(), Ordering::Relaxed);
        let channel = Arc::new(Self {
            stream: Arc::clone(&source.stream),
            shape: Arc::clone(&source.shape),
            table: source.table.as_ref().map(Arc::clone),
            kept: source.kept.clone(),
            pool: Arc::clone(pool),
            rings: ends.iter().map(|end| Ring::new(end.offset)).collect(),
            wakings: Wakings::new(),
            feeds: Mutex::default(),
        });
        let mut feeds = channel.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        for end in ends {
            let feed = Feed {
                channel: Arc::downgrade(&channel),
                journal: Arc::clone(&pool.journal),
                stream: Arc::clone(&source.stream),
                shape: Arc::clone(&source.shape),
                table: source.table.as_ref().map(Arc::clone),
                kept: source.kept.clone(),
                gate: source.gate.as_ref().map(Arc::clone),
                partition: end.partition,
                at: end.offset,
            };
            feeds.spawn(feed.run());
        }
        feeds.spawn(Arc::clone(&channel.wakings).run());
        drop(feeds);
        channel
    }

    /// Changes whenever there is more.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.wakings.subscribe()
    }

    /// Lets go of what is above today's share of each ring.
    pub(super) fn trim(&self) {
        let share = self.pool.share();
        self.rings.iter().for_each(|ring| ring.trim(share));
    }

    fn push(&self, partition: Partition, blocks: Vec<Arc<Block>>) {
        if let Some(ring) = self.rings.get(partition.0 as usize) {
            ring.push(blocks, self.pool.share());
        }
        self.wakings.wake();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.pool.rings.fetch_sub(self.rings.len(), Ordering::Relaxed);
    }
}

/// Brings one partition into its ring.
struct Feed {
    channel: Weak<Channel>,
    journal: Arc<dyn Journal>,
    stream: Arc<StreamDeclaration>,
    shape: Arc<Shape>,
    table: Option<Arc<Table>>,
    kept: Option<Kept>,
    gate: Option<Arc<dyn Gate>>,
    partition: Partition,
    /// The next record.
    at: Offset,
}

/// Why a feed does not go on for now.
enum Pause {
    /// Nobody watches any more.
    Ended,
    /// The gate did not move for long.
    Held,
    /// The lake has come by, and has what is next.
    Moved,
    /// The journal has let go of what comes next.
    Gone(Offset),
    Failed(QueryError),
}

impl From<ReadError> for Pause {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone { start, .. } => Self::Gone(start),
            other => Self::Failed(other.into()),
        }
    }
}

impl Feed {
    /// Runs until nobody watches: the channel ends it.
    async fn run(mut self) {
        let mut wait = RETRY_FIRST;
        loop {
            let passed = match &self.gate {
                // Without anything that the journal would have to keep.
                Some(gate) => beyond(gate.as_ref(), &self.stream, self.partition, self.at).await,
                None => Offset(u64::MAX),
            };
            let before = self.at;
            let pause = self.follow(passed).await;
            if self.at > before {
                wait = RETRY_FIRST;
            }
            match pause {
                Pause::Ended => return,
                Pause::Held | Pause::Moved => {}
                Pause::Gone(start) => {
                    // Whoever was here is told when it looks for what is missing.
                    self.at = start;
                    let Some(channel) = self.channel.upgrade() else {
                        return;
                    };
                    if let Some(ring) = channel.rings.get(self.partition.0 as usize) {
                        ring.jump(start);
                    }
                    channel.push(self.partition, Vec::new());
                }
                Pause::Failed(error) => {
                    let (stream, partition) = (self.stream.name.as_str(), self.partition);
                    tracing::warn!(stream, %partition, %error, "those who watch wait: the stream cannot be read");
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                }
            }
        }
    }

    async fn follow(&mut self, passed: Offset) -> Pause {
        let followed = match self.give_stored(passed).await {
            Ok(true) => Ok(Pause::Moved),
            Ok(false) => self.read_on().await,
            Err(pause) => Err(pause),
        };
        match followed {
            Ok(pause) | Err(pause) => pause,
        }
    }

    async fn read_on(&mut self) -> Result<Pause, Pause> {
        let from = Position::new(self.partition, self.at);
        let mut reader = self.journal.reader(&self.stream.name, from).await?;
        let mut read: Vec<Record> = Vec::new();
        loop {
            if read.is_empty() {
                read = reader.next(READ_BYTES).await?;
            }
            let passed = match &self.gate {
                None => Offset(u64::MAX),
                Some(gate) => {
                    let passed = beyond(gate.as_ref(), &self.stream, self.partition, self.at);
                    timeout(HOLD, passed).await.map_err(|_| Pause::Held)?
                }
            };
            let later = read.split_off(read.partition_point(|record| record.offset < passed));
            let due = std::mem::replace(&mut read, later);
            let what = (&self.stream, &self.shape, self.kept.as_ref());
            let decoded = decode(what, self.at, due).await.map_err(Pause::Failed)?;
            let Some(blocks) = decoded else {
                return Ok(Pause::Moved);
            };
            self.give(blocks)?;
        }
    }

    /// Gives the next blocks.
    fn give(&mut self, blocks: Vec<Arc<Block>>) -> Result<(), Pause> {
        let channel = self.channel.upgrade().ok_or(Pause::Ended)?;
        self.at = blocks.last().map_or(self.at, |block| block.to);
        channel.push(self.partition, blocks);
        Ok(())
    }

    /// Gives what comes next of the records below an offset, if the lake has it and knows what is kept of it.
    async fn give_stored(&mut self, below: Offset) -> Result<bool, Pause> {
        let failed = |message: &str| Pause::Failed(QueryError::Storage(message.to_owned()));
        let Some(kept) = &self.kept else {
            return Ok(false);
        };
        let stored_to = kept.stored(&self.stream, self.partition).await;
        if stored_to.map_err(Pause::Failed)? <= self.at {
            return Ok(false);
        }
        let table = self.table.as_ref();
        let table = table.ok_or_else(|| failed("there is no table of what is kept"))?;
        let what = (&self.stream, &self.shape);
        let found = stored(table, what, self.partition, Place::record(self.at), below).await;
        match found.map_err(Pause::Failed)? {
            Stored::Blocks(blocks) => self.give(blocks).map(|()| true),
            Stored::From(begin) => Err(Pause::Gone(begin)),
            Stored::Nothing => Err(failed("the lake has less than its newest version")),
        }
    }
}

/// Decodes records, the first of which must be at `from`, on a thread for such work. `None` when it must be found out
/// what is kept, and the lake has the first of them already: there it is to be read.
pub(super) async fn decode(
    (stream, shape, kept): (&Arc<StreamDeclaration>, &Arc<Shape>, Option<&Kept>),
    from: Offset,
    records: Vec<Record>,
) -> Result<Option<Vec<Arc<Block>>>, QueryError> {
    let mut due = from;
    for record in &records {
        if record.offset != due {
            return Err(QueryError::Storage(format!(
                "journal gave offset {} of stream `{}` in place of {due}",
                record.offset, stream.name
            )));
        }
        due = due.next();
    }
    let decided = match kept {
        Some(kept) => match kept.decide(stream, &records).await? {
            Some(decided) => Some(decided),
            None => return Ok(None),
        },
        None => None,
    };
    let (stream, shape) = (Arc::clone(stream), Arc::clone(shape));
    let decoding = move || blocks(&stream, &shape, &records, decided.as_ref());
    let decoded = tokio::task::spawn_blocking(decoding).await;
    decoded
        .map_err(|_| QueryError::Storage("a record could not be decoded".to_owned()))?
        .map(Some)
}

/// Waits until anything is known of a partition.
async fn known(gate: &dyn Gate, stream: &StreamDeclaration, partition: Partition) -> Offset {
    let mut changes = gate.changes();
    loop {
        changes.borrow_and_update();
        if let Some(passed) = gate.passed(&stream.name, partition) {
            return passed;
        }
        changed(&mut changes).await;
    }
}

/// Waits until more than `at` of a partition is committed, and gives how far.
async fn beyond(gate: &dyn Gate, stream: &StreamDeclaration, partition: Partition, at: Offset) -> Offset {
    let mut changes = gate.changes();
    loop {
        changes.borrow_and_update();
        let passed = gate.passed(&stream.name, partition);
        if let Some(passed) = passed.filter(|passed| *passed > at) {
            return passed;
        }
        changed(&mut changes).await;
    }
}

/// A gate whose other side is gone never changes again.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
