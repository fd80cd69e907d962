//! Why a request about sessions or assignments failed, by whose fault it is.

use journal::Fault;

use crate::Status;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// The request says something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// There is no assignment of that id.
    #[error("there is no assignment of this id")]
    Unknown,
    /// The assignment was ended in another way before.
    #[error("the assignment is `{}` already", .0.as_str())]
    Ended(Status),
    /// Too many people have a session.
    #[error("{active} people are active, the limit is {limit}")]
    Crowded {
        /// How many there are.
        active: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too many requests wait.
    #[error("too many requests wait, the limit is {limit}")]
    Busy {
        /// Most that may wait.
        limit: usize,
    },
    /// What keeps sessions or assignments is away. Whether the step was made is not certain; making it again is safe.
    #[error("{operation}: {message}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What was said.
        message: String,
    },
    /// Nothing is assigned any more until a restart.
    #[error("assigning has stopped: {0}")]
    Stopped(String),
}

impl AssignError {
    /// Who must act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) | Self::Unknown | Self::Ended(_) => Fault::Input,
            Self::Crowded { .. } | Self::Busy { .. } => Fault::Overload,
            Self::Unavailable { .. } => Fault::Outage,
            Self::Stopped(_) => Fault::Fatal,
        }
    }
}
