//! The lake destination: every stream of the journal into its Delta table.
//!
//! Each partition of each stream that the group assigns has a task of its own ([`consumer`]), so that one stream's trouble never delays
//! another (I-5); `_rejects` is a stream as the others, and messages of other programs that are no events go to its
//! table as well ([`rejects`]). Rows are encoded as they arrive; a file is rolled by
//! size, by age, when all open files together hold too much ([`budget`]), and at shutdown. The catalog never
//! changes while a process runs, so a schema change is a shutdown too.

mod budget;
mod consumer;
mod maintenance;
mod open_file;
mod options;
mod rejects;
mod threads;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, StreamName};
use futures::FutureExt;
use journal::Journal;
use lake::Table;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::attempt;
use crate::backoff::Backoff;
use crate::group::Sharing;
use crate::progress::{self, Moves, Shared, StreamProgress};
use budget::{Held, TailBudget};
use consumer::Consumer;
use maintenance::Maintenance;
pub use options::LakeSinkOptions;
use threads::Pace;
pub use threads::SinkThreads;

/// How often the lag is measured for the metrics.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The running lake sink. Dropping it without [`LakeSink::shutdown`] ends it as a crash would: nothing is lost,
/// and open files are written again after the next start.
#[derive(Debug)]
pub struct LakeSink {
    stop: watch::Sender<bool>,
    sharing: JoinSet<()>,
    upkeep: JoinSet<()>,
    progress: LakeProgress,
    maintenance_stop: Duration,
}

/// A view of how far the lake sink is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LakeProgress {
    journal: Arc<dyn Journal>,
    streams: Arc<[Arc<Shared>]>,
    moves: Moves,
}

impl LakeSink {
    /// Joins the group, and runs a consumer for each partition that it assigns, and the maintenance of the tables
    /// whose first partition is among them, on `threads`.
    #[must_use]
    pub fn start(
        threads: impl Into<SinkThreads>,
        journal: Arc<dyn Journal>,
        tables: Vec<Arc<Table>>,
        options: LakeSinkOptions,
    ) -> Self {
        let threads = threads.into();
        let (stop, stopping) = watch::channel(false);
        let maintenance_stop = options.maintenance_stop;
        let options = Arc::new(options);
        let mut work = HashMap::new();
        let moves = Moves::new();
        let mut streams = Vec::new();
        for table in &tables {
            let stream = &table.declaration().name;
            for partition in (0..journal.partitions(stream)).map(Partition) {
                let progress = Arc::new(Shared::new(stream.clone(), partition, &moves));
                work.insert((stream.clone(), partition), (streams.len(), Arc::clone(table)));
                streams.push(progress);
            }
        }
        let progress = LakeProgress {
            journal: Arc::clone(&journal),
            streams: streams.into(),
            moves,
        };
        let upkeep = start_upkeep(&threads, &tables, &options, &progress, &stopping);
        let sharing = Sharing {
            journal: Arc::clone(&journal),
            group: options.group.clone(),
            streams: tables
                .iter()
                .map(|table| table.declaration().name.clone())
                .collect(),
            stopping,
            backoff: Backoff::new(options.retry_first, options.retry_longest),
        };
        let name_of = |table: &&Arc<Table>| table.declaration().name.clone();
        let rejects = tables
            .iter()
            .find(|table| name_of(table) == StreamName::rejects());
        let rejects = rejects.cloned();
        let budget = Arc::new(TailBudget::new(options.tail_bytes, work.len()));
        let shared = progress.clone();
        let consumers = threads.clone();
        let consume = move |share, phase, member| {
            // The group may have streams that this process does not know: somebody else's newer configuration.
            let Some((index, table)) = work.get(&share) else {
                return std::future::ready(()).boxed();
            };
            let consumer = Consumer {
                partition: share.1,
                journal: Arc::clone(&journal),
                table: Arc::clone(table),
                rejects: rejects.clone(),
                covered: None,
                seen: None,
                options: Arc::clone(&options),
                pace: Pace::new(consumers.clone(), options.patience),
                held: Held::new(&budget, *index),
                progress: Arc::clone(&shared.streams[*index]),
                phase,
                member,
            };
            attempt::run(consumer).boxed()
        };
        let mut running = JoinSet::new();
        running.spawn_on(sharing.run(consume), &threads.first);
        Self {
            stop,
            sharing: running,
            upkeep,
            progress,
            maintenance_stop,
        }
    }

    /// How far the sink is, now and later.
    #[must_use]
    pub fn progress(&self) -> LakeProgress {
        self.progress.clone()
    }

    /// Reads what the journal still has for a bounded time, rolls and commits every open file, and ends.
    pub async fn shutdown(mut self) {
        // An error means that nobody listens any more.
        let _ = self.stop.send(true);
        attempt::ended(&mut self.sharing, "lake", Duration::MAX).await;
        let ended = timeout(self.maintenance_stop, async {
            while self.upkeep.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            // Either its commit is durable or its files are left to vacuum.
            tracing::warn!("shutdown does not wait for table maintenance any longer");
            self.upkeep.shutdown().await;
        }
    }
}

fn start_upkeep(
    threads: &SinkThreads,
    tables: &[Arc<Table>],
    options: &Arc<LakeSinkOptions>,
    progress: &LakeProgress,
    stopping: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut upkeep = JoinSet::new();
    let turn = Arc::new(Semaphore::new(1));
    for table in tables {
        let stream = &table.declaration().name;
        let first = progress.streams.iter().find(|shared| {
            let one = shared.get();
            one.stream == *stream && one.partition == Partition(0)
        });
        let Some(first) = first else { continue };
        let maintenance = Maintenance {
            table: Arc::clone(table),
            first: Arc::clone(first),
            options: Arc::clone(options),
            turn: Arc::clone(&turn),
            stopping: stopping.clone(),
        };
        upkeep.spawn_on(maintenance.run(), &threads.first);
    }
    upkeep.spawn_on(measure(progress.clone(), stopping.clone()), &threads.first);
    upkeep
}

impl LakeProgress {
    /// How far each partition is. A stream whose end the journal cannot tell ends where it was read.
    pub async fn read(&self) -> Vec<StreamProgress> {
        progress::read(self.journal.as_ref(), &self.streams).await
    }

    /// What is committed of one partition, as far as this process knows: it must be its own work.
    #[must_use]
    pub fn committed(&self, stream: &StreamName, partition: Partition) -> Option<Offset> {
        progress::committed(&self.streams, stream, partition)
    }

    /// The same of every partition that is this process's work.
    #[must_use]
    pub fn all_committed(&self) -> Vec<(StreamName, Partition, Offset)> {
        progress::all_committed(&self.streams)
    }

    /// Changes whenever what is committed does.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }
}

/// Feeds the metrics until the sink ends.
async fn measure(progress: LakeProgress, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(MEASURE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        for one in progress.read().await.into_iter().filter(|one| one.assigned) {
            let labels = [
                ("stream", one.stream.as_str().to_owned()),
                ("partition", one.partition.to_string()),
            ];
            #[expect(
                clippy::cast_precision_loss,
                reason = "gauges are doubles; 2^53 records are exact"
            )]
            {
                metrics::gauge!("tidemill_sink_lag_records", &labels).set(one.lag_records() as f64);
                metrics::gauge!("tidemill_sink_open_rows", &labels).set(one.rows_open as f64);
                metrics::gauge!("tidemill_sink_committed_offset", &labels).set(one.committed.0 as f64);
            }
            metrics::gauge!("tidemill_sink_stopped", "stream" => one.stream.as_str().to_owned())
                .set(if one.stopped.is_some() { 1.0 } else { 0.0 });
        }
    }
}
