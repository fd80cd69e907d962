//! Why a command ended without success: what is printed, and the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// What every command gives.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// A command failed for a reason of its own.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration cannot be used; `clap` uses the same code.
pub(crate) const USAGE: u8 = 2;
/// The journal stopped after a failed write or fsync (I-8): start again, recovery works from disk.
pub(crate) const JOURNAL_STOPPED: u8 = 70;
/// A second signal ended the process before the ordered shutdown was through.
pub(crate) const SECOND_SIGNAL: u8 = 130;

/// Why a command failed. Made from any error by `?`.
pub(crate) struct Failure {
    exit: u8,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure with an exit code of its own.
    pub(crate) fn with_exit(exit: u8, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            exit,
            source: source.into(),
        }
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(source: E) -> Self {
        Self::with_exit(FAILED, source)
    }
}

/// The whole chain of causes, once.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
