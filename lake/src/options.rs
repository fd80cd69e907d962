//! How a lake is opened, written and kept up.

use std::time::Duration;

use crate::location::{Location, StoreSettings};

/// Where and how a lake is opened.
#[derive(Clone, Debug)]
pub struct LakeOptions {
    /// What the tables lie in: a directory, or a bucket.
    pub root: Location,
    /// How a bucket is reached; nothing of it is looked at for a directory.
    pub store: StoreSettings,
    /// The id of the journal that fills the tables which name none ([`Lake::table_of`](crate::Lake::table_of));
    /// kept in each table, another is refused.
    pub journal: String,
    /// Refuses every write; creates nothing, takes no lock.
    pub read_only: bool,
    /// Whether other processes write to the same tables. In a bucket that is always so. Without it a directory is
    /// locked, and a second process that would write to it is refused.
    pub shared: bool,
    /// For how long removed files and old log entries stay for running readers (vacuum).
    pub keep_removed: Duration,
}

impl LakeOptions {
    /// A lake that one process writes, whose removed files stay for 15 minutes.
    #[must_use]
    pub fn new(root: impl Into<Location>, journal: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            store: StoreSettings::default(),
            journal: journal.into(),
            read_only: false,
            shared: false,
            keep_removed: Duration::from_secs(900),
        }
    }
}

/// How Parquet files are written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Most rows of a row group. Default: 1 Mi.
    pub row_group_rows: usize,
    /// lz4_raw in place of zstd(1) for text. Default: false.
    pub lz4: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            row_group_rows: 1 << 20,
            lz4: false,
        }
    }
}

/// What compaction merges.
#[derive(Clone, Debug)]
pub struct CompactOptions {
    /// Files below this size are merged with their neighbours, in bytes.
    pub small_bytes: u64,
    /// Merged files grow up to about this size, in bytes.
    pub target_bytes: u64,
}
