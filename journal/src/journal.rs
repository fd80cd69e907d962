//! The contract between ingest, which appends, and sinks and analytics, which read.

use std::fmt;

use bytes::Bytes;
use event::{Batch, Offset, Partition, Position, StreamName};
use futures::future::BoxFuture;

use crate::error::{AppendError, ReadError};

/// Identifies a journal for ever. Destinations store it beside their positions, because an offset means
/// nothing in another journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct JournalId(pub String);

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an acknowledgement of this journal means; the answer to a request says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The operating system said that the bytes are on this machine's disk.
    Fsync,
    /// All in-sync Kafka replicas have them.
    KafkaAcksAll,
}

impl Durability {
    /// As the HTTP answer writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::KafkaAcksAll => "kafka_acks_all",
        }
    }
}

/// One record as a reader gets it: bytes whose checksum was right.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// What [`event::record::decode`] takes.
    pub payload: Bytes,
}

/// The ordered, durable log of every stream.
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Which journal this is.
    fn id(&self) -> JournalId;

    /// What an acknowledgement means here.
    fn durability(&self) -> Durability;

    /// How many partitions a stream has.
    fn partitions(&self, stream: &StreamName) -> u32;

    /// Appends a group of batches, of one or several streams, and returns once every one is durable (I-1).
    /// Gives for each batch the position just after its record, in the order of the group. The embedded
    /// journal appends a group as a whole or, after a crash, not at all.
    ///
    /// # Errors
    /// [`AppendError`]; its [`fault`](AppendError::fault) says who must act. Unless it says otherwise nothing of
    /// the group is acknowledged, but it may be there after recovery.
    ///
    /// # Cancellation
    /// Dropping the future does not undo the append; it may become durable all the same.
    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>>;

    /// The durable end of a stream: for each partition the offset that the next record gets.
    ///
    /// # Errors
    /// [`ReadError`] when the journal cannot be asked. A stream without records has end 0.
    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>>;

    /// The oldest offset of each partition that can still be read.
    ///
    /// # Errors
    /// [`ReadError`] when the journal cannot be asked.
    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>>;

    /// Opens a reader of one partition that begins at `from`.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when that offset was removed already, [`ReadError::PastEnd`] when the journal ends
    /// before it.
    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>>;

    /// Says that everything below these positions of `stream` is stored elsewhere, so that it may be removed
    /// once the journal's own `retain` allows. Kafka ignores it: the broker decides.
    ///
    /// # Errors
    /// [`ReadError`] when what is to be kept cannot be found out; nothing is removed then.
    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>>;
}

/// Reads one partition of one stream forward. As long as it lives, an embedded journal removes nothing from its
/// position on, so whoever holds one can read again what it was opened at.
pub trait JournalReader: Send {
    /// The position of the next record.
    fn position(&self) -> Position;

    /// Waits until there is at least one durable record, then gives as many as are there without waiting, in
    /// order, up to about `bytes_max` of payload but at least one.
    ///
    /// # Errors
    /// [`ReadError`]. The reader stays where it was.
    ///
    /// # Cancellation
    /// Nothing is lost: the position moves only when records are given out.
    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>>;
}
