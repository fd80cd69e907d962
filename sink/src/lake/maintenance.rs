//! What keeps tables in shape while rows arrive: compaction, vacuum, retention.
//!
//! One task for each table, one table at a time, so that maintenance never takes more than one core from ingest
//! and queries (I-5). A failure is tried again at the next interval.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lake::{LakeError, Table};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::LakeSinkOptions;
use crate::progress::Shared;

/// Maintains one table.
pub(super) struct Maintenance {
    pub(super) table: Arc<Table>,
    /// The first partition: who has it maintains the table, so that processes do not do the same work.
    pub(super) first: Arc<Shared>,
    pub(super) options: Arc<LakeSinkOptions>,
    /// One permit for all tables.
    pub(super) turn: Arc<Semaphore>,
    pub(super) stopping: watch::Receiver<bool>,
}

#[derive(Clone, Copy)]
enum Chore {
    Compact,
    Vacuum,
    Expire,
}

impl Chore {
    fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Vacuum => "vacuum",
            Self::Expire => "expire",
        }
    }
}

impl Maintenance {
    /// Runs until it is told to stop; what is under way then is finished.
    pub(super) async fn run(mut self) {
        let expires = self.table.declaration().retention.is_some();
        let mut compact = ticks(self.options.compact_every);
        let mut vacuum = ticks(self.options.vacuum_every);
        let mut expire = ticks(if expires {
            self.options.expire_every
        } else {
            Duration::ZERO
        });
        loop {
            let chore = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => return,
                () = expire.next() => Chore::Expire,
                () = compact.next() => Chore::Compact,
                () = vacuum.next() => Chore::Vacuum,
            };
            if !self.first.is_assigned() {
                continue;
            }
            let turn = Arc::clone(&self.turn);
            let permit = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => return,
                permit = turn.acquire_owned() => permit,
            };
            let begun = Instant::now();
            let done = self.chore(chore).await;
            drop(permit);
            self.report(chore, begun.elapsed(), done.err());
        }
    }

    async fn chore(&self, chore: Chore) -> Result<(), LakeError> {
        let stream = self.table.declaration().name.as_str();
        match chore {
            Chore::Compact => {
                let report = self
                    .table
                    .compact(&self.options.compact, &self.options.writer)
                    .await?;
                if report.files_removed > 0 {
                    tracing::info!(
                        stream,
                        files_removed = report.files_removed,
                        files_added = report.files_added,
                        rows = report.rows,
                        "compacted"
                    );
                }
            }
            Chore::Vacuum => {
                let report = self.table.vacuum().await?;
                if report.files_deleted > 0 {
                    tracing::info!(
                        stream,
                        files = report.files_deleted,
                        bytes = report.bytes_deleted,
                        "vacuumed"
                    );
                }
            }
            Chore::Expire => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
                let removed = self.table.expire(now).await?;
                if removed > 0 {
                    tracing::info!(stream, events = removed, "retention removed events");
                }
            }
        }
        Ok(())
    }

    fn report(&self, chore: Chore, took: Duration, error: Option<LakeError>) {
        let stream = self.table.declaration().name.as_str();
        metrics::histogram!("tidemill_lake_maintenance_seconds", "chore" => chore.name()).record(took);
        if let Some(error) = error {
            metrics::counter!(
                "tidemill_lake_maintenance_errors_total", "chore" => chore.name(), "stream" => stream.to_owned()
            )
            .increment(1);
            tracing::warn!(stream, chore = chore.name(), %error, "maintenance failed, tries again later");
        }
    }
}

/// Ticks of an interval, or none at all.
struct Ticks(Option<tokio::time::Interval>);

fn ticks(every: Duration) -> Ticks {
    Ticks((!every.is_zero()).then(|| {
        let mut interval = interval_at(Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    }))
}

impl Ticks {
    async fn next(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}
