//! What can go wrong with a journal, by whose fault it is.

use std::io;
use std::path::PathBuf;

use event::{Offset, Partition, Position, StreamName};

/// Whose fault an error is, so who must act. Status codes, retries and alerts follow from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller sent what can never be stored.
    Input,
    /// A bound was reached; the same again later may pass.
    Overload,
    /// Something outside is away or full; the same again later may pass, and an operator should look.
    Outage,
    /// Only a restart, which recovers from disk, helps (I-8).
    Fatal,
}

/// Why a group of batches was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// An encoded record is larger than the journal takes.
    #[error("record of {record_bytes} bytes exceeds the limit of {limit_bytes}")]
    TooLarge {
        /// Bytes of the record.
        record_bytes: u64,
        /// Most bytes of a record.
        limit_bytes: u64,
    },
    /// Too many bytes wait to be written.
    #[error("the journal's queue is full at {limit_bytes} bytes")]
    QueueFull {
        /// Most bytes that may wait.
        limit_bytes: u64,
    },
    /// Writing on would use up the disk-space reserve.
    #[error("disk has {free_bytes} bytes free, the reserve is {reserve_bytes}")]
    DiskReserve {
        /// Bytes that are free now.
        free_bytes: u64,
        /// Bytes that must stay free.
        reserve_bytes: u64,
    },
    /// The journal was opened read-only.
    #[error("the journal is open for reading only")]
    ReadOnly,
    /// The journal is shutting down.
    #[error("the journal is closed")]
    Closed,
    /// A write or fsync failed, now or before; nothing is acknowledged any more until a restart (I-8).
    #[error("journal stopped after a failed {operation} of `{}`: {message}", path.display())]
    Poisoned {
        /// The operation that failed: `write`, `fsync` …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// A batch names a partition that its stream does not have: a broken invariant of the caller.
    #[error("partition {partition} does not exist, the stream has {partitions}")]
    NoPartition {
        /// What the batch names.
        partition: Partition,
        /// How many partitions there are.
        partitions: u32,
    },
    /// A batch cannot be encoded: a broken invariant of the caller.
    #[error("batch cannot be encoded: {message}")]
    Encode {
        /// What is wrong with it.
        message: String,
    },
    /// The servers that keep the journal did not confirm it in time. It may have become durable all the same.
    #[error("the journal is not available: {message}")]
    Unavailable {
        /// What the servers, or the way to them, said.
        message: String,
    },
    /// What keeps the stream was removed, and perhaps made anew: positions mean something else there.
    #[error("{0}")]
    Replaced(Replaced),
    /// Some batches of the group are durable, others are not, or not for certain.
    #[error("{} of {} batches are durable{}; the others: {cause}", durable.iter().flatten().count(), durable.len(), places(durable))]
    Partial {
        /// For each batch of the group, in its order, the position just after it if it is durable.
        durable: Vec<Option<Position>>,
        /// Why the first one that is not durable is not.
        cause: Box<AppendError>,
    },
}

fn places(durable: &[Option<Position>]) -> String {
    let places: Vec<_> = durable.iter().flatten().map(Position::to_string).collect();
    match places.as_slice() {
        [] => String::new(),
        places => format!(", up to {}", places.join(" ")),
    }
}

/// What keeps a stream is another one than it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "topic `{topic}` of stream `{stream}` had the id {opened} when it was opened and {}; positions mean something \
     else there, so nothing is read or written until somebody has looked and restarts",
    found.as_ref().map_or_else(|| "is gone now".to_owned(), |found| format!("has {found} now"))
)]
pub struct Replaced {
    /// The stream.
    pub stream: StreamName,
    /// The topic's name.
    pub topic: String,
    /// Its id when the journal was opened.
    pub opened: String,
    /// Its id now; `None` when there is no such topic any more.
    pub found: Option<String>,
}

impl AppendError {
    /// Who must act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLarge { .. } => Fault::Input,
            Self::QueueFull { .. } => Fault::Overload,
            Self::DiskReserve { .. }
            | Self::Closed
            | Self::ReadOnly
            | Self::Unavailable { .. }
            | Self::Partial { .. } => Fault::Outage,
            Self::Poisoned { .. } | Self::Encode { .. } | Self::NoPartition { .. } | Self::Replaced(_) => {
                Fault::Fatal
            }
        }
    }
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset was removed by retention.
    #[error("position {asked} is gone, the journal begins at offset {start}")]
    Gone {
        /// What was asked for.
        asked: Position,
        /// The oldest offset that is still there.
        start: Offset,
    },
    /// The offset was never written.
    #[error("position {asked} is past the journal's end at offset {end}")]
    PastEnd {
        /// What was asked for.
        asked: Position,
        /// The offset that the next record gets.
        end: Offset,
    },
    /// The journal has no such partition.
    #[error("partition {} does not exist, the stream has {partitions}", asked.partition)]
    NoPartition {
        /// What was asked for.
        asked: Position,
        /// How many partitions there are.
        partitions: u32,
    },
    /// Bytes that were durable are not what was written.
    #[error("`{}` is damaged at byte {at}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        message: String,
    },
    /// The operating system refused.
    #[error("{operation} `{}`", path.display())]
    Io {
        /// What was tried: `read`, `open` …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The servers that keep the journal did not answer in time.
    #[error("the journal is not available: {message}")]
    Unavailable {
        /// What the servers, or the way to them, said.
        message: String,
    },
    /// The journal was opened without that stream.
    #[error("the journal does not have stream `{stream}`")]
    NoStream {
        /// The stream.
        stream: StreamName,
    },
    /// What keeps the stream was removed, and perhaps made anew: positions mean something else there.
    #[error("{0}")]
    Replaced(Replaced),
    /// The journal is shutting down.
    #[error("the journal is closed")]
    Closed,
}
