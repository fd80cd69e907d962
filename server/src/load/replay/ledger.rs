//! The client's own durable account of what it sent and what it was told, for tests that kill the server.
//!
//! One JSON object a line: `sending` is on disk before the first byte of a request leaves, its outcome before
//! anything else is sent on that connection. So after any crash, of the server or of the client, a batch was
//! never sent, or was acknowledged and must be there once, or is there once or not at all.
//!
//! A thread of its own writes whatever waits and does one fdatasync for all of it; the cost is shared by all
//! connections.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

/// Entries that may wait; there are at most as many as connections.
const QUEUE_ENTRIES: usize = 1_024;

/// One line of the ledger.
#[derive(Debug, Serialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub(super) enum Entry {
    /// A batch is about to be sent.
    Sending {
        batch: u64,
        first_event: u64,
        events: u64,
    },
    /// The server was busy; the same batch is sent again.
    Refused { batch: u64, status: u16 },
    /// The server says what became of it.
    Answered {
        batch: u64,
        status: u16,
        accepted: u64,
        rejected: u64,
        positions: Option<Box<RawValue>>,
    },
    /// It was refused for good.
    Failed { batch: u64, message: String },
    /// There was no answer.
    Unknown { batch: u64, message: String },
}

type Waiting = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// A ledger that is open. Entries of several replays may follow each other in one file.
#[derive(Debug)]
pub(super) struct Ledger {
    queue: mpsc::Sender<Waiting>,
}

impl Ledger {
    /// Opens the file, made when it is not there, and starts its thread, which ends with the ledger.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (queue, waiting) = mpsc::channel(QUEUE_ENTRIES);
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write_all(file, waiting))?;
        Ok(Self { queue })
    }

    /// Returns when the entry is on disk.
    pub(super) async fn write(&self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let ended = || io::Error::other("the ledger's thread ended");
        let (done, written) = oneshot::channel();
        self.queue.send((line, done)).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }
}

fn write_all(mut file: File, mut waiting: mpsc::Receiver<Waiting>) {
    let mut all = Vec::new();
    while waiting.blocking_recv_many(&mut all, QUEUE_ENTRIES) > 0 {
        let lines: Vec<u8> = all.iter().flat_map(|(line, _)| line).copied().collect();
        let done = file.write_all(&lines).and_then(|()| file.sync_data());
        for (_, sender) in all.drain(..) {
            let told = match &done {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            // Whoever no longer waits has stopped.
            let _ = sender.send(told);
        }
        if done.is_err() {
            // What is on disk after a failed fsync nobody knows; every later entry is refused.
            return;
        }
    }
}
