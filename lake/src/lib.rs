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
//! A lake lies in a directory or in an S3 bucket ([`Location`]). Several processes may write to one table: whoever
//! gets the next version into the log first wins, and the others build theirs anew on top of it (`table::commit`).
//!
//! Besides appending, tables are kept in shape: compaction merges small neighbours, retention removes the oldest
//! files, vacuum deletes what no version needs, verification compares files with the log.

mod bucket;
mod directory;
mod disk;
mod durable;
pub mod error;
mod files;
mod location;
mod log;
mod object;
mod options;
mod runtime;
mod snapshot;
mod statistics;
mod storage;
mod store;
mod table;
mod tables;
mod verify;
mod writer;

pub use directory::{BucketDirectory, Directory, FileLocation};
pub use disk::{Disk, DiskFile, LocalDisk, SyncPoint};
pub use error::{CommitError, Fault, LakeError};
pub use location::{Location, LocationError, StoreSettings};
pub use object::ObjectFile;
pub use options::{CompactOptions, LakeOptions, WriterOptions};
pub use snapshot::{DataFile, Located, Snapshot};
pub use table::{Advance, CompactReport, PartitionRows, Source, Table, VacuumReport};
pub use tables::Lake;
pub use verify::VerifyReport;
pub use writer::threads::EncodingThreads;
pub use writer::{FileWriter, WrittenFile};
