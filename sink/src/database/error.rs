//! What can go wrong with a database, by who must act. Decided by codes and kinds, never by texts.

use event::Offset;

use super::mapping::MappingError;
use crate::Fault;

/// Why a database could not be written or read. No variant holds a URL or a password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is away, overloaded or read-only, or it undid the transaction: the same again later may pass.
    #[error("{operation}: {message}")]
    Outage {
        /// What was tried, in present tense: `connect`, `load rows` …
        operation: &'static str,
        /// What was said, with the code if there is one.
        message: String,
    },
    /// It refuses for a reason that only a person can change: no such database, no right, a wrong statement.
    #[error("{operation}: {message}")]
    Denied {
        /// What was tried, in present tense.
        operation: &'static str,
        /// What was said, with the code if there is one.
        message: String,
    },
    /// It did not answer in time.
    #[error("{operation}: no answer within {waited_ms} ms")]
    Timeout {
        /// What was tried, in present tense.
        operation: &'static str,
        /// For how long, in milliseconds.
        waited_ms: u128,
    },
    /// Somebody else wrote this partition meanwhile. Nothing was written; the stored position says where to go on.
    #[error("the stored position is {found}, this process was at {expected}")]
    Moved {
        /// What the database has, for people: an offset, perhaps of another journal, or nothing.
        found: String,
        /// Where this process stood.
        expected: Offset,
    },
    /// The stored position is one of another journal: offsets mean nothing here.
    #[error(
        "table `{table}` stands at offset {offset} of journal `{stored}`, this is journal `{journal}`; if the \
         table shall go on from the beginning of this one, delete its rows in `tidemill_positions`"
    )]
    OtherJournal {
        /// The target table.
        table: String,
        /// Its stored offset.
        offset: Offset,
        /// The journal that it names.
        stored: String,
        /// The journal that is read.
        journal: String,
    },
    /// An existing table is not what the declaration or the mapping says.
    #[error("table `{table}` differs from the declaration: {difference}")]
    Differs {
        /// The table.
        table: String,
        /// What differs, and what was expected.
        difference: String,
    },
    /// The mapping does not fit this kind of database.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

impl DatabaseError {
    /// Who must act; retry, stop and alert follow from this alone.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            // Whoever was overtaken begins again at the stored position, after a wait like any other.
            Self::Outage { .. } | Self::Timeout { .. } | Self::Moved { .. } => Fault::Outage,
            // A right can be granted and a database created while this runs; nothing is lost by asking again.
            Self::Denied { .. } => Fault::Outage,
            Self::OtherJournal { .. } | Self::Differs { .. } | Self::Mapping(_) => Fault::Fatal,
        }
    }

    /// A label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Outage { .. } => "outage",
            Self::Denied { .. } => "denied",
            Self::Timeout { .. } => "timeout",
            Self::Moved { .. } => "moved",
            Self::OtherJournal { .. } => "other_journal",
            Self::Differs { .. } => "differs",
            Self::Mapping(_) => "mapping",
        }
    }
}
