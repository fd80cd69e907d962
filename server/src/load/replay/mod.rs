//! The load generator: sends events over HTTP/1.1 at a pace and measures how long each answer takes.
//!
//! ```text
//! source ──► batches ──► one bounded queue ──► senders, one connection each ──► server
//! (chunks)   (slices,    (so memory does not     │ send, retry 429 and 503
//!             held until  depend on the input)   └► tally ──► Report
//!             due)
//! ```
//!
//! # Open and closed loop
//! With a rate or with recorded times every batch has an intended start that does not depend on the server, and
//! its latency counts from there: a stall shows in the latency of everything that had to wait behind it. Without
//! a pace each connection sends as soon as it has its answer; such figures hide stalls, and the report says so.
//!
//! # What is counted
//! Every event ends in exactly one of `accepted`, `rejected` (both by the server's answer, whose sum must be what
//! was sent: I-1), `failed` (refused for good) and `unknown` (the connection broke before the answer came).
//! An event whose outcome is unknown is never sent again, so nothing here makes doubles.

mod batches;
mod connection;
mod display;
mod ledger;
mod options;
mod report;
mod sender;
mod source;
mod tally;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as BlockingMutex};
use std::time::Instant;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use batches::Batches;
use connection::Connection;
pub use display::show;
use ledger::Ledger;
pub use options::{BatchSize, Options, OptionsError, Pace, Source, Target};
pub(crate) use report::grouped;
pub use report::{Latency, Report};
use sender::{Queue, Sender, Shared};
pub(crate) use source::Chunks;
pub use source::SourceError;
pub use tally::Progress;

/// Groups of batches that are ready and wait for a connection: enough that no connection waits for the source,
/// few enough that the largest batches fit into memory.
const QUEUE_GROUPS: usize = 4;

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The options cannot be used together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// There is nothing to send.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nobody answers.
    #[error("connect to `{authority}`: {message}; is the server running?")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        message: String,
    },
    /// The ledger cannot be written.
    #[error("open ledger `{}`", path.display())]
    Ledger {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Sends everything, or until `stop`, and gives what came of it. `progress` is updated all the while.
///
/// # Errors
/// [`ReplayError`] when nothing was sent. What goes wrong later is in the report.
///
/// # Cancellation
/// Requests in flight are cut off, and their outcome is unknown; use `stop`, which lets them finish.
pub async fn run(
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Report, ReplayError> {
    options.check()?;
    let target = Arc::new(options.target.clone());
    // A typing error in the address is told at once, not after the patience for a restarting server.
    let first = Connection::open(Arc::clone(&target), options.request_timeout)
        .await
        .map_err(|message| ReplayError::Connect {
            authority: target.authority().to_owned(),
            message,
        })?;
    let ledger = match &options.ledger {
        Some(path) => Some(Ledger::open(path).map_err(|source| ReplayError::Ledger {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let (ready, groups) = mpsc::channel(QUEUE_GROUPS);
    let batches = Batches::new(&options)?;
    let begun = Instant::now();
    let reader = tokio::task::spawn_blocking(move || batches.send_to(&ready, begun));

    let stop = stop.child_token();
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            groups,
            ready: VecDeque::new(),
        }),
        begun,
        stop: stop.clone(),
        patience: options.patience,
        progress,
        ledger,
        tally: BlockingMutex::default(),
    });
    send_all(&options, &shared, first).await;
    let elapsed = begun.elapsed();
    let through = options.duration.is_some_and(|duration| elapsed >= duration);
    let stopped = stop.is_cancelled() && !through;
    let mut tally = std::mem::take(&mut *shared.tally());
    // Closes the queue, so that a reader that is still at it ends. One that waits for more input is left alone.
    drop(shared);
    if !stop.is_cancelled() {
        match reader.await {
            Ok(Ok(read)) => tally.read(read),
            Ok(Err(error)) => tally.problem(error.to_string()),
            Err(error) => tally.problem(format!("the reader ended: {error}")),
        }
    }
    Ok(Report::new(&options, tally, elapsed, stopped))
}

/// Runs all senders, for as long as there are batches and the duration allows.
async fn send_all(options: &Options, shared: &Arc<Shared>, first: Connection) {
    let mut senders = JoinSet::new();
    let target = first.target();
    let mut connection = Some(first);
    for _ in 0..options.connections {
        let connection = connection
            .take()
            .unwrap_or_else(|| Connection::closed(Arc::clone(&target), options.request_timeout));
        senders.spawn(Sender::new(Arc::clone(shared), connection).run());
    }
    let timer = async {
        match options.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
        shared.stop.cancel();
    };
    let ended = async {
        while let Some(done) = senders.join_next().await {
            if let Err(error) = done {
                shared.tally().problem(format!("a sender ended: {error}"));
            }
        }
    };
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => {}
        // What is in flight is still answered.
        () = timer => ended.await,
    }
}
