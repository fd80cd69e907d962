//! Where the lake sink's work runs: before everybody else while it is behind, after everybody else while it is not.
//!
//! A sink that is behind makes the tail grow, and every question about it slower, so its encoding must not wait for
//! ingest. One that has caught up has nothing to hurry for, and a row group of a million rows keeps a processor busy for
//! tens of milliseconds, which requests would wait for.

use tokio::runtime::Handle;

use crate::SinkError;

/// The runtimes of a lake sink. Made of one handle, both are that one.
#[derive(Clone, Debug)]
pub struct SinkThreads {
    /// Runs the consumers, commits, the upkeep of the tables (it takes locks that commits wait for), and what is behind.
    pub first: Handle,
    /// Encodes the events of a stream that is not behind. It may have to wait for everybody else, and still must get on.
    pub last: Handle,
}

impl SinkThreads {
    /// Where encoding runs.
    pub(super) fn of(&self, behind: bool) -> &Handle {
        match behind {
            true => &self.first,
            false => &self.last,
        }
    }
}

impl From<&Handle> for SinkThreads {
    fn from(handle: &Handle) -> Self {
        Self {
            first: handle.clone(),
            last: handle.clone(),
        }
    }
}

/// Does what takes processor time, or waits for a disk, on a thread for such work.
pub(super) async fn on_thread<T: Send + 'static>(
    threads: &Handle,
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match threads.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SinkError::Thread {
            message: error.to_string(),
        }),
    }
}
