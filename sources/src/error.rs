//! What can go wrong with a source, by who must act. Decided by codes and kinds, never by texts.

use journal::AppendError;

/// Whose fault an error is, so who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was configured can never work.
    Input,
    /// Something outside is away or refuses; it is tried again.
    Outage,
    /// The journal is shutting down.
    Closing,
    /// Only a restart, or a person, helps.
    Fatal,
}

/// Why a source cannot go on. No variant holds a URL or a password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What was configured contradicts itself or the stream.
    #[error("{0}")]
    Config(String),
    /// PostgreSQL or RabbitMQ is away, refuses, or does not answer.
    #[error("{operation}: {message}")]
    Away {
        /// What was tried, in present tense.
        operation: &'static str,
        /// What was said, with the code if there is one.
        message: String,
    },
    /// PostgreSQL refuses what a statement wants to write: a constraint, a trigger, a value that is none.
    #[error("{operation}: {message}")]
    Row {
        /// What was tried, in present tense.
        operation: &'static str,
        /// What was said, with the code.
        message: String,
    },
    /// The journal did not take the events.
    #[error("append to the journal")]
    Append(#[from] AppendError),
    /// Columns do not fit the declaration: a broken invariant.
    #[error("make a batch")]
    Columns(#[from] arrow_schema::ArrowError),
}

impl SourceError {
    /// Who must act; retry, stop and alert follow from this alone.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Config(_) => Fault::Input,
            Self::Away { .. } | Self::Row { .. } => Fault::Outage,
            Self::Append(AppendError::Closed) => Fault::Closing,
            Self::Append(error) => match error.fault() {
                journal::Fault::Overload | journal::Fault::Outage => Fault::Outage,
                journal::Fault::Input | journal::Fault::Fatal => Fault::Fatal,
            },
            Self::Columns(_) => Fault::Fatal,
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

    /// An answer that did not come in time.
    pub(crate) fn late(operation: &'static str, waited: std::time::Duration) -> Self {
        Self::Away {
            operation,
            message: format!("no answer within {} ms", waited.as_millis()),
        }
    }
}
