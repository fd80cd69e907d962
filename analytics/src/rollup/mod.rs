//! Rollups: streams that are computed from others, window by window, each range of the source exactly once.
//!
//! ```text
//! source ──► partitions, read ahead ──► windows ──► SQL over the rows of one ──► append to the rollup's stream
//!    ▲        (journal, or lake)                                                   │
//!    └─────── the range of the last valid row ◄── read back: is mine in the chain? ◄┘
//! ```
//!
//! One process computes each rollup: the member of a group that has the only partition of the rollup's stream. That
//! spares work and nothing hangs on it: a row says which range it covers and which record it follows, and whoever reads
//! the stream sees the first one that follows only ([`journal::ChainedJournal`]). So the position that a rollup has
//! reached is stored by the row itself, in one atomic step with it (I-2), and a row that nobody should have appended is
//! left out by everybody alike.
//!
//! A rollup holds back neither the journal nor its source (I-5): what the journal has removed is read from the lake.

mod aggregate;
mod error;
mod run;
mod source;
mod tip;
mod window;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use event::StreamDeclaration;
use futures::FutureExt;
use journal::Journal;
use lake::Table;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::aggregate::Aggregate;
use self::worker::Worker;
use crate::Kept;
use crate::analytics::Compute;

/// Threads that wait for files of the lake.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long a rollup may take to append its last window when the process ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the SQL of a rollup over its source: one reading SELECT that gives one row of the declared fields.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn check(rollup: &StreamDeclaration, source: &StreamDeclaration) -> Result<(), String> {
    // Nothing is waited for: the only table is in memory.
    let planned = Aggregate::plan(rollup, source).now_or_never();
    planned.map_or_else(
        || Err("the SQL cannot be planned at once".to_owned()),
        |planned| planned.map(drop),
    )
}

/// What rollups are computed with.
#[derive(Clone, Debug)]
pub struct RollupOptions {
    /// Begins the names of the groups that elect who computes a rollup.
    pub group: String,
    /// First and longest wait before another try after a failure.
    pub retry: [Duration; 2],
    /// Says which events are kept, of streams whose ids are unique: needed for a rollup of one.
    pub kept: Option<Kept>,
}

impl Default for RollupOptions {
    fn default() -> Self {
        Self {
            group: "tidemill.rollup".to_owned(),
            retry: [Duration::from_millis(100), Duration::from_secs(30)],
            kept: None,
        }
    }
}

/// The rollups of this process. Dropping it ends them as a crash would, which loses nothing.
pub struct Rollups {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
    /// Ends after them.
    _compute: Compute,
}

impl std::fmt::Debug for Rollups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollups").finish_non_exhaustive()
    }
}

impl Rollups {
    /// Joins the group of every rollup among `streams` and computes those that are this process's. `tables` are the
    /// lake's.
    ///
    /// # Errors
    /// When the SQL of one is wrong, no thread can be started, or [`RollupOptions::kept`] is needed and absent.
    pub async fn start(
        journal: &Arc<dyn Journal>,
        streams: &[Arc<StreamDeclaration>],
        tables: &[Arc<Table>],
        options: &RollupOptions,
    ) -> Result<Self, String> {
        let compute = Compute::start(1, BLOCKING_THREADS_MAX, "tidemill-rollup");
        let compute = compute.map_err(|error| format!("start a thread: {error}"))?;
        let (stop, stopping) = watch::channel(false);
        let mut running = JoinSet::new();
        let table_of = |name| {
            let mut tables = tables.iter();
            tables.find(|table| table.declaration().name == name).cloned()
        };
        for stream in streams {
            let Some(rollup) = &stream.rollup else { continue };
            let source = streams.iter().find(|source| source.name == rollup.from);
            let source = source.ok_or_else(|| format!("rollup `{}`: its source is missing", stream.name))?;
            let aggregate = Aggregate::plan(stream, source).await;
            let aggregate = aggregate.map_err(|message| format!("rollup `{}`: {message}", stream.name))?;
            let kept = options.kept.clone().filter(|_| source.unique.is_some());
            if source.unique.is_some() && kept.is_none() {
                let (name, from) = (&stream.name, &source.name);
                return Err(format!(
                    "rollup `{name}`: nobody decides here what is kept of `{from}`"
                ));
            }
            let worker = Worker {
                kept,
                every: i64::try_from(rollup.every.as_micros()).unwrap_or(i64::MAX),
                rows_max: rollup.rows,
                flush_on_stop: rollup.flush_on_stop,
                group: match &rollup.group {
                    Some(group) => group.clone(),
                    None => format!("{}.{}", options.group, stream.name),
                },
                named_group: rollup.group.is_some(),
                retry: options.retry,
                aggregate,
                table: table_of(stream.name.clone()),
                source_table: table_of(source.name.clone()),
                stream: Arc::clone(stream),
                source: Arc::clone(source),
                journal: Arc::clone(journal),
                stopping: stopping.clone(),
            };
            running.spawn_on(worker.run(), &compute.handle());
        }
        Ok(Self {
            stop,
            running,
            _compute: compute,
        })
    }

    /// Ends in order: rollups that declare it append their open window first.
    pub async fn shutdown(mut self) {
        // An error means that there is none.
        let _ = self.stop.send(true);
        let ended = timeout(STOP_TIMEOUT, async {
            while self.running.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!("shutdown does not wait for rollups any longer; they go on after the next start");
            self.running.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests;
