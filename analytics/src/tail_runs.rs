//! What is known of tails, in runs of records: made once, by the first question that comes to the records.
//!
//! A question that comes again reads what came since, and of the rest only the runs that may hold what it wants. A run
//! ends at [`ROWS`] rows, or at [`BYTES`]; the last one grows with the tail, so that records of single events become
//! long columns once and not in each question. Everything here has one bound: rows are kept in half of it, so that
//! what lets runs be left out finds room; what does not fit is not kept, and is read again: slower, never partial.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use event::{Offset, Partition, Span, StreamName, schema};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::QueryError;
use crate::pin::TailRange;
use crate::tail_run::{Part, Run, Taken};

/// Rows of a run.
const ROWS: u32 = if cfg!(test) { 100 } else { 65_536 };
/// Bytes of the records of a run, about.
const BYTES: usize = if cfg!(test) { 16 << 10 } else { 4 << 20 };
/// Records of fewer rows are put together.
const SMALL_ROWS: usize = if cfg!(test) { 10 } else { 1_024 };
/// Rows that small records are put together to.
const PART_ROWS: usize = if cfg!(test) { 40 } else { 8_192 };

/// Runs of one partition, in order.
pub(crate) type Runs = VecDeque<Arc<Run>>;

/// What questions share of a partition.
pub(crate) type OnePartition = Arc<Mutex<Runs>>;

/// Keeps them; one for the process.
pub(crate) struct TailRuns {
    /// Bytes of all that is kept of tails.
    pub(crate) taken: Arc<AtomicUsize>,
    bytes_max: usize,
    partitions: std::sync::Mutex<HashMap<(StreamName, Partition), OnePartition>>,
}

impl TailRuns {
    pub(crate) fn new(taken: Arc<AtomicUsize>, bytes_max: usize) -> Self {
        Self {
            taken,
            bytes_max,
            partitions: std::sync::Mutex::default(),
        }
    }

    /// The runs of a partition. Whoever holds them may add the next one.
    pub(crate) fn of(&self, stream: &StreamName, partition: Partition) -> OnePartition {
        let mut all = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((stream.clone(), partition)).or_default())
    }

    /// Lets go of what the lake has; of what somebody is adding to, the next time.
    pub(crate) fn forget(&self, stream: &StreamName, partition: Partition, stored: Offset) {
        let runs = self.of(stream, partition);
        let Ok(mut runs) = runs.try_lock() else { return };
        let count = runs.partition_point(|run| run.range.to <= stored);
        let gone: Vec<Arc<Run>> = runs.drain(..count).collect();
        drop(runs);
        // The system takes tens of milliseconds to take so much memory back, and no question waits for that.
        match Handle::try_current() {
            Ok(runtime) if !gone.is_empty() => drop(runtime.spawn_blocking(move || drop(gone))),
            _ => drop(gone),
        }
    }

    /// Takes room for something small.
    pub(crate) fn room(&self, bytes: usize) -> Option<Taken> {
        Taken::take(&self.taken, bytes, self.bytes_max)
    }

    /// Adds a run behind the last one, with its rows where there is room: those of a run that grows still go first.
    pub(crate) fn add(&self, runs: &mut Runs, mut run: Run, parts: &Arc<Vec<Part>>) -> Arc<Run> {
        let own = self.room(run.bytes());
        let rows_max = if run.full {
            self.bytes_max / 2
        } else {
            self.bytes_max
        };
        let bytes = parts.iter().map(Part::bytes).sum();
        if let Some(taken) = own {
            run.takes(taken);
            if let Some(taken) = Taken::take(&self.taken, bytes, rows_max) {
                run.keep(Arc::clone(parts), taken);
            }
            let run = Arc::new(run);
            runs.push_back(Arc::clone(&run));
            return run;
        }
        Arc::new(run)
    }
}

/// Makes a run, record by record.
pub(crate) struct RunBuilder {
    wire: SchemaRef,
    range: TailRange,
    ends: Vec<u32>,
    kept: Option<BooleanBufferBuilder>,
    bytes: usize,
    parts: Vec<Part>,
    /// Small records that will be one part.
    small: Vec<RecordBatch>,
    small_rows: usize,
    small_spans: Vec<Span>,
    /// Rows of finished parts.
    rows: u32,
}

impl RunBuilder {
    /// A run that begins at an offset, with that row of it.
    pub(crate) fn new(wire: SchemaRef, partition: Partition, from: Offset, row: u32) -> Self {
        Self {
            wire,
            range: TailRange {
                partition,
                from,
                to: from,
            },
            ends: Vec::new(),
            kept: None,
            bytes: 0,
            parts: Vec::new(),
            small: Vec::new(),
            small_rows: 0,
            small_spans: Vec::new(),
            rows: row,
        }
    }

    /// Goes on where a run whose rows are at hand has ended.
    pub(crate) fn resume(wire: SchemaRef, run: &Run, parts: &[Part]) -> Self {
        let mut builder = Self::new(wire, run.range.partition, run.range.from, 0);
        builder.range = run.range;
        builder.ends = run.ends().to_vec();
        builder.kept = run.kept().map(|kept| {
            let mut copy = BooleanBufferBuilder::new(kept.len());
            copy.append_buffer(kept);
            copy
        });
        builder.bytes = parts.iter().map(Part::bytes).sum();
        builder.rows = run.ends().last().copied().unwrap_or(0);
        builder.parts = parts.to_vec();
        // What is small still goes on growing.
        if let Some(last) = builder.parts.pop_if(|last| last.rows.num_rows() < SMALL_ROWS) {
            builder.rows = last.first;
            builder.small_rows = last.rows.num_rows();
            builder.small_spans = last.spans();
            builder.small.push(last.rows);
        }
        builder
    }

    /// Where the next record is.
    pub(crate) fn next(&self) -> Offset {
        self.range.to
    }

    /// Whether it is long enough.
    pub(crate) fn is_full(&self) -> bool {
        self.rows as usize + self.small_rows >= ROWS as usize || self.bytes >= BYTES
    }

    /// Adds a record without rows.
    pub(crate) fn skip(&mut self) {
        self.ends.push(self.rows + self.small_rows as u32);
        self.range.to = self.range.to.next();
    }

    /// Adds records that have these rows together, as many of them as each has, and says which rows count.
    pub(crate) fn push(
        &mut self,
        rows: &RecordBatch,
        spans: Vec<Span>,
        records: impl Iterator<Item = (u32, Option<BooleanArray>)>,
    ) -> Result<(), QueryError> {
        let rows = schema::conform(rows, &self.wire)?;
        let mut end = self.rows + self.small_rows as u32;
        for (count, kept) in records {
            self.note(end, count, kept);
            end += count;
            self.ends.push(end);
            self.range.to = self.range.to.next();
        }
        self.bytes +=
            event::batch::bytes_of_rows(&rows) + spans.len() * size_of::<crate::tail_run::Request>();
        if rows.num_rows() >= SMALL_ROWS {
            self.join()?;
            let first = self.rows;
            self.rows += rows.num_rows() as u32;
            self.parts.push(Part::new(first, rows, &spans));
            return Ok(());
        }
        if rows.num_rows() > 0 {
            self.small_rows += rows.num_rows();
            self.small.push(rows);
            self.small_spans.extend(spans);
        }
        if self.small_rows >= PART_ROWS {
            self.join()
        } else {
            Ok(())
        }
    }

    /// Notes which of a record's rows count.
    fn note(&mut self, before: u32, count: u32, kept: Option<BooleanArray>) {
        if self.kept.is_none() && kept.is_some() {
            let mut all = BooleanBufferBuilder::new((before + count) as usize);
            all.append_n(before as usize, true);
            self.kept = Some(all);
        }
        if let Some(all) = &mut self.kept {
            match kept {
                Some(kept) => all.append_buffer(kept.values()),
                None => all.append_n(count as usize, true),
            }
        }
    }

    fn join(&mut self) -> Result<(), QueryError> {
        let first = self.rows;
        let rows = match &self.small[..] {
            [] => return Ok(()),
            [one] => one.clone(),
            several => concat_batches(&self.wire, several)?,
        };
        self.small.clear();
        self.rows += std::mem::take(&mut self.small_rows) as u32;
        let spans = std::mem::take(&mut self.small_spans);
        self.parts.push(Part::new(first, rows, &spans));
        Ok(())
    }

    /// The rows.
    pub(crate) fn parts(mut self) -> Result<Vec<Part>, QueryError> {
        self.join()?;
        Ok(self.parts)
    }

    /// The run and its rows.
    pub(crate) fn finish(mut self) -> Result<(Run, Arc<Vec<Part>>), QueryError> {
        self.join()?;
        let full = self.is_full();
        let kept = self.kept.map(|mut kept| kept.finish());
        let kept = kept.filter(|kept: &BooleanBuffer| kept.count_set_bits() < kept.len());
        let mut run = Run::new(self.range, self.ends, kept, full);
        run.received_as(&self.parts);
        Ok((run, Arc::new(self.parts)))
    }
}
