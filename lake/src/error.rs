//! What can go wrong with the lake, by whose fault it is.

use event::{Offset, Position};

/// Whose fault an error is, so who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The declaration or an argument does not fit the table.
    Input,
    /// The store is away or full; the same again later may pass.
    Outage,
    /// An invariant is broken; somebody must look before anything is written again.
    Fatal,
}

/// Why the lake could not be read or kept up.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The table in the lake has columns that the declaration does not allow.
    #[error("table `{stream}` does not fit its declaration: {message}")]
    Schema {
        /// The stream.
        stream: String,
        /// What differs.
        message: String,
    },
    /// Another writer holds this lake.
    #[error("lake `{path}` is in use by another process")]
    Locked {
        /// The lake's directory.
        path: String,
    },
    /// The bucket is not there, does not let us in, or is not one that several writers can share.
    #[error("the lake in `{location}` cannot be used: {message}")]
    Refused {
        /// The bucket, without credentials.
        location: String,
        /// What the store said.
        message: String,
    },
    /// The lake was opened for reading only.
    #[error("the lake is open for reading only")]
    ReadOnly,
    /// The table belongs to another journal.
    #[error("table `{stream}` was filled from journal `{found}`, this one is `{expected}`: see `adopt`")]
    OtherJournal {
        /// The stream.
        stream: String,
        /// The journal that the table names.
        found: String,
        /// The journal that is in use.
        expected: String,
    },
    /// Delta, Parquet or the store failed.
    #[error("{operation} table `{stream}`: {message}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// The stream.
        stream: String,
        /// What the library or system said.
        message: String,
    },
    /// An fsync failed, so nothing more is written until a restart has read what is there (I-8).
    #[error("the lake takes no more writes until a restart: {message}")]
    SyncFailed {
        /// Which one, and what the system said.
        message: String,
    },
    /// Files of the table are not what the log says.
    #[error("table `{stream}` is damaged: {message}")]
    Damaged {
        /// The stream.
        stream: String,
        /// What is wrong.
        message: String,
    },
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The table has what these files have, or a part of it: somebody else has taken the partition over. Nothing was
    /// written; whoever still owns the partition begins anew at the stored offset.
    #[error("files begin at {from} but the table has the partition up to offset {stored} already")]
    Moved {
        /// Where the files begin.
        from: Position,
        /// The offset that the table has stored.
        stored: Offset,
    },
    /// The table ends before the files begin: a gap. Nothing was written (I-2).
    #[error("files begin at {from} but the table ends at offset {stored}")]
    NotContiguous {
        /// Where the files begin.
        from: Position,
        /// The offset that the table has stored.
        stored: Offset,
    },
    /// It was made or not: the log cannot be read, or not be made durable. Ask the table for its position.
    #[error("the outcome of a commit is unknown")]
    Unknown {
        /// Why.
        source: LakeError,
    },
    /// Anything else; the commit is not there.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// For changes that move no positions.
impl From<CommitError> for LakeError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Lake(error) | CommitError::Unknown { source: error } => error,
            CommitError::Moved { .. } | CommitError::NotContiguous { .. } => Self::Store {
                operation: "commit to",
                stream: "*".to_owned(),
                message: error.to_string(),
            },
        }
    }
}

impl LakeError {
    /// Who must act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Schema { .. } | Self::ReadOnly => Fault::Input,
            Self::Locked { .. } | Self::Store { .. } => Fault::Outage,
            Self::Refused { .. }
            | Self::OtherJournal { .. }
            | Self::SyncFailed { .. }
            | Self::Damaged { .. } => Fault::Fatal,
        }
    }
}
