//! One version of a table: which files, in index order, and which positions they reach.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use event::{Offset, Partition, Position};

use crate::directory::Directory;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the table's directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// How many events.
    pub rows: u64,
    /// The index of its first row.
    pub first_index: u64,
    /// Lower bound of the stream's time column, microseconds, inclusive and never too high; `None` when unknown.
    pub time_min: Option<i64>,
    /// Upper bound of the stream's time column, microseconds, inclusive and never too low; `None` when unknown.
    pub time_max: Option<i64>,
    /// Upper bound of `_received_at`, microseconds, inclusive and never too low; `None` when unknown.
    pub received_max: Option<i64>,
}

/// One version of a table.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The Delta version.
    pub version: u64,
    /// What the files lie in.
    pub directory: Directory,
    /// The table's columns.
    pub schema: SchemaRef,
    /// The files in index order.
    pub files: Arc<[DataFile]>,
    /// For each partition what is covered (I-2); a partition that is absent is at offset 0.
    pub positions: Vec<Position>,
    /// Events that retention removed: the index of the oldest one that is there.
    pub removed: u64,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// In a file of the snapshot, at a row of it.
    At {
        /// The file's number in [`Snapshot::files`].
        file: usize,
        /// The row, from 0.
        row: u64,
    },
    /// Retention removed it.
    Removed,
    /// Not in this snapshot.
    Past,
}

impl Snapshot {
    /// The index after the last event.
    #[must_use]
    pub fn end_index(&self) -> u64 {
        self.files
            .last()
            .map_or(self.removed, |file| file.first_index + file.rows)
    }

    /// Finds an event by binary search over the files' first indexes.
    #[must_use]
    pub fn locate(&self, index: u64) -> Located {
        if index < self.removed {
            return Located::Removed;
        }
        if index >= self.end_index() {
            return Located::Past;
        }
        let file = self.files.partition_point(|file| file.first_index <= index) - 1;
        Located::At {
            file,
            row: index - self.files[file].first_index,
        }
    }

    /// What is covered of a partition.
    #[must_use]
    pub fn position(&self, partition: Partition) -> Position {
        let found = self
            .positions
            .iter()
            .find(|position| position.partition == partition);
        found.copied().unwrap_or(Position::new(partition, Offset(0)))
    }
}
