//! A partition's way into a destination, tried again and again until its process is told to stop.
//!
//! Every destination has the same life: it asks its own store where it stands, goes on from there, and whatever
//! fails in between is begun anew after a wait. What differs (how rows are written, what is counted, how it is
//! said) is behind [`Consume`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::group::Phase;
use crate::progress::{Owned, Shared};
use crate::{Fault, SinkError};

/// How often a shutdown says whom it waits for.
const LATE_EVERY: Duration = Duration::from_secs(5);

/// Brings one partition of one stream into a destination.
pub(crate) trait Consume: Send {
    /// Goes on from the stored position. Returns `Ok` when it was told to stop and all is written.
    fn consume<'a>(&'a mut self, backoff: &'a mut Backoff) -> BoxFuture<'a, Result<(), SinkError>>;

    /// What this task is told.
    fn phase(&self) -> watch::Receiver<Phase>;

    /// What it tells about itself.
    fn progress(&self) -> &Arc<Shared>;

    /// The waits between tries.
    fn backoff(&self) -> Backoff;

    /// Counts and logs a failure after which it is tried again.
    fn failed(&self, chain: &str, tries: u32, wait: Duration);

    /// Counts and logs the failure that ended it.
    fn stopped(&self, reason: &str);
}

/// Runs until it is told to stop, or until an error that only a person can mend.
pub(crate) async fn run(mut consumer: impl Consume) {
    let owned = Owned::new(consumer.progress());
    let mut phase = consumer.phase();
    let ended = AssertUnwindSafe(run_until_told(&mut consumer))
        .catch_unwind()
        .await;
    let reason = match ended {
        Ok(None) => return,
        Ok(Some(error)) => error.chain(),
        Err(_) => "the sink panicked".to_owned(),
    };
    consumer.stopped(&reason);
    consumer.progress().update(|progress| {
        progress.stopped = Some(reason);
        progress.read = progress.committed;
        progress.rows_open = 0;
    });
    // It stays this process's, so that everybody sees that it has stopped.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    drop(owned);
}

/// Gives the error that stopped it, if one did.
async fn run_until_told(consumer: &mut impl Consume) -> Option<SinkError> {
    let mut backoff = consumer.backoff();
    loop {
        let error = consumer.consume(&mut backoff).await.err()?;
        match error.fault() {
            Fault::Closing => return None,
            Fault::Fatal => return Some(error),
            Fault::Outage => {}
        }
        let (chain, wait) = (error.chain(), backoff.next_wait());
        consumer.failed(&chain, backoff.tries(), wait);
        // What was read and not written waits in the journal, and is read again.
        consumer.progress().update(|progress| {
            progress.failing = Some(chain);
            progress.read = progress.committed;
            progress.rows_open = 0;
        });
        let mut phase = consumer.phase();
        tokio::select! {
            () = sleep(wait) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return None,
        }
    }
}

/// Waits until the tasks of a destination have ended, for `limit` at most, and says for whom it waits. A consumer
/// catches its own panics and reports them.
pub(crate) async fn ended(tasks: &mut JoinSet<()>, destination: &str, limit: Duration) {
    let begun = Instant::now();
    while !tasks.is_empty() && begun.elapsed() < limit {
        let wait = LATE_EVERY.min(limit.saturating_sub(begun.elapsed()));
        if timeout(wait, tasks.join_next()).await.is_err() {
            let waited_s = begun.elapsed().as_secs();
            tracing::warn!(destination, waited_s, "shutdown waits for a destination");
        }
    }
}
