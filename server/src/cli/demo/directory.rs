//! Where a demo keeps its data: a directory that the user named and keeps, or a new one that goes with the demo.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

/// The new directory's name; further ones get a number.
const NAME: &str = "tidemill-demo";

/// Most demos whose directories stayed behind because they were killed.
const LEFT_BEHIND_MAX: u32 = 100;

/// A directory, and whether it goes.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Only what was made by this process is ever removed.
    made_here: bool,
}

impl Directory {
    /// One that stays.
    pub(super) fn kept(path: PathBuf) -> Self {
        Self {
            path,
            made_here: false,
        }
    }

    /// A new one in the current directory: on the disk that the user works on, not in a `/tmp` that may be
    /// memory, where an fsync would cost nothing and the figures would mean nothing.
    pub(super) fn new_here() -> Result<Self, Failure> {
        for number in 1..=LEFT_BEHIND_MAX {
            let name = match number {
                1 => NAME.to_owned(),
                number => format!("{NAME}-{number}"),
            };
            match std::fs::create_dir(&name) {
                Ok(()) => {
                    return Ok(Self {
                        path: name.into(),
                        made_here: true,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::from(format!(
                        "make directory `{name}` here: {error}; name another one with --data-dir"
                    )));
                }
            }
        }
        Err(Failure::from(format!(
            "`{NAME}` to `{NAME}-{LEFT_BEHIND_MAX}` are there already: remove them, or use --data-dir"
        )))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, if it was made here.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        if !self.made_here {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.path)
            .map_err(|error| Failure::from(format!("remove `{}`: {error}", self.path.display())))
    }
}

impl Drop for Directory {
    /// For ways out with an error; the orderly one has removed it.
    fn drop(&mut self) {
        if self.made_here && self.path.exists() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.made_here {
            write!(f, "./{path} (removed at the end; --data-dir DIR keeps it)")
        } else {
            write!(f, "{path}")
        }
    }
}
