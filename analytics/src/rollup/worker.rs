//! One rollup in this process: wait until it is ours, find where it ends, go on from there, and begin anew whenever
//! anything fails or somebody else was faster.
//!
//! Nothing is remembered from one try to the next: the rollup's own stream says where it is.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, StreamDeclaration};
use futures::FutureExt;
use journal::{Assignment, GroupMember, Journal};
use lake::Table;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::aggregate::Aggregate;
use super::error::RollupError;
use super::run::{Known, Lanes, Run, now};
use super::source::Source;
use super::tip;
use super::window::{Place, Windows};
use crate::kept::Kept;

/// Computes one rollup whenever it is this process's.
pub(super) struct Worker {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) source: Arc<StreamDeclaration>,
    /// Microseconds.
    pub(super) every: i64,
    pub(super) rows_max: u64,
    pub(super) flush_on_stop: bool,
    pub(super) group: String,
    /// Whether somebody chose the group, which may have counted the source before there was this rollup.
    pub(super) named_group: bool,
    pub(super) retry: [Duration; 2],
    pub(super) aggregate: Aggregate,
    pub(super) journal: Arc<dyn Journal>,
    /// The rollup's own table.
    pub(super) table: Option<Arc<Table>>,
    pub(super) source_table: Option<Arc<Table>>,
    /// Says what is kept of the source, when its ids are unique.
    pub(super) kept: Option<Kept>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why computing ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The process ends.
    Stopped,
    /// The rollup is another process's.
    Lost,
}

impl Worker {
    /// Runs until it is told to stop.
    pub(super) async fn run(self) {
        if AssertUnwindSafe(self.run_until_told())
            .catch_unwind()
            .await
            .is_err()
        {
            self.stopped("the rollup panicked");
        }
    }

    async fn run_until_told(&self) {
        let Some(member) = self.join().await else { return };
        let mut wait = self.retry[0];
        while !*self.stopping.borrow() {
            if !self.assigned(member.as_ref()).await {
                break;
            }
            self.gauge("tidemill_rollup_active", 1.0);
            let ended = self.compute(member.as_ref(), &mut wait).await;
            self.gauge("tidemill_rollup_active", 0.0);
            match ended {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Lost) => {}
                Err(RollupError::Superseded) => {
                    metrics::counter!("tidemill_rollup_superseded_total", &self.labels()).increment(1);
                    tracing::info!(
                        rollup = self.name(),
                        "another process was faster, goes on behind it"
                    );
                }
                Err(error) if error.is_final() => {
                    self.stopped(&error.to_string());
                    let mut stopping = self.stopping.clone();
                    let _ = stopping.wait_for(|stop| *stop).await;
                }
                Err(error) => self.pause(&error, &mut wait).await,
            }
        }
        member.leave().await;
    }

    /// Joins the group, for as long as it takes. `None` when told to stop before.
    async fn join(&self) -> Option<Box<dyn GroupMember>> {
        let mut wait = self.retry[0];
        let streams = [self.stream.name.clone()];
        loop {
            match self.journal.join(&self.group, &streams).await {
                Ok(member) => return Some(member),
                Err(error) => self.pause(&error.into(), &mut wait).await,
            }
            if *self.stopping.borrow() {
                return None;
            }
        }
    }

    async fn pause(&self, error: &RollupError, wait: &mut Duration) {
        metrics::counter!("tidemill_rollup_retries_total", &self.labels()).increment(1);
        let (rollup, wait_ms) = (self.name(), wait.as_millis());
        tracing::warn!(rollup, %error, wait_ms, "the rollup failed, tries again");
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = sleep(*wait) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        *wait = wait.saturating_mul(2).min(self.retry[1]);
    }

    /// Waits until the rollup is this process's; `false` when told to stop.
    async fn assigned(&self, member: &dyn GroupMember) -> bool {
        let (mut assigned, mut stopping) = (member.assigned(), self.stopping.clone());
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => false,
            found = assigned.wait_for(|assigned| self.is_ours(assigned)) => found.is_ok(),
        }
    }

    fn is_ours(&self, assigned: &Assignment) -> bool {
        assigned.contains(&(self.stream.name.clone(), Partition(0)))
    }

    /// Goes on from the last valid row.
    async fn compute(&self, member: &dyn GroupMember, wait: &mut Duration) -> Result<Ended, RollupError> {
        let (mut assigned, mut stopping) = (member.assigned(), self.stopping.clone());
        let mut run = self.begin(member).await?;
        let told = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => Ended::Stopped,
            _ = assigned.wait_for(|assigned| !self.is_ours(assigned)) => Ended::Lost,
            error = run.until_failed(wait) => return Err(error),
        };
        // A dropped append may be there all the same, which the chain says. So who flushes looks again.
        if told == Ended::Stopped && self.flush_on_stop && self.is_ours(&member.assigned().borrow()) {
            drop(run);
            let mut run = self.begin(member).await?;
            run.flush().await?;
        }
        Ok(told)
    }

    /// Finds the tip, and begins to read the source behind it.
    async fn begin<'a>(&'a self, member: &'a dyn GroupMember) -> Result<Run<'a>, RollupError> {
        let tip = tip::find(self.journal.as_ref(), &self.stream, self.table.as_ref()).await?;
        let journal = self.journal.stream_id(&self.source.name).to_string();
        if let Some(counted) = tip.journal.as_ref().filter(|counted| **counted != journal) {
            return Err(RollupError::OtherJournal {
                counted: counted.clone(),
                found: journal,
            });
        }
        let known = self.known().await?;
        let places = match tip.last {
            None if self.named_group => self.counted_before(&known).await?,
            _ => {
                let partitions = 0..self.journal.partitions(&self.source.name);
                let place = |partition| tip.places.get(&partition).copied().unwrap_or_default();
                partitions.map(place).collect()
            }
        };
        tracing::info!(rollup = self.name(), last = ?tip.last, "computes the rollup");
        Ok(Run {
            windows: Windows::new(self.every, self.rows_max, &places, tip.window_end),
            lanes: self.read(&places),
            worker: self,
            known,
            tip,
            journal,
            member,
        })
    }

    /// Where the first window begins: where whoever was in this group before has said that it is.
    async fn counted_before(&self, known: &Known) -> Result<Vec<Place>, RollupError> {
        let source = &self.source.name;
        let mut places = vec![Place::default(); known.ends.len()];
        for position in self.journal.group_positions(&self.group, source).await? {
            let number = position.partition.0 as usize;
            // A position beyond the end is one of a topic that was there before this one.
            if let Some((place, end)) = places.get_mut(number).zip(known.ends.get(number))
                && position.offset <= *end
            {
                place.offset = position.offset.0;
            }
        }
        if places.iter().any(|place| place.offset > 0) {
            let (rollup, group) = (self.name(), &self.group);
            tracing::info!(rollup, group, "begins behind what its group has counted before");
        }
        Ok(places)
    }

    fn read(&self, places: &[Place]) -> Lanes {
        let (mut out, mut reading) = (Vec::new(), JoinSet::new());
        for (partition, place) in (0..).zip(places) {
            let (sender, receiver) = mpsc::channel(1);
            let source = Source {
                stream: Arc::clone(&self.source),
                journal: Arc::clone(&self.journal),
                table: self.source_table.clone(),
                partition: Partition(partition),
                kept: self.kept.clone(),
            };
            reading.spawn(source.run(*place, sender));
            out.push(receiver);
        }
        Lanes {
            out,
            _reading: reading,
        }
    }

    /// Asks where the source ends. The moment comes first: what became durable before it is below the ends.
    pub(super) async fn known(&self) -> Result<Known, RollupError> {
        let at = now();
        let positions = self.journal.end(&self.source.name).await?;
        let mut ends = vec![Offset(0); self.journal.partitions(&self.source.name) as usize];
        for position in positions {
            if let Some(end) = ends.get_mut(position.partition.0 as usize) {
                *end = position.offset;
            }
        }
        Ok(Known { ends, at })
    }

    fn stopped(&self, reason: &str) {
        self.gauge("tidemill_rollup_stopped", 1.0);
        let rollup = self.name();
        tracing::error!(
            rollup,
            reason,
            "the rollup stopped; it never jumps, so somebody must look"
        );
    }

    pub(super) fn gauge(&self, name: &'static str, value: f64) {
        metrics::gauge!(name, &self.labels()).set(value);
    }

    pub(super) fn labels(&self) -> [(&'static str, String); 1] {
        [("stream", self.name().to_owned())]
    }

    fn name(&self) -> &str {
        self.stream.name.as_str()
    }
}
