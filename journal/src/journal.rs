//! The contract between ingest, which appends, and sinks and analytics, which read.

use std::fmt;

use bytes::Bytes;
use event::{Batch, Offset, Partition, Position, StreamName, TraceId};
use futures::future::{BoxFuture, FutureExt, ready};

use crate::error::{AppendError, ReadError};
use crate::group::{GroupMember, SoleMember};

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

/// One record as a reader gets it. Readers give the records of a partition without a gap: an offset that holds
/// nothing is a record of its own.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// What it holds; [`RecordDecoder`](crate::RecordDecoder) reads it.
    pub payload: Payload,
}

/// What an offset of the journal holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// What [`event::record::encode`] made; its checksum was right.
    Record(Bytes),
    /// One event as JSON, of a stream with `format = "json"`. Who wrote it is not known, so it may be no event.
    Json(JsonMessage),
    /// Nothing: Kafka keeps some offsets for itself, as where transactions end.
    Nothing,
}

/// One event as a message of a topic.
#[derive(Clone, Debug)]
pub struct JsonMessage {
    /// The JSON text; absent in a message without a value.
    pub value: Option<Bytes>,
    /// The message's timestamp, microseconds since 1970 UTC; becomes `_received_at`.
    pub received_at: i64,
    /// Of its `traceparent`, or one that is always the same for this message.
    pub trace_id: TraceId,
}

impl Record {
    /// Bytes of what it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Record(bytes) => bytes.len(),
            Payload::Json(message) => message.value.as_ref().map_or(0, Bytes::len),
            Payload::Nothing => 0,
        }
    }
}

/// The ordered, durable log of every stream.
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Which journal this is.
    fn id(&self) -> JournalId;

    /// Which log holds this stream: what destinations store beside their positions of it. The journal itself, or
    /// a topic of it, which can be deleted and made anew without the others.
    fn stream_id(&self, stream: &StreamName) -> JournalId;

    /// What an acknowledgement means here.
    fn durability(&self) -> Durability;

    /// How many partitions a stream has.
    fn partitions(&self, stream: &StreamName) -> u32;

    /// Appends a group of batches, of one or several streams, and returns once every one is durable (I-1).
    /// Gives for each batch the position just after its record, in its partition, in the order of the group. The embedded
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

    /// How far a group has said that it is with a stream, where it has said so. A journal whose groups leave nothing
    /// behind knows of none.
    ///
    /// # Errors
    /// [`ReadError`] when the journal cannot be asked, or does not have the stream.
    fn group_positions<'a>(
        &'a self,
        _group: &'a str,
        _stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        ready(Ok(Vec::new())).boxed()
    }

    /// Joins the group of that name, whose members share the partitions of `streams`. A journal that only one
    /// process reads gives every partition to whoever asks.
    ///
    /// # Errors
    /// [`ReadError`] when the journal cannot be asked, or does not have one of the streams.
    fn join<'a>(
        &'a self,
        _group: &'a str,
        streams: &'a [StreamName],
    ) -> BoxFuture<'a, Result<Box<dyn GroupMember>, ReadError>> {
        let every = streams
            .iter()
            .map(|stream| (stream.clone(), self.partitions(stream)));
        let member: Box<dyn GroupMember> = Box::new(SoleMember::new(every));
        ready(Ok(member)).boxed()
    }
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
