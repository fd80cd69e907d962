//! What can go wrong with a rollup, by who must act.

use event::record::RecordError;
use event::schema::SchemaError;
use journal::{AppendError, Fault, ReadError};
use lake::LakeError;

use crate::QueryError;

/// Why a rollup does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RollupError {
    /// The journal cannot be read.
    #[error("read the journal: {0}")]
    Read(#[from] ReadError),
    /// The journal did not take a window.
    #[error("append a window: {0}")]
    Append(#[from] AppendError),
    /// The lake cannot be read.
    #[error("read the lake: {0}")]
    Lake(#[from] LakeError),
    /// A record of the source or of the rollup itself is none.
    #[error("decode a record: {0}")]
    Record(#[from] RecordError),
    /// A record's columns are not those of the stream.
    #[error("decode a record: {0}")]
    Columns(#[from] SchemaError),
    /// Rows that are not what they should be.
    #[error("{0}")]
    Rows(String),
    /// The source's rows cannot be read.
    #[error("read the source: {0}")]
    Source(#[source] QueryError),
    /// The SQL failed.
    #[error("compute a window: {0}")]
    Compute(#[from] QueryError),
    /// A thread that read something ended.
    #[error("a thread ended: {0}")]
    Thread(String),
    /// The last row cannot be found, so nobody knows where to go on.
    #[error(
        "the rollup has rows up to offset {0}, of which neither the journal nor the lake has the last one: nobody knows \
         where to go on"
    )]
    NoTip(u64),
    /// The rows count in another journal than the source is in now.
    #[error(
        "the rollup's rows are ranges of journal `{counted}`, and the source is in `{found}` now: give the rollup another \
         name, or remove its topic together with its source's"
    )]
    OtherJournal {
        /// What the last row says.
        counted: String,
        /// What the source is in.
        found: String,
    },
    /// Another process appended the window first.
    #[error("another process has computed this window")]
    Superseded,
}

impl RollupError {
    /// Whether only a person can mend it.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Append(error) => error.fault() == Fault::Fatal,
            Self::Read(error) => matches!(
                error,
                ReadError::Replaced(_) | ReadError::Damaged { .. } | ReadError::NoPartition { .. }
            ),
            Self::NoTip(_) | Self::OtherJournal { .. } => true,
            Self::Lake(_)
            | Self::Record(_)
            | Self::Columns(_)
            | Self::Rows(_)
            | Self::Source(_)
            | Self::Compute(_)
            | Self::Thread(_)
            | Self::Superseded => false,
        }
    }
}
