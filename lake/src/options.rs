//! How a lake is opened, written and kept up.

use std::path::PathBuf;
use std::time::Duration;

/// Where and how a lake is opened.
#[derive(Clone, Debug)]
pub struct LakeOptions {
    /// The directory whose subdirectories are the tables.
    pub root: PathBuf,
    /// The id of the journal that fills it (`JournalId`'s text); kept in each table, another is refused.
    pub journal: String,
    /// Refuses every write; creates nothing, takes no lock.
    pub read_only: bool,
    /// For how long removed files and old log entries stay for running readers (vacuum).
    pub keep_removed: Duration,
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
