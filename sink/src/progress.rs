//! How far a destination is with each stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use event::{Offset, Partition, StreamName};
use journal::{Journal, ReadError};

/// How far a destination is with one partition of one stream.
#[derive(Clone, Debug)]
pub struct StreamProgress {
    /// The stream.
    pub stream: StreamName,
    /// The partition.
    pub partition: Partition,
    /// The journal's end when this was asked for.
    pub end: Offset,
    /// Everything below was read and written, if perhaps not committed.
    pub read: Offset,
    /// Everything below is committed.
    pub committed: Offset,
    /// Rows that were read and wait for the next commit.
    pub rows_open: u64,
    /// Why the last try failed, while it is tried again.
    pub failing: Option<String>,
    /// Why this stream's sink stopped; it does not go on before a restart.
    pub stopped: Option<String>,
}

impl StreamProgress {
    fn new(stream: StreamName, partition: Partition) -> Self {
        Self {
            stream,
            partition,
            end: Offset(0),
            read: Offset(0),
            committed: Offset(0),
            rows_open: 0,
            failing: None,
            stopped: None,
        }
    }

    /// Records that were not read yet.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        self.end.0.saturating_sub(self.read.0)
    }
}

/// What a consumer tells about itself, behind a lock that is held for a copy only.
#[derive(Debug)]
pub(crate) struct Shared {
    progress: Mutex<StreamProgress>,
    /// Whether the partition is this process's now.
    assigned: AtomicBool,
}

impl Shared {
    pub(crate) fn new(stream: StreamName, partition: Partition) -> Self {
        Self {
            progress: Mutex::new(StreamProgress::new(stream, partition)),
            assigned: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self) -> StreamProgress {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the partition is this process's now.
    pub(crate) fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Acquire)
    }

    /// Says whether the partition is this process's. What was known of it is of no use when it comes back.
    pub(crate) fn set_assigned(&self, assigned: bool) {
        self.update(|progress| {
            let (stream, partition) = (progress.stream.clone(), progress.partition);
            *progress = StreamProgress::new(stream, partition);
        });
        self.assigned.store(assigned, Ordering::Release);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut StreamProgress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The journal's end in one partition.
pub(crate) async fn end_of(
    journal: &dyn Journal,
    stream: &StreamName,
    partition: Partition,
) -> Result<Offset, ReadError> {
    let ends = journal.end(stream).await?;
    let end = ends.iter().find(|position| position.partition == partition);
    Ok(end.map_or(Offset(0), |position| position.offset))
}
