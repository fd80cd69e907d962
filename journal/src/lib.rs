//! The journal: the ordered, durable log between ingest and everything else.
//!
//! One contract ([`Journal`]), more than one implementation: [`embedded`] keeps segment files in one directory;
//! Kafka comes next. `contract` is the test suite that every implementation must pass.
//!
//! Promises kept here: I-1 (an append that returned is durable), I-4, I-8.

pub mod batcher;
pub mod contract;
pub mod embedded;
pub mod error;
mod journal;

pub use batcher::Batcher;
pub use error::{AppendError, Fault, ReadError};
pub use journal::{Durability, Journal, JournalId, JournalReader, Record};
