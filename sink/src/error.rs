//! Why a sink could not go on with a stream, and who must act.

use event::record::RecordError;
use event::schema::SchemaError;
use event::{Offset, Partition};
use journal::ReadError;
use lake::{CommitError, LakeError};

use crate::database::DatabaseError;

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something outside is away or full: the sink tries again from the stored position.
    Outage,
    /// The process is going down; nobody must act.
    Closing,
    /// An invariant is broken: this stream's sink stops until somebody has looked. Others go on (I-5).
    Fatal,
}

/// Why a sink could not go on with a stream.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The journal cannot be read.
    #[error("read the journal")]
    Read(#[from] ReadError),
    /// A record cannot be decoded.
    #[error("decode record {offset} of partition {partition}")]
    Record {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A record's columns do not fit the declared stream.
    #[error("record {offset} of partition {partition} does not fit the declaration")]
    Columns {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
        /// What differs.
        source: SchemaError,
    },
    /// A message of another program's is no event, and this sink was started without the table of `_rejects`.
    #[error(
        "message {offset} of partition {partition} is no event, and there is no table of rejects: {message}"
    )]
    NoEvent {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
        /// Why.
        message: String,
    },
    /// The ids of a stream whose ids are unique cannot be read from its rows.
    #[error("the ids of record {offset} of partition {partition} cannot be read: {message}")]
    Ids {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
        /// What differs.
        message: String,
    },
    /// Rejected messages do not fit the declaration of `_rejects`.
    #[error("rejects of partition {partition} from message {offset} on do not fit their table: {message}")]
    Rejects {
        /// Their partition.
        partition: Partition,
        /// The first one's offset.
        offset: Offset,
        /// What differs.
        message: String,
    },
    /// The journal gave another record than the next one.
    #[error("the journal gave offset {found} where offset {expected} was due")]
    OutOfOrder {
        /// What came.
        found: Offset,
        /// What was due.
        expected: Offset,
    },
    /// The lake cannot be written or read.
    #[error("write the lake")]
    Lake(#[from] LakeError),
    /// The table did not take the files.
    #[error("commit to the lake")]
    Commit(#[from] CommitError),
    /// A database cannot be written or read.
    #[error("write the database")]
    Database(#[from] DatabaseError),
    /// A thread that encoded columns panicked.
    #[error("the encoding thread ended: {message}")]
    Thread {
        /// What it said.
        message: String,
    },
}

impl SinkError {
    /// Who must act; retry, stop and alert follow from this alone.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Read(error) => match error {
                ReadError::Io { .. } | ReadError::Unavailable { .. } => Fault::Outage,
                ReadError::Closed => Fault::Closing,
                ReadError::Gone { .. }
                | ReadError::PastEnd { .. }
                | ReadError::NoPartition { .. }
                | ReadError::NoStream { .. }
                | ReadError::Replaced(_)
                | ReadError::Damaged { .. } => Fault::Fatal,
            },
            Self::Lake(error)
            | Self::Commit(CommitError::Lake(error) | CommitError::Unknown { source: error }) => {
                match error.fault() {
                    lake::Fault::Outage => Fault::Outage,
                    lake::Fault::Input | lake::Fault::Fatal => Fault::Fatal,
                }
            }
            Self::Database(error) => error.fault(),
            // Another process has the partition, or had it: what the table has says where to go on.
            Self::Commit(CommitError::Moved { .. }) => Fault::Outage,
            Self::Commit(CommitError::NotContiguous { .. })
            | Self::Record { .. }
            | Self::Columns { .. }
            | Self::NoEvent { .. }
            | Self::Ids { .. }
            | Self::Rejects { .. }
            | Self::OutOfOrder { .. }
            | Self::Thread { .. } => Fault::Fatal,
        }
    }

    /// The whole chain of causes as one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
