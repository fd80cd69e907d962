//! What the writer thread, readers and callers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{Offset, StreamName};
use tokio::sync::watch;

use super::disk::{Disk, DiskFile};
use super::frame::Place;
use super::index::Index;
use super::options::EmbeddedOptions;
use super::spares::{SpareFile, Spares};
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
    /// The file of a segment that nobody reads any more, until it is removed or kept.
    pub(super) removing: Mutex<Option<SpareFile>>,
    /// Files to be written again.
    pub(super) spares: Spares,
    /// Where each open reader is; what lies from there on stays.
    pub(super) readers: Mutex<HashMap<u64, (StreamName, Offset)>>,
    pub(super) queue: Queue,
    /// The file that tells other processes how far they may read; a reader has none when nobody has written it.
    pub(super) durable: Option<Arc<dyn DiskFile>>,
    /// For a journal that another process writes: up to where this one's index goes.
    pub(super) followed: Option<Mutex<Place>>,
    /// For each stream that somebody has read: counts the groups that brought records of it, to wake its readers and
    /// nobody else.
    groups: Mutex<HashMap<StreamName, watch::Sender<u64>>>,
    health: watch::Sender<Health>,
}

impl Shared {
    pub(super) fn new(
        options: EmbeddedOptions,
        disk: Arc<dyn Disk>,
        index: Index,
        durable: Option<Arc<dyn DiskFile>>,
        followed: Option<Place>,
    ) -> Self {
        let (index, queue) = (Mutex::new(index), Queue::default());
        let health = followed.map_or(Health::Writable, |_| Health::ReadOnly);
        let (groups, health) = (Mutex::default(), watch::Sender::new(health));
        Self {
            options,
            disk,
            index,
            removing: Mutex::default(),
            spares: Spares::default(),
            readers: Mutex::default(),
            queue,
            durable,
            followed: followed.map(Mutex::new),
            groups,
            health,
        }
    }

    /// Wakes the readers of streams that have more, or may; they look themselves whether there is something for them.
    pub(super) fn wake_readers(&self, has_more: impl Fn(&StreamName) -> bool) {
        for (_, groups) in lock(&self.groups).iter().filter(|(stream, _)| has_more(stream)) {
            groups.send_modify(|groups| *groups += 1);
        }
    }

    /// What changes when a stream has more records.
    pub(super) fn groups(&self, stream: &StreamName) -> watch::Receiver<u64> {
        let mut groups = lock(&self.groups);
        groups
            .entry(stream.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
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
