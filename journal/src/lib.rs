//! The journal: the ordered, durable log between ingest and everything else.
//!
//! One contract ([`Journal`]), more than one implementation: [`embedded`] keeps segment files in one directory;
//! [`kafka`] has a topic for each stream. `contract` is the test suite that every implementation must pass.
//!
//! Promises kept here: I-1 (an append that returned is durable), I-4, I-8.

pub mod backoff;
pub mod batcher;
mod chain;
pub mod contract;
pub mod embedded;
pub mod error;
pub mod group;
mod journal;
pub mod kafka;
mod record_decoder;

pub use backoff::Backoff;
pub use batcher::Batcher;
pub use chain::ChainedJournal;
pub use error::{AppendError, Fault, ReadError, Replaced};
pub use group::{Assignment, GroupMember, SoleMember};
pub use journal::{Durability, Journal, JournalId, JournalReader, JsonMessage, Payload, Record};
pub use record_decoder::{Decoded, Messages, RecordDecoder};
