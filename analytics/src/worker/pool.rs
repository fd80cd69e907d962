//! Which worker gets a question: a bounded number of processes, one of them always ready.
//!
//! A worker that has answered waits for the next question, the last one first, since its caches are the warmest.
//! When a question takes the last one that waits, another is started behind its back, so that neither a long
//! question nor a killed worker makes the next one wait for a start. Those that nobody needed for a while end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::WorkerOptions;
use super::process::{Death, Process};
use crate::QueryError;

/// Workers that are kept waiting, so that a question finds one.
const SPARE: usize = 1;
/// Workers that stay although nobody has needed them for a while: the one that was used last, and the spare one.
const KEPT: usize = 2;
/// A worker that had no question for this long ends, unless it is one of those.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How often the pool looks after its workers.
const CARE_EVERY: Duration = Duration::from_secs(2);
/// A worker that still holds more than this after a question is replaced: what it keeps for the next ones (tails,
/// footers, the allocator's own) is far less.
const KEPT_BYTES_MAX: u64 = 512 << 20;

/// The workers of a process.
#[derive(Debug)]
pub(crate) struct Pool {
    options: WorkerOptions,
    /// A permit for each question that may run.
    pub(super) places: Arc<Semaphore>,
    idle: Mutex<Vec<Process>>,
    /// Those that run, wait or are being started.
    alive: Arc<AtomicUsize>,
    /// Spare ones that are being started.
    starting: Arc<AtomicUsize>,
    /// Says that a spare one has started, or has not.
    started: Notify,
    tasks: Mutex<JoinSet<()>>,
}

impl Pool {
    /// A pool whose first worker is being started. To be called inside the runtime that drives it.
    pub(crate) fn new(options: WorkerOptions) -> Arc<Self> {
        let pool = Arc::new(Self {
            places: Arc::new(Semaphore::new(options.workers_max.max(1))),
            options,
            idle: Mutex::default(),
            alive: Arc::default(),
            starting: Arc::default(),
            started: Notify::new(),
            tasks: Mutex::default(),
        });
        pool.spawn(care(Arc::downgrade(&pool)));
        pool
    }

    /// Runs something for as long as it takes, at the longest as long as the pool lives.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the SQL workers ended early");
            }
        }
        tasks.spawn(task);
    }

    /// A worker that takes a question, started when none waits. Whoever has it holds a place as well.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Process, QueryError> {
        loop {
            let mut started = std::pin::pin!(self.started.notified());
            // From here on nothing is missed.
            started.as_mut().enable();
            let waiting = self.idle().pop();
            if let Some(mut process) = waiting {
                if process.alive() {
                    self.refill();
                    return Ok(process);
                }
                let death = process.death().await;
                self.lost(&death);
            } else if self.starting.load(Ordering::SeqCst) > 0 {
                started.await;
            } else {
                break;
            }
        }
        let process = self.start().await?;
        self.refill();
        Ok(process)
    }

    /// Takes back a worker of whose question nothing is left.
    pub(super) fn put_back(self: &Arc<Self>, mut process: Process) {
        if process
            .resident_bytes()
            .is_some_and(|bytes| bytes > KEPT_BYTES_MAX)
        {
            tracing::debug!(
                worker = process.id(),
                "a worker of SQL that grew large is replaced"
            );
            drop(process);
        } else {
            process.used = Instant::now();
            self.idle().push(process);
        }
        self.refill();
    }

    /// Ends a worker that is of no more use.
    pub(super) async fn kill(self: &Arc<Self>, mut process: Process, reason: &'static str) {
        let worker = process.id();
        process.end().await;
        drop(process);
        tracing::warn!(worker, reason, "a worker of SQL was killed");
        self.count_death(reason);
    }

    /// Counts a worker that ended by itself.
    pub(super) fn lost(self: &Arc<Self>, death: &Death) {
        tracing::warn!(reason = death.reason, error = %death.error, "a worker of SQL ended");
        self.count_death(death.reason);
    }

    fn count_death(self: &Arc<Self>, reason: &'static str) {
        metrics::counter!("tidemill_sql_worker_deaths_total", "reason" => reason).increment(1);
        self.refill();
    }

    async fn start(&self) -> Result<Process, QueryError> {
        metrics::counter!("tidemill_sql_worker_starts_total").increment(1);
        Process::start(&self.options, Counted::one_more(&self.alive)).await
    }

    /// Starts the spare worker if there is none and there may be one.
    fn refill(self: &Arc<Self>) {
        let starting = {
            // Under the lock, so that there are not two who see that one is missing.
            let idle = self.idle();
            let spare = idle.len() + self.starting.load(Ordering::SeqCst);
            if spare >= SPARE || self.alive.load(Ordering::SeqCst) >= self.options.workers_max {
                return;
            }
            Counted::one_more(&self.starting)
        };
        let pool = Arc::downgrade(self);
        self.spawn(async move {
            let Some(pool) = pool.upgrade() else { return };
            match pool.start().await {
                Ok(process) => pool.idle().push(process),
                // Whoever asks next tries again, and is told.
                Err(error) => tracing::error!(%error, "no worker of SQL"),
            }
            drop(starting);
            pool.started.notify_waiters();
        });
    }

    /// Lets go of workers that nobody needs, and counts those that ended while they waited.
    async fn look(self: &Arc<Self>) {
        let idle = std::mem::take(&mut *self.idle());
        let beyond = idle.len().saturating_sub(KEPT);
        let (mut ended, mut unused, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        // The coldest come first.
        for (at, mut process) in idle.into_iter().enumerate() {
            if !process.alive() {
                ended.push(process);
            } else if at < beyond && process.used.elapsed() > IDLE_TIME {
                unused.push(process);
            } else {
                kept.push(process);
            }
        }
        {
            let mut idle = self.idle();
            kept.append(&mut idle);
            *idle = kept;
        }
        drop(unused);
        for process in ended {
            let death = process.death().await;
            self.lost(&death);
        }
        self.refill();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a number of things, for as long as it is there.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_more(number: &Arc<AtomicUsize>) -> Self {
        number.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(number))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Looks after the workers for as long as there is a pool.
async fn care(pool: Weak<Pool>) {
    let mut ticks = interval(CARE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.look().await;
        metrics::gauge!("tidemill_sql_workers").set(pool.alive.load(Ordering::SeqCst) as f64);
    }
}
