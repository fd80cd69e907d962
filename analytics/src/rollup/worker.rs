//! One rollup in this process: wait until it is ours, find where it ends, go on from there, and begin anew whenever
//! anything fails or somebody else was faster.
//!
//! Nothing is remembered from one try to the next: the rollup's own stream says where it is.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_select::concat::concat;
use event::stream::rollup::{FOLLOWS, SOURCE, SOURCE_ROWS, WINDOW_END, WINDOW_START, is_implied};
use event::{Batch, Offset, Partition, Position, Span, StreamDeclaration, TraceId, schema};
use futures::FutureExt;
use journal::{Assignment, GroupMember, Journal};
use lake::Table;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::aggregate::Aggregate;
use super::error::RollupError;
use super::source::{Read, Source};
use super::tip::{self, SourceRange, Tip};
use super::window::{Place, Window, Windows};
use crate::tail::batch_bytes;

/// Most windows of one record: a rollup that catches up appends many at once.
const WINDOWS_MAX: usize = 64;
/// Bytes of values at which a record is appended, far below what a record may have.
const VALUES_BYTES_MAX: usize = 2 << 20;
/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// For how long a shutdown reads on before it ends the open window.
const DRAIN: Duration = Duration::from_secs(2);

/// Computes one rollup whenever it is this process's.
pub(super) struct Worker {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) source: Arc<StreamDeclaration>,
    /// Microseconds.
    pub(super) every: i64,
    pub(super) rows_max: u64,
    pub(super) flush_on_stop: bool,
    pub(super) group: String,
    pub(super) retry: [Duration; 2],
    pub(super) aggregate: Aggregate,
    pub(super) journal: Arc<dyn Journal>,
    /// The rollup's own table.
    pub(super) table: Option<Arc<Table>>,
    pub(super) source_table: Option<Arc<Table>>,
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

/// What is read ahead, and the tasks that read it.
struct Lanes {
    out: Vec<mpsc::Receiver<Read>>,
    /// They end when this is dropped.
    _reading: JoinSet<()>,
}

/// What is known of the source's end: what was durable at a moment.
struct Known {
    ends: Vec<Offset>,
    at: i64,
}

/// One stretch of computing, from a tip on.
struct Run<'a> {
    worker: &'a Worker,
    windows: Windows,
    lanes: Lanes,
    known: Known,
    tip: Tip,
    /// The journal that the source is in.
    journal: String,
    member: &'a dyn GroupMember,
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
        let begun = self.begin(member).await?;
        let mut run = begun;
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
        let partitions = 0..self.journal.partitions(&self.source.name);
        let places: Vec<Place> = partitions
            .map(|partition| tip.places.get(&partition).copied().unwrap_or_default())
            .collect();
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

    fn read(&self, places: &[Place]) -> Lanes {
        let (mut out, mut reading) = (Vec::new(), JoinSet::new());
        for (partition, place) in (0..).zip(places) {
            let (sender, receiver) = mpsc::channel(1);
            let source = Source {
                stream: Arc::clone(&self.source),
                journal: Arc::clone(&self.journal),
                table: self.source_table.clone(),
                partition: Partition(partition),
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
    async fn known(&self) -> Result<Known, RollupError> {
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

    fn gauge(&self, name: &'static str, value: f64) {
        metrics::gauge!(name, &self.labels()).set(value);
    }

    fn labels(&self) -> [(&'static str, String); 1] {
        [("stream", self.name().to_owned())]
    }

    fn name(&self) -> &str {
        self.stream.name.as_str()
    }
}

impl Run<'_> {
    /// Computes window after window; gives why it cannot go on.
    async fn until_failed(&mut self, wait: &mut Duration) -> RollupError {
        let mut measuring = interval(MEASURE_EVERY);
        measuring.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.step(&mut measuring).await {
                Ok(true) => *wait = self.worker.retry[0],
                Ok(false) => {}
                Err(error) => return error,
            }
        }
    }

    /// Appends what has ended, or waits for what is next. Says whether something was appended.
    async fn step(&mut self, measuring: &mut tokio::time::Interval) -> Result<bool, RollupError> {
        let ended = self.ended()?;
        if !ended.is_empty() {
            self.publish(ended).await?;
            return Ok(true);
        }
        let missing = (0..)
            .zip(&self.known.ends)
            .any(|(lane, end)| self.windows.misses(lane, *end));
        let due = self.windows.due().filter(|_| !missing);
        let wait = due.map(|due| Duration::from_micros(due.saturating_sub(now()).max(0).cast_unsigned()));
        tokio::select! {
            biased;
            chunk = next_chunk(&mut self.lanes.out, &self.windows) => self.take(chunk)?,
            () = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            } => self.known = self.worker.known().await?,
            _ = measuring.tick() => self.measure().await?,
        }
        Ok(false)
    }

    fn take(&mut self, (lane, read): (usize, Option<Read>)) -> Result<(), RollupError> {
        let chunk =
            read.ok_or_else(|| RollupError::Thread("a partition is not read any more".to_owned()))??;
        self.windows.push(Partition(lane as u32), chunk);
        Ok(())
    }

    fn ended(&mut self) -> Result<Vec<Window>, RollupError> {
        let mut ended = Vec::new();
        let mut bytes = 0;
        while ended.len() < WINDOWS_MAX && bytes < VALUES_BYTES_MAX {
            let Some(window) = self.windows.advance(&self.known.ends, self.known.at, now())? else {
                break;
            };
            bytes += window.rows.iter().map(batch_bytes).sum::<usize>();
            ended.push(window);
        }
        Ok(ended)
    }

    async fn measure(&self) -> Result<(), RollupError> {
        let ends = self.worker.known().await?.ends;
        let lag: u64 = ends
            .iter()
            .enumerate()
            .map(|(lane, end)| self.windows.lag(lane, *end))
            .sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "gauges are doubles; 2^53 records are exact"
        )]
        self.worker.gauge("tidemill_rollup_lag_records", lag as f64);
        Ok(())
    }

    /// Reads on for a bounded time, and appends what there is as if every window had ended.
    async fn flush(&mut self) -> Result<(), RollupError> {
        let deadline = Instant::now() + DRAIN;
        loop {
            let ended = self.ended()?;
            if !ended.is_empty() {
                self.publish(ended).await?;
                continue;
            }
            let ends = &self.known.ends;
            if !(0..).zip(ends).any(|(lane, end)| self.windows.misses(lane, *end)) {
                break;
            }
            let Ok(chunk) = timeout_at(deadline, next_chunk(&mut self.lanes.out, &self.windows)).await else {
                break;
            };
            self.take(chunk)?;
        }
        match self.windows.flush() {
            Some(window) => self.publish(vec![window]).await,
            None => Ok(()),
        }
    }

    /// Computes windows, appends their rows as one record behind the tip, and finds out whether it is in the chain.
    async fn publish(&mut self, windows: Vec<Window>) -> Result<(), RollupError> {
        let count = windows.len() as u64;
        let rows: u64 = windows.iter().map(|window| window.count).sum();
        let window_end = windows.last().map_or(0, |window| window.end);
        let ranges = windows
            .last()
            .map(|window| window.ranges.clone())
            .unwrap_or_default();
        let batch = self.batch(windows).await?;
        let appended = self.worker.journal.append(vec![batch]).await?;
        let end = appended.first().map_or(0, |position| position.offset.0);
        let own = end.saturating_sub(1);
        if own != self.tip.end {
            self.check_own(own).await?;
        }
        self.tip.last = Some(own);
        self.tip.end = end;
        self.tip.window_end = window_end;
        self.tip.places = ranges.iter().map(|range| (range.partition, range.to)).collect();
        let position = Position::new(Partition(0), Offset(end));
        self.member.committed(&self.worker.stream.name, position);
        metrics::counter!("tidemill_rollup_windows_total", &self.worker.labels()).increment(count);
        metrics::counter!("tidemill_rollup_source_rows_total", &self.worker.labels()).increment(rows);
        Ok(())
    }

    /// Whether a record that others have appended before is not the one that comes next.
    async fn check_own(&self, own: u64) -> Result<(), RollupError> {
        let stream = &self.worker.stream.name;
        let from = Position::new(Partition(0), Offset(self.tip.end));
        let mut reader = self.worker.journal.reader(stream, from).await?;
        let mut first = None;
        while reader.position().offset.0 <= own {
            let records = reader.next(1 << 20).await?;
            let valid = records.iter().find(|record| record.bytes() > 0);
            first = first.or(valid.map(|record| record.offset.0));
        }
        if first == Some(own) {
            return Ok(());
        }
        Err(RollupError::Superseded)
    }

    /// The rows of some windows.
    async fn batch(&self, windows: Vec<Window>) -> Result<Batch, RollupError> {
        let count = windows.len();
        let moments = |moments: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("UTC"))
        };
        let starts = moments(windows.iter().map(|window| window.start).collect());
        let ends = moments(windows.iter().map(|window| window.end).collect());
        let counts = windows.iter().map(|window| window.count.cast_signed());
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
        let follows = self.tip.last.map(u64::cast_signed);
        let follows: ArrayRef = Arc::new(Int64Array::from(vec![follows; count]));
        let mut sources = Vec::with_capacity(count);
        let mut values: Vec<Vec<ArrayRef>> = Vec::with_capacity(count);
        for window in windows {
            let source = SourceRange::new(&self.journal, &window.ranges);
            let source = serde_json::to_string(&source)
                .map_err(|error| RollupError::Rows(format!("write a range: {error}")))?;
            sources.push(source);
            values.push(self.worker.aggregate.compute(window.rows).await?);
        }
        let sources: ArrayRef = Arc::new(StringArray::from(sources));
        let stream = &self.worker.stream;
        let wire = schema::wire(stream);
        let mut columns = Vec::with_capacity(wire.fields().len());
        let mut computed = 0;
        for field in wire.fields() {
            columns.push(match field.name().as_str() {
                WINDOW_START => Arc::clone(&starts),
                WINDOW_END => Arc::clone(&ends),
                SOURCE_ROWS => Arc::clone(&counts),
                SOURCE => Arc::clone(&sources),
                FOLLOWS => Arc::clone(&follows),
                name => {
                    debug_assert!(!is_implied(name), "every implied field is above");
                    let parts: Vec<_> = values.iter().map(|row| row[computed].as_ref()).collect();
                    computed += 1;
                    concat(&parts).map_err(|error| RollupError::Rows(error.to_string()))?
                }
            });
        }
        let rows =
            RecordBatch::try_new(wire, columns).map_err(|error| RollupError::Rows(error.to_string()))?;
        let span = Span {
            rows: u32::try_from(count).unwrap_or(u32::MAX),
            trace_id: TraceId::random(),
            received_at: now(),
            idempotency_key: None,
            producer: None,
        };
        Ok(Batch {
            stream: stream.name.clone(),
            partition: Partition(0),
            version: stream.version,
            spans: vec![span],
            rows,
        })
    }
}

/// The next chunk of a partition that has nothing left.
async fn next_chunk(lanes: &mut [mpsc::Receiver<Read>], windows: &Windows) -> (usize, Option<Read>) {
    poll_fn(|context| {
        for (lane, read) in lanes.iter_mut().enumerate() {
            if windows.is_empty(lane)
                && let Poll::Ready(read) = read.poll_recv(context)
            {
                return Poll::Ready((lane, read));
            }
        }
        Poll::Pending
    })
    .await
}

/// Microseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
