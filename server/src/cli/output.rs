//! The standard output of commands: a reader who has seen enough, as `head` has, is no error; a full disk is.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use super::{Failure, Outcome};

/// Writes a result.
pub(crate) fn print(text: impl Display) -> Outcome {
    let mut out = std::io::stdout().lock();
    ended(write!(out, "{text}").and_then(|()| out.flush()))
}

/// What it means for a command that its output was written, or not.
pub(crate) fn ended(written: std::io::Result<()>) -> Outcome {
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::from(format!("write the output: {error}"))),
    }
}
