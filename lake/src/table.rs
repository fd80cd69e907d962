//! Skeleton of the lake's public interface.
#![allow(clippy::unimplemented, unused_variables, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use event::{Offset, Partition, Position, StreamDeclaration};

use crate::{CommitError, LakeError};

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

/// All tables of one directory. A writer takes a lock; several readers are fine.
#[derive(Debug)]
pub struct Lake {}

impl Lake {
    pub async fn open(options: LakeOptions) -> Result<Arc<Self>, LakeError> {
        unimplemented!()
    }
    /// Opens the stream's table, creates it (empty, row tracking on) or adds the columns that are new in the
    /// declaration. In a read-only lake a table that does not exist yet reads as empty.
    pub async fn table(&self, stream: Arc<StreamDeclaration>) -> Result<Arc<Table>, LakeError> {
        unimplemented!()
    }
}

/// One stream's table.
#[derive(Debug)]
pub struct Table {}

/// A range of offsets of one partition that a commit covers: [from, to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub partition: Partition,
    pub from: Offset,
    pub to: Offset,
}

/// How Parquet files are written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Most rows of a row group. Default: 1 Mi.
    pub row_group_rows: usize,
    /// lz4_raw in place of zstd(1) for text.
    pub lz4: bool,
}

/// Encodes batches into one Parquet file as they come.
pub struct FileWriter {}

impl FileWriter {
    /// Encodes rows in the lake schema (`event::schema::lake`). CPU-bound: call it off the I/O threads.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        unimplemented!()
    }
    /// Rows so far.
    pub fn rows(&self) -> u64 {
        unimplemented!()
    }
    /// Bytes that the file will have, about.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Writes the footer and makes file and directory durable (I-3).
    pub fn finish(self) -> Result<WrittenFile, LakeError> {
        unimplemented!()
    }
}

/// A durable file that no commit lists yet. Dropping it leaves the file to vacuum.
#[derive(Debug)]
pub struct WrittenFile {
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
}

/// One file of a snapshot, in index order.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Relative to the table's directory.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    /// The index of its first row.
    pub first_index: u64,
    /// Bounds of the stream's time column, microseconds, both inclusive and never too narrow.
    pub time_min: Option<i64>,
    pub time_max: Option<i64>,
}

/// One version of a table: which files, in index order, and which positions they reach (I-2).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub version: u64,
    /// The table's directory.
    pub directory: PathBuf,
    pub schema: SchemaRef,
    pub files: Arc<[DataFile]>,
    /// Per partition what is covered; a partition that is absent is at offset 0.
    pub positions: Vec<Position>,
    /// Events that retention removed; the index of the oldest one that is there.
    pub removed: u64,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// In `files[file]`, at that row.
    At { file: usize, row: u64 },
    /// Retention removed it (410).
    Removed,
    /// Not in this snapshot.
    Past,
}

impl Snapshot {
    /// The index after the last event: `removed` + rows of all files.
    pub fn end_index(&self) -> u64 {
        unimplemented!()
    }
    /// Finds an event by binary search over the files' first indexes.
    pub fn locate(&self, index: u64) -> Located {
        unimplemented!()
    }
    pub fn position(&self, partition: Partition) -> Position {
        unimplemented!()
    }
}

/// What compaction merges.
#[derive(Clone, Debug)]
pub struct CompactOptions {
    /// Files below this size are merged with their neighbours.
    pub small_bytes: u64,
    /// Merged files grow up to about this size.
    pub target_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct CompactReport {
    pub files_removed: u64,
    pub files_added: u64,
    pub rows: u64,
}
#[derive(Clone, Debug, Default)]
pub struct VacuumReport {
    pub files_deleted: u64,
    pub bytes_deleted: u64,
    pub log_files_deleted: u64,
}
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    pub version: u64,
    pub files: u64,
    pub rows: u64,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

impl Table {
    pub fn declaration(&self) -> &Arc<StreamDeclaration> {
        unimplemented!()
    }
    /// The newest version. Costs little when nothing changed.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, LakeError> {
        unimplemented!()
    }
    pub fn writer(&self, options: &WriterOptions) -> Result<FileWriter, LakeError> {
        unimplemented!()
    }
    /// Appends files and moves positions in one durable commit, after checking that each `advance.from` is the
    /// stored position. Several files keep their order. An unknown outcome is looked up before this returns.
    pub async fn commit(
        &self,
        files: Vec<WrittenFile>,
        advance: &[Advance],
    ) -> Result<Arc<Snapshot>, CommitError> {
        unimplemented!()
    }
    pub async fn compact(&self, options: &CompactOptions) -> Result<CompactReport, LakeError> {
        unimplemented!()
    }
    /// Removes whole oldest files whose newest event is older than the stream's `retention` at `now`
    /// (microseconds). Gives the number of events removed.
    pub async fn expire(&self, now: i64) -> Result<u64, LakeError> {
        unimplemented!()
    }
    pub async fn vacuum(&self) -> Result<VacuumReport, LakeError> {
        unimplemented!()
    }
    pub async fn verify(&self) -> Result<VerifyReport, LakeError> {
        unimplemented!()
    }
}
