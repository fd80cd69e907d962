//! The desk of one process: everything is in the journal.
//!
//! ```text
//!   stream of events ──► reading ──┐
//!   POST, DELETE, PUT ─────────────┤► one task: state ──► one group of the journal: steps and answers ──► replies
//!   time ──────────────────────────┘
//! ```
//!
//! One task has the state, so a choice and the count that it rests on cannot be torn apart (A-3). What it decides in one
//! turn becomes one group of records, and only when that is durable does anybody hear of it; while a group is written
//! the requests for the next one gather. A step of an event names the event's place, so the position and the assignment
//! are one and the same row (A-1, A-2).
//!
//! After a crash the state is what the newest snapshot says and the steps that follow it. Steps that the journal does
//! not have any more are read from the [`Archive`]. Sessions are not kept: after a start people have the time of one
//! session to come back before what they have goes to others.
//!
//! Of assignments that have ended the last [`EmbeddedOptions::remember`] are known: an event that comes once more is
//! told from a new one for so long. Those that are open are always known.

mod archive;
mod desk;
mod history;
mod snapshot;
mod state;
mod steps;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;

use event::{StreamDeclaration, StreamName};
use journal::Journal;

pub use archive::{Archive, ArchiveRows, Row};
pub use desk::EmbeddedDesk;
pub use steps::{answers_stream, assignments_stream};

/// Where an event is in its stream: its record, and its number in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The record's offset.
    pub offset: u64,
    /// The event's number in it, from 0.
    pub row: u32,
}

/// What the embedded desk works on.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The stream whose events are assigned.
    pub stream: Arc<StreamDeclaration>,
    /// The stream of assignments, declared by [`assignments_stream`].
    pub assignments: StreamName,
    /// The stream of answers, declared by [`answers_stream`].
    pub answers: StreamName,
    /// What the journal does not have any more.
    pub archive: Option<Arc<dyn Archive>>,
    /// Where snapshots are kept.
    pub directory: PathBuf,
    /// How many assignments that have ended are remembered.
    pub remember: usize,
}

/// Why the state cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The snapshot cannot be read.
    #[error("read `{}`: {message}; without it the state is made again from the stream of assignments", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The snapshot is of another journal, where offsets mean something else.
    #[error("`{}` belongs to journal {found}, this is {here}: move it away when assigning is to begin anew", path.display())]
    OtherJournal {
        /// The file.
        path: PathBuf,
        /// The journal that it names.
        found: String,
        /// This one.
        here: String,
    },
    /// The journal ends before the snapshot: it is an older copy.
    #[error(
        "the snapshot has stream `{stream}` up to offset {stored}, and the journal ends at {end}: it is an older copy"
    )]
    Ahead {
        /// The stream.
        stream: StreamName,
        /// What the snapshot has.
        stored: u64,
        /// Where the journal ends.
        end: u64,
    },
    /// The steps cannot be read.
    #[error("read the steps of assignments: {0}")]
    Steps(String),
}
