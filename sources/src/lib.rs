//! Sources: events from databases and brokers into the journal.
//!
//! ```text
//! postgres  outbox table ──► rows that wait, locked ──► decode ──► append ──► commit "sent"
//!                 ▲                                                │
//!                 └── responses ◄── queue of RabbitMQ              └─► journal ──► every destination
//! rabbitmq  queue ──► messages, unacknowledged ──► decode ──► append ──► acknowledge
//! ```
//!
//! # What is promised
//! At least once: what an event came from is marked (a row) or acknowledged (a message) after the journal has the
//! event durably, never before. After a crash in between the same event comes again, with the same id; a stream that is
//! declared `unique` keeps the first one.
//!
//! What the stream's declaration refuses is set aside and stops nothing: it is kept in `_rejects` with the reason, in
//! the same append, and its row is marked refused, its message dead-lettered.
//!
//! # To RabbitMQ
//! A relay writes into a stream, and the destination `rabbitmq` of that stream writes to the broker. There is no second,
//! direct way: one order, one place where retries, positions and metrics are, and every other destination and question
//! sees the same events.
//!
//! # Several processes
//! Any number may run the same source: rows are shared by `FOR UPDATE SKIP LOCKED`, messages by the broker. Nobody is
//! elected, so nobody has to notice that somebody died.

mod error;
mod inlet;
pub mod outbox;
mod postgres;
mod progress;
mod rabbitmq;
mod schedule;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use event::StreamDeclaration;
use futures::FutureExt;
use journal::{Backoff, Batcher};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use error::{Fault, SourceError};
use inlet::Inlet;
pub use postgres::{OutboxOptions, ResponsesOptions, StateColumn};
use progress::Shared;
pub use progress::{Backlog, SourceProgress};
pub use rabbitmq::{QueueOptions, check_url};
pub use schedule::{Schedule, ScheduleError};

/// How long a shutdown waits for what is in flight; it is dropped then, and comes again after the next start.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The first wait after a failure, doubling from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// Where events come from.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// A table of PostgreSQL that others write events to.
    Outbox(Box<OutboxOptions>),
    /// A queue of RabbitMQ.
    Queue(QueueOptions),
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Its name in the configuration; a label of its metrics and logs.
    pub name: String,
    /// The stream that its events go to.
    pub stream: Arc<StreamDeclaration>,
    /// Where they come from.
    pub kind: SourceKind,
}

/// The running sources of one process. Dropping them without [`Sources::shutdown`] ends them as a crash would.
#[derive(Debug)]
pub struct Sources {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
    progress: SourcesProgress,
}

/// A view of how the sources are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourcesProgress(Arc<[Arc<Shared>]>);

impl SourcesProgress {
    /// How each part of each source is now.
    #[must_use]
    pub fn read(&self) -> Vec<SourceProgress> {
        self.0.iter().map(|shared| shared.get()).collect()
    }
}

impl Sources {
    /// Runs sources on `runtime`, each in tasks of its own. Whether what they read is there does not matter: it is tried
    /// again until it is.
    ///
    /// # Errors
    /// [`SourceError::Config`] (input) when options contradict each other; nothing runs then.
    pub fn start(
        runtime: &Handle,
        batcher: &Batcher,
        sources: Vec<SourceOptions>,
    ) -> Result<Self, SourceError> {
        let (stop, stopping) = watch::channel(false);
        let mut running = JoinSet::new();
        let mut all = Vec::new();
        for SourceOptions { name, stream, kind } in sources {
            let inlet = Arc::new(Inlet::new(name.clone(), stream, batcher.clone()));
            let mut add = |part: &'static str| {
                let shared = Arc::new(Shared::new(&name, part));
                all.push(Arc::clone(&shared));
                Supervision {
                    shared,
                    stopping: stopping.clone(),
                }
            };
            match kind {
                SourceKind::Outbox(options) => {
                    let relay = postgres::Relay::new(Arc::clone(&inlet), *options)?;
                    if let Some(responses) = relay.responses()? {
                        running.spawn_on(add("responses").run(responses), runtime);
                    }
                    running.spawn_on(add("relay").run(relay), runtime);
                }
                SourceKind::Queue(options) => {
                    let queue = rabbitmq::QueueSource::new(inlet, options)?;
                    running.spawn_on(add("queue").run(queue), runtime);
                }
            }
        }
        Ok(Self {
            stop,
            running,
            progress: SourcesProgress(all.into()),
        })
    }

    /// How they are, now and later.
    #[must_use]
    pub fn progress(&self) -> SourcesProgress {
        self.progress.clone()
    }

    /// Takes nothing more, finishes what is in flight for a bounded time, and ends. What is not through then comes
    /// again after the next start.
    pub async fn shutdown(mut self) {
        // An error means that nobody listens any more.
        let _ = self.stop.send(true);
        let begun = Instant::now();
        while !self.running.is_empty() {
            let left = STOP_WITHIN.saturating_sub(begun.elapsed());
            // A source catches its own panics and reports them.
            if timeout(left, self.running.join_next()).await.is_err() {
                tracing::warn!(
                    sources = self.running.len(),
                    "sources did not end in time and are cut off"
                );
                break;
            }
        }
        self.running.shutdown().await;
    }
}

/// One thing that a source does, again and again.
trait Part: Send {
    /// Works until it is told to stop, or until something fails. Says through `shared` when something worked.
    fn work<'a>(
        &'a mut self,
        shared: &'a Shared,
        stopping: &'a watch::Receiver<bool>,
    ) -> futures::future::BoxFuture<'a, Result<(), SourceError>>;
}

/// Keeps a part of a source at work.
struct Supervision {
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
}

impl Supervision {
    async fn run(mut self, mut part: impl Part) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let worked = self.shared.worked();
            let work = part.work(&self.shared, &self.stopping);
            let error = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) if error.fault() == Fault::Closing => return,
                Ok(Err(error)) if [Fault::Fatal, Fault::Input].contains(&error.fault()) => {
                    return self.shared.stopped(&error.chain());
                }
                Ok(Err(error)) => error.chain(),
                Err(_) => return self.shared.stopped("the source panicked"),
            };
            if self.shared.worked() > worked {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            self.shared.failed(&error, backoff.tries(), wait);
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.stopping.wait_for(|stop| *stop) => return,
            }
        }
    }
}
