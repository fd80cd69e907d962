//! Ad-hoc SQL in processes of its own, which can be killed (design §9).
//!
//! A statement can end the process that runs it: by a stack that overflows, by memory that no pool was asked for,
//! by a loop that never yields. So the server keeps a few worker processes of its own binary and hands each
//! question to one of them; a worker has one question at a time, so whatever happens to it happens to nobody else
//! (I-5).
//!
//! ```text
//!   server                                            worker: the same binary, started with `sql-worker`
//!   query.rs ── pool.rs ── process.rs ══ socket ══ channel.rs ── sql.rs ── lake and journal, read-only
//! ```
//!
//! # Invariants
//! - W-1 a worker has at most one question, and gets the next one only when every thread of it is free again
//! - W-2 a worker ends with the server: it reads the socket all the time, and its end is the worker's end
//! - W-3 what the server knows to be durable is visible to the worker: the journal's ends travel with the question
//! - W-4 for as long as a question runs, the server keeps in the journal what it may read
//! - W-5 an answer that has begun ends with a frame that says so, or as an error
//!
//! # Why a socket pair and frames of our own
//! Nothing has a name that anybody else could connect to, nothing is left behind, and the end of either side is
//! seen by the other at once. Back-pressure is the socket's: a client that reads slowly stops the worker.

mod channel;
mod pool;
mod process;
mod query;
mod wire;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use channel::Channel;
pub(crate) use pool::Pool;
pub(crate) use query::ask;

/// How worker processes are started.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the first one is the name under which it shows up in a list of processes.
    pub arguments: Vec<OsString>,
    /// Its whole environment; nothing else is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// What it reads first ([`Channel::settings`]): the command line is for everybody to see, this is not.
    pub settings: Vec<u8>,
    /// Most questions that run at once, each in a process.
    pub workers_max: usize,
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Settings and environment may hold secrets.
        f.debug_struct("WorkerOptions")
            .field("program", &self.program)
            .field("workers_max", &self.workers_max)
            .finish_non_exhaustive()
    }
}
