//! What the writer thread, readers and callers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::disk::{Disk, DiskFile};
use super::index::Index;
use super::options::EmbeddedOptions;
use super::writer::Queue;
use crate::AppendError;

/// Whether a journal takes records; readiness and the way to stop (I-8) follow from it.
#[derive(Clone, Debug)]
pub enum Health {
    /// It does.
    Writable,
    /// It was opened for reading only.
    ReadOnly,
    /// Not until the disk has more room.
    DiskReserve,
    /// Never again in this process.
    Poisoned(AppendError),
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: EmbeddedOptions,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) index: Mutex<Index>,
    pub(super) queue: Queue,
    pub(super) durable: Arc<dyn DiskFile>,
    /// Counts groups, to wake readers.
    groups: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

impl Shared {
    pub(super) fn new(
        options: EmbeddedOptions,
        disk: Arc<dyn Disk>,
        index: Index,
        durable: Arc<dyn DiskFile>,
        health: Health,
    ) -> Self {
        let (index, queue) = (Mutex::new(index), Queue::default());
        let (groups, health) = (watch::Sender::new(0), watch::Sender::new(health));
        Self {
            options,
            disk,
            index,
            queue,
            durable,
            groups,
            health,
        }
    }

    pub(super) fn wake_readers(&self) {
        self.groups.send_modify(|groups| *groups += 1);
    }

    pub(super) fn groups(&self) -> watch::Receiver<u64> {
        self.groups.subscribe()
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn poison(&self) -> Option<AppendError> {
        if let Health::Poisoned(error) = &*self.health.borrow() {
            Some(error.clone())
        } else {
            None
        }
    }

    pub(super) fn set_poison(&self, error: AppendError) {
        tracing::error!(%error, "the journal takes nothing any more; restart to recover from disk");
        self.health.send_replace(Health::Poisoned(error));
    }

    /// Says whether the disk's reserve is reached; changes nothing else.
    pub(super) fn set_reserve(&self, reached: bool) {
        self.health.send_if_modified(|health| {
            let next = match (&*health, reached) {
                (Health::Writable, true) => Health::DiskReserve,
                (Health::DiskReserve, false) => Health::Writable,
                _ => return false,
            };
            *health = next;
            true
        });
    }
}

/// Locks a mutex whose data are right even if a thread panicked while it held it: nothing here leaves them
/// half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
