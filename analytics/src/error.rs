//! What can go wrong with a question, by whose fault it is.

use datafusion::error::DataFusionError;
use event::record::RecordError;
use event::schema::SchemaError;
use journal::ReadError;

/// Whose fault an error is, so who must act. The status code follows from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The question cannot be answered as it is.
    Input,
    /// What is asked for is not there.
    Absent,
    /// It was there and retention removed it.
    Removed,
    /// No asked-for format can be made.
    Unacceptable,
    /// A bound was reached; the same again later may pass.
    Overload,
    /// The question took longer than allowed.
    Timeout,
    /// Something that is read is away or damaged; an operator should look.
    Outage,
    /// The question ended the process that ran it.
    Fatal,
}

/// Why a question got no answer. It travels from a worker process as it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum QueryError {
    /// A parameter or a statement is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No such stream or event.
    #[error("{0}")]
    NotFound(String),
    /// Retention removed the event.
    #[error("event {index} was removed by retention, the oldest one is {oldest}")]
    Removed {
        /// What was asked for.
        index: u64,
        /// The oldest event that is there.
        oldest: u64,
    },
    /// No format of `Accept` can be made.
    #[error(
        "none of `{0}` can be made, possible are JSON, NDJSON, CSV, Arrow stream, Parquet and plain text"
    )]
    NotAcceptable(String),
    /// As many queries run as may.
    #[error("{limit} queries run already, which is the limit")]
    Busy {
        /// Most queries at once.
        limit: usize,
    },
    /// The journal has not reached `min_position` in time.
    #[error("the journal has not reached position {0} in time")]
    NotYet(String),
    /// There is no place now, or something is not known yet; the same again later passes.
    #[error("{0}")]
    NotNow(String),
    /// The time limit was reached.
    #[error("the query took longer than {0} ms")]
    Timeout(u128),
    /// The memory or spill limit was reached.
    #[error("the query needs more memory than it may have: {0}")]
    Memory(String),
    /// Rows or bytes of an answer exceed the bound.
    #[error("{0}")]
    TooLarge(String),
    /// The tail went into the lake and out of the journal while it was read; the same again passes.
    #[error("the journal let go of what was being read: {0}")]
    Moved(String),
    /// The engine gave up with a panic, which ended this query and nothing else.
    #[error("the engine cannot run this query")]
    Engine,
    /// No worker process became free for the query in time.
    #[error("every worker of SQL was busy for {0} ms")]
    NoWorker(u128),
    /// The worker process ended while it ran the query, and most likely because of it.
    #[error(
        "the query ended its worker process ({0}): it asks for more memory or for deeper nesting than a query may have; \
         simplify it"
    )]
    WorkerDied(String),
    /// Somebody, or the system for want of memory, killed the worker process while it ran the query.
    #[error("the query's worker process was killed ({0}) by somebody, or by the system when memory ran out")]
    WorkerKilled(String),
    /// The lake, the journal or a file cannot be read.
    #[error("{0}")]
    Storage(String),
}

impl QueryError {
    /// No stream has that name, or none that whoever asks may know of.
    pub(crate) fn no_stream(name: &str) -> Self {
        Self::NotFound(format!("there is no stream `{name}`"))
    }

    /// Who must act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) | Self::TooLarge(_) | Self::Engine => Fault::Input,
            Self::NotFound(_) => Fault::Absent,
            Self::Removed { .. } => Fault::Removed,
            Self::NotAcceptable(_) => Fault::Unacceptable,
            Self::Busy { .. }
            | Self::NotYet(_)
            | Self::NotNow(_)
            | Self::Memory(_)
            | Self::Moved(_)
            | Self::NoWorker(_)
            | Self::WorkerKilled(_) => Fault::Overload,
            Self::WorkerDied(_) => Fault::Fatal,
            Self::Timeout(_) => Fault::Timeout,
            Self::Storage(_) => Fault::Outage,
        }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => Self::Memory(message.clone()),
            DataFusionError::External(inner) => {
                let own = inner.downcast_ref::<Self>().cloned();
                own.unwrap_or_else(|| Self::Storage(error.to_string()))
            }
            DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::IoError(_) => Self::Storage(error.to_string()),
            other => Self::Invalid(other.strip_backtrace()),
        }
    }
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone { .. } => Self::Moved(error.to_string()),
            other => Self::Storage(other.to_string()),
        }
    }
}

macro_rules! storage {
    ($($source:ty),+) => {$(
        impl From<$source> for QueryError {
            fn from(error: $source) -> Self {
                Self::Storage(error.to_string())
            }
        }
    )+};
}

storage!(
    arrow_schema::ArrowError,
    lake::LakeError,
    parquet::errors::ParquetError,
    std::io::Error,
    RecordError,
    SchemaError
);
