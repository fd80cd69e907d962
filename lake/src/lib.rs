//! The lake: one Delta table of Parquet files for each stream.
//!
//! Promises kept here: I-2 (data and position in one commit), I-3 (a file counts when a durable commit lists
//! it), and the index: event n of a stream is the same event for ever.

pub mod error;
pub mod table;

pub use error::{CommitError, Fault, LakeError};
pub use table::{
    Advance, CompactOptions, CompactReport, DataFile, FileWriter, Lake, LakeOptions, Located, Snapshot,
    Table, VacuumReport, VerifyReport, WriterOptions, WrittenFile,
};
