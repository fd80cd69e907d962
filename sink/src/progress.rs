//! How far a destination is with each stream.

use std::sync::{Arc, Mutex, PoisonError};

use event::{Offset, Partition, Position, StreamName};
use journal::{Journal, ReadError};
use tokio::sync::watch;

/// How far a destination is with one partition of one stream.
#[derive(Clone, Debug)]
pub struct StreamProgress {
    /// The stream.
    pub stream: StreamName,
    /// The partition.
    pub partition: Partition,
    /// Whether it is this process's work now. What else is said of it means something only then.
    pub assigned: bool,
    /// The journal's end when this was asked for.
    pub end: Offset,
    /// Everything below was read and written, if perhaps not committed.
    pub read: Offset,
    /// Everything below is committed.
    pub committed: Offset,
    /// Whether the destination has said where it stands, so that `committed` is known.
    pub positioned: bool,
    /// Rows that were read and wait for the next commit.
    pub rows_open: u64,
    /// Rows that were left out since this process has the partition, because their id was there already.
    pub duplicates: u64,
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
            assigned: false,
            end: Offset(0),
            read: Offset(0),
            committed: Offset(0),
            positioned: false,
            rows_open: 0,
            duplicates: 0,
            failing: None,
            stopped: None,
        }
    }

    /// What is committed, if this process knows it.
    #[must_use]
    pub fn known(&self) -> Option<Offset> {
        (self.assigned && self.positioned).then_some(self.committed)
    }

    /// Records that were not read yet.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        self.end.0.saturating_sub(self.read.0)
    }
}

/// Counts the moves of all partitions of one destination, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Moves(watch::Sender<u64>);

impl Moves {
    pub(crate) fn new() -> Self {
        Self(watch::channel(0).0)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// What a consumer tells about itself, behind a lock that is held for a copy only.
#[derive(Debug)]
pub(crate) struct Shared {
    progress: Mutex<StreamProgress>,
    moves: Moves,
}

impl Shared {
    pub(crate) fn new(stream: StreamName, partition: Partition, moves: &Moves) -> Self {
        Self {
            progress: Mutex::new(StreamProgress::new(stream, partition)),
            moves: moves.clone(),
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
        self.get().assigned
    }

    /// Says whether the partition is this process's. What was known of it is of no use when it comes back.
    pub(crate) fn set_assigned(&self, assigned: bool) {
        self.update(|progress| {
            let (stream, partition) = (progress.stream.clone(), progress.partition);
            *progress = StreamProgress::new(stream, partition);
            progress.assigned = assigned;
        });
    }

    /// Everything below is committed, and nothing above was read since.
    pub(crate) fn committed(&self, at: Offset) {
        self.update(|progress| {
            progress.read = at;
            progress.committed = at;
            progress.positioned = true;
            progress.rows_open = 0;
        });
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut StreamProgress)) {
        let moved = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let before = progress.known();
            change(&mut progress);
            progress.known() != before
        };
        if moved {
            self.moves.0.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A partition that is this process's for as long as this lives, also when its task is dropped.
pub(crate) struct Owned(Arc<Shared>);

impl Owned {
    pub(crate) fn new(progress: &Arc<Shared>) -> Self {
        progress.set_assigned(true);
        Self(Arc::clone(progress))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.set_assigned(false);
    }
}

/// Counts rows that a destination left out because their id was there already.
pub(crate) fn count_duplicates(stream: &str, destination: &str, count: u64) {
    metrics::counter!(
        "tidemill_duplicates_total",
        "stream" => stream.to_owned(),
        "destination" => destination.to_owned(),
    )
    .increment(count);
}

/// What is committed of one partition, if this process knows it.
pub(crate) fn committed(shared: &[Arc<Shared>], stream: &StreamName, partition: Partition) -> Option<Offset> {
    shared.iter().map(|shared| shared.get()).find_map(|one| {
        let same = one.stream == *stream && one.partition == partition;
        one.known().filter(|_| same)
    })
}

/// What is committed of every partition that this process knows of.
pub(crate) fn all_committed(shared: &[Arc<Shared>]) -> Vec<(StreamName, Partition, Offset)> {
    let all = shared.iter().map(|shared| shared.get());
    all.filter_map(|one| Some((one.stream.clone(), one.partition, one.known()?)))
        .collect()
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

/// How far some partitions are, with the journal's ends as they are now. A stream whose end the journal cannot tell
/// ends where it was read.
pub(crate) async fn read(journal: &dyn Journal, shared: &[Arc<Shared>]) -> Vec<StreamProgress> {
    let mut all: Vec<_> = shared.iter().map(|shared| shared.get()).collect();
    // Partitions of one stream are neighbours.
    for stream in all.chunk_by_mut(|one, next| one.stream == next.stream) {
        let ends = journal.end(&stream[0].stream).await;
        for one in stream {
            let found =
                |ends: &Vec<Position>| ends.iter().find(|end| end.partition == one.partition).copied();
            one.end = ends
                .as_ref()
                .ok()
                .and_then(found)
                .map_or(one.read, |end| end.offset);
        }
    }
    all
}
