//! Which files of a table no commit lists yet, although somebody is at work on them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of files that are being written or wait for their commit: vacuum leaves them alone, whatever their age.
#[derive(Debug, Default)]
pub(crate) struct Unlisted(Mutex<HashSet<String>>);

/// A name in [`Unlisted`] until it is dropped.
#[derive(Debug)]
pub(crate) struct UnlistedName {
    names: Arc<Unlisted>,
    name: String,
}

impl Unlisted {
    /// Keeps a name until the guard is dropped.
    pub(crate) fn keep(self: &Arc<Self>, name: &str) -> UnlistedName {
        self.names().insert(name.to_owned());
        UnlistedName {
            names: Arc::clone(self),
            name: name.to_owned(),
        }
    }

    /// The names of now.
    pub(super) fn all(&self) -> HashSet<String> {
        self.names().clone()
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnlistedName {
    fn drop(&mut self) {
        self.names.names().remove(&self.name);
    }
}
