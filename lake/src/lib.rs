//! The lake: one Delta table of Parquet files for each stream.
//!
//! ```text
//! writer (columns → one durable Parquet file) ──► table.commit (files + positions, one Delta commit)
//!                                                      │
//! readers ◄── snapshot (files in index order, positions, first indexes) ◄──┘
//! ```
//!
//! Promises kept here: I-2 (data and position in one commit), I-3 (a file counts when a durable commit lists
//! it), and the index: event n of a stream is the same event for ever.
//!
//! Besides appending, tables are kept in shape: compaction merges small neighbours, retention removes the oldest
//! files, vacuum deletes what no version needs, verification compares files with the log.

mod disk;
mod durable;
pub mod error;
mod files;
mod log;
mod options;
mod snapshot;
mod statistics;
mod store;
mod table;
mod tables;
mod verify;
mod writer;

pub use disk::{Disk, DiskFile, LocalDisk, SyncPoint};
pub use error::{CommitError, Fault, LakeError};
pub use options::{CompactOptions, LakeOptions, WriterOptions};
pub use snapshot::{DataFile, Located, Snapshot};
pub use table::{Advance, CompactReport, Table, VacuumReport};
pub use tables::Lake;
pub use verify::VerifyReport;
pub use writer::{FileWriter, WrittenFile};
