//! One stretch of computing: from the rollup's end on, window after window, until something fails, somebody else was
//! faster, or it is to end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_select::concat::concat;
use event::stream::rollup::{FOLLOWS, SOURCE, SOURCE_ROWS, WINDOW_END, WINDOW_START};
use event::{Batch, Offset, Partition, Position, Span, TraceId, schema};
use journal::GroupMember;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::error::RollupError;
use super::source::Read;
use super::tip::{SourceRange, Tip};
use super::window::{Window, Windows};
use super::worker::Worker;
use event::batch::bytes_of_rows;

/// Most windows of one record: a rollup that catches up appends many at once.
const WINDOWS_MAX: usize = 64;
/// Bytes of the source's rows that are computed at once.
const ROWS_BYTES_MAX: usize = 32 << 20;
/// Bytes of records that are read at once.
const READ_BYTES: usize = 1 << 20;
/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// For how long a shutdown reads on before it ends the open window.
const DRAIN: Duration = Duration::from_secs(2);

/// What is read ahead, and the tasks that read it.
pub(super) struct Lanes {
    pub(super) out: Vec<mpsc::Receiver<Read>>,
    /// They end when this is dropped.
    pub(super) _reading: JoinSet<()>,
}

/// What is known of the source's end: what was durable at a moment.
pub(super) struct Known {
    pub(super) ends: Vec<Offset>,
    pub(super) at: i64,
}

/// One stretch of computing, from a tip on.
pub(super) struct Run<'a> {
    pub(super) worker: &'a Worker,
    pub(super) windows: Windows,
    pub(super) lanes: Lanes,
    pub(super) known: Known,
    pub(super) tip: Tip,
    /// The journal that the source is in.
    pub(super) journal: String,
    pub(super) member: &'a dyn GroupMember,
}

impl Run<'_> {
    /// Computes window after window; gives why it cannot go on.
    pub(super) async fn until_failed(&mut self, wait: &mut Duration) -> RollupError {
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
        while ended.len() < WINDOWS_MAX && bytes < ROWS_BYTES_MAX {
            let Some(window) = self.windows.advance(&self.known.ends, self.known.at, now())? else {
                break;
            };
            bytes += window.rows.iter().map(bytes_of_rows).sum::<usize>();
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
    pub(super) async fn flush(&mut self) -> Result<(), RollupError> {
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
        for range in &ranges {
            let counted = Position::new(Partition(range.partition), Offset(range.to.offset));
            self.member.committed(&self.worker.source.name, counted);
        }
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
            let records = reader.next(READ_BYTES).await?;
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
                // The declared ones, in their order.
                _ => {
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
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
