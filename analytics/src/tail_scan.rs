//! Goes through the runs of one range of a pin, and makes the columns that a question wants of the rows that it may
//! want.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use event::{Offset, StreamDeclaration, schema};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use journal::{Decoded, JournalReader, Payload, Record, RecordDecoder};

use crate::QueryError;
use crate::pin::TailRange;
use crate::tail::{Tail, read_on};
use crate::tail_filter::TailFilter;
use crate::tail_run::{Part, Rows, Run};
use crate::tail_runs::RunBuilder;

/// Bytes of records that are read from the journal at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a mark for each row of its run, about.
const MARK_ROW_BYTES: usize = 2;

/// What a question wants of a tail.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The columns, of the lake's schema and `_index`.
    pub(crate) columns: SchemaRef,
    /// The rows, and more: whoever asks filters again.
    pub(crate) filter: Arc<TailFilter>,
}

/// A run, and its rows where they are at hand.
type Found = (Arc<Run>, Option<Arc<Vec<Part>>>);

/// One way through one range.
struct Scan {
    tail: Arc<Tail>,
    stream: Arc<StreamDeclaration>,
    wire: SchemaRef,
    /// What is left of it.
    range: TailRange,
    reader: Option<Box<dyn JournalReader>>,
    /// Records that were read and not looked at yet.
    ahead: VecDeque<Record>,
    decoder: RecordDecoder,
}

impl Tail {
    /// Rows of the ranges of a pin, one after the other, with the index of the first one where it is known.
    pub(crate) fn scan(
        self: &Arc<Self>,
        stream: &Arc<StreamDeclaration>,
        ranges: Vec<TailRange>,
        first_index: Option<u64>,
        wanted: Wanted,
    ) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        let state = Question {
            scans: ranges
                .into_iter()
                .map(|range| Scan::new(self, stream, range))
                .collect(),
            index: first_index,
            wanted,
            ready: VecDeque::new(),
        };
        try_unfold(state, |mut state| async move {
            let batch = state.next().await?;
            Ok(batch.map(|batch| (batch, state)))
        })
        .boxed()
    }

    /// How many rows there are in some ranges of a pin.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        stream: &Arc<StreamDeclaration>,
        ranges: &[TailRange],
    ) -> Result<u64, QueryError> {
        let mut rows = 0;
        for range in ranges {
            let mut scan = Scan::new(self, stream, *range);
            while let Some((run, _)) = scan.run().await? {
                let (from, to) = scan.within(&run);
                rows += run.count(from, to);
                scan.pass(&run);
            }
        }
        Ok(rows)
    }
}

struct Question {
    scans: VecDeque<Scan>,
    index: Option<u64>,
    wanted: Wanted,
    ready: VecDeque<RecordBatch>,
}

impl Question {
    async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(scan) = self.scans.front_mut() else {
                return Ok(None);
            };
            let Some((run, parts)) = scan.run().await? else {
                self.scans.pop_front();
                continue;
            };
            let (from, to) = scan.within(&run);
            let count = run.count(from, to);
            let index = self.index;
            self.index = index.map(|index| index + count);
            let filter = &self.wanted.filter;
            let wanted = count > 0 && filter.may_hold(&run, index.map(|index| (index, index + count)))?;
            if wanted && filter.is_all() && self.wanted.columns.fields().is_empty() {
                let rows = usize::try_from(count).unwrap_or(usize::MAX);
                self.ready.push_back(rows_alone(&self.wanted.columns, rows)?);
            } else if wanted {
                let parts = match parts {
                    Some(parts) => parts,
                    None => Arc::new(scan.read(&run).await?),
                };
                scan.mark(&run, &parts, filter)?;
                for part in parts.iter() {
                    if let Some(batch) = rows_of(&run, part, (from, to), index, &self.wanted)? {
                        self.ready.push_back(batch);
                    }
                }
            }
            scan.pass(&run);
        }
    }
}

/// Rows without columns.
fn rows_alone(columns: &SchemaRef, rows: usize) -> Result<RecordBatch, QueryError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(columns),
        Vec::new(),
        &options,
    )?)
}

/// What is wanted of a part of a run, of whose rows [from, to) are asked for; `index` is that of the run's first one
/// of them.
fn rows_of(
    run: &Run,
    part: &Part,
    (from, to): (u32, u32),
    index: Option<u64>,
    wanted: &Wanted,
) -> Result<Option<RecordBatch>, QueryError> {
    let rows = part.rows.num_rows() as u32;
    let begin = from.clamp(part.first, part.first + rows) - part.first;
    let end = to.clamp(part.first, part.first + rows) - part.first;
    if begin >= end {
        return Ok(None);
    }
    let index_of = |row: u32| index.map(|index| index + run.count(from, part.first + row));
    if let (Some(first), Some(after)) = (index_of(begin), index_of(end))
        && !wanted.filter.touches((first, after))
    {
        return Ok(None);
    }
    let mut rows = wanted.filter.rows(part, begin, end);
    if let Some(kept) = run.kept() {
        let counts = |row: &u32| kept.value((part.first + row) as usize);
        rows = Some(match rows {
            Some(rows) => rows.into_iter().filter(counts).collect(),
            None => (begin..end).filter(counts).collect(),
        });
    }
    let rows = match rows {
        None => Rows::Range(begin, end),
        Some(rows) => Rows::List(UInt32Array::from(rows)),
    };
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    run.columns(part, &rows, index_of(first), &wanted.columns)
        .map(Some)
}

impl Scan {
    fn new(tail: &Arc<Tail>, stream: &Arc<StreamDeclaration>, range: TailRange) -> Self {
        Self {
            tail: Arc::clone(tail),
            stream: Arc::clone(stream),
            wire: schema::wire(stream),
            range,
            reader: None,
            ahead: VecDeque::new(),
            decoder: RecordDecoder::new(Arc::clone(stream)),
        }
    }

    /// The run that the next record is in, and its rows where they are at hand; `None` at the end.
    async fn run(&mut self) -> Result<Option<Found>, QueryError> {
        if self.range.from >= self.range.to {
            return Ok(None);
        }
        let (tail, from) = (Arc::clone(&self.tail), self.range.from);
        let runs = tail.runs.of(&self.stream.name, self.range.partition);
        let mut runs = runs.lock().await;
        let at = runs.partition_point(|run| run.range.to <= from);
        if let Some(found) = runs.get(at) {
            if found.range.from <= from {
                return Ok(Some((Arc::clone(found), found.parts())));
            }
            // An older pin than those that made the runs: it reads for itself, up to the first of them.
            let end = found.range.from;
            drop(runs);
            let builder = RunBuilder::new(Arc::clone(&self.wire), self.range.partition, from, 0);
            let (run, parts) = self.build(builder, end.min(self.range.to)).await?.finish()?;
            return Ok(Some((Arc::new(run), Some(parts))));
        }
        // Otherwise what lies between is in the lake, or found no room.
        let last = runs.back().filter(|last| last.range.to == from);
        let open = last
            .filter(|last| !last.full)
            .and_then(|last| Some((Arc::clone(last), last.parts()?)));
        let builder = match &open {
            Some((run, parts)) => RunBuilder::resume(Arc::clone(&self.wire), run, parts),
            None => RunBuilder::new(Arc::clone(&self.wire), self.range.partition, from, 0),
        };
        let (run, parts) = self.build(builder, self.range.to).await?.finish()?;
        if let Some((run, parts)) = open {
            // Its room is needed for the longer one.
            runs.pop_back();
            drop((run, parts));
        }
        let run = tail.runs.add(&mut runs, run, &parts);
        Ok(Some((run, Some(parts))))
    }

    /// Which rows of a run are in the range.
    fn within(&self, run: &Run) -> (u32, u32) {
        (run.row_of(self.range.from), run.row_of(self.range.to))
    }

    /// Goes on behind a run.
    fn pass(&mut self, run: &Run) {
        self.range.from = run.range.to.min(self.range.to);
    }

    /// Reads rows of a run that are in the range. What is below it may have gone from the journal.
    async fn read(&mut self, run: &Run) -> Result<Vec<Part>, QueryError> {
        let from = self.range.from.max(run.range.from);
        let row = run.row_of(from);
        let mut builder = RunBuilder::new(Arc::clone(&self.wire), self.range.partition, from, row);
        let end = run.range.to.min(self.range.to);
        while builder.next() < end {
            self.take(&mut builder, end).await?;
        }
        builder.parts()
    }

    /// Adds to a run until it is long enough, at the most up to an offset.
    async fn build(&mut self, mut builder: RunBuilder, end: Offset) -> Result<RunBuilder, QueryError> {
        while builder.next() < end && !builder.is_full() {
            self.take(&mut builder, end).await?;
        }
        Ok(builder)
    }

    /// Notes what rows of a run say about its columns, if these are all of it.
    fn mark(&self, run: &Run, parts: &[Part], filter: &TailFilter) -> Result<(), QueryError> {
        let rows: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        if !filter.lacks_marks(run) || run.ends().last().is_none_or(|all| *all as usize != rows) {
            return Ok(());
        }
        let runs = &self.tail.runs;
        // A mark is made of all rows, and would be thrown away.
        if runs.room(rows * MARK_ROW_BYTES).is_none() {
            return Ok(());
        }
        filter.mark(run, parts, &self.stream, |name, mark, bytes| {
            if let Some(taken) = runs.room(bytes) {
                run.set_mark(name, mark, taken);
            }
        })
    }

    /// Adds the next record, or the next messages, to a run.
    async fn take(&mut self, builder: &mut RunBuilder, end: Offset) -> Result<(), QueryError> {
        let next = builder.next();
        self.fill(next).await?;
        let wanted = usize::try_from(end.0 - next.0).unwrap_or(usize::MAX);
        let counting = |record: &Record, rows: u32| counting(&self.tail, &self.stream, record, rows);
        let ahead = self.ahead.make_contiguous();
        let ahead = &ahead[..ahead.len().min(wanted)];
        let Some(first) = ahead.first() else {
            return Ok(());
        };
        if matches!(first.payload, Payload::Json(_)) {
            let messages = self.decoder.decode_messages(ahead);
            let taken = messages.taken.max(1);
            let (mut offsets, mut records) = (messages.offsets.iter().peekable(), Vec::with_capacity(taken));
            for record in &ahead[..taken] {
                let rows = u32::from(offsets.next_if(|offset| **offset == record.offset).is_some());
                records.push((rows, counting(record, rows)?));
            }
            match messages.batch {
                Some(batch) => builder.push(&batch.rows, batch.spans, records.into_iter())?,
                None => (0..taken).for_each(|_| builder.skip()),
            }
            self.ahead.drain(..taken);
            return Ok(());
        }
        match self.decoder.decode(first)? {
            Decoded::Batch(batch) => {
                let rows = batch.len() as u32;
                let record = (rows, counting(first, rows)?);
                builder.push(&batch.rows, batch.spans, std::iter::once(record))?;
            }
            Decoded::Reject(..) | Decoded::Nothing => builder.skip(),
        }
        self.ahead.pop_front();
        Ok(())
    }

    /// Reads on until there is a record, which must be the expected one.
    async fn fill(&mut self, next: Offset) -> Result<(), QueryError> {
        if self.ahead.front().is_some_and(|record| record.offset != next) {
            self.ahead.clear();
        }
        if self.ahead.is_empty() {
            let left = TailRange {
                from: next,
                ..self.range
            };
            let (journal, stream) = (&*self.tail.journal, &self.stream.name);
            let records = read_on(journal, stream, &mut self.reader, left, READ_BYTES).await?;
            self.ahead.extend(records);
        }
        Ok(())
    }
}

/// Which rows of a record count, where ids are unique; all when absent.
fn counting(
    tail: &Tail,
    stream: &StreamDeclaration,
    record: &Record,
    rows: u32,
) -> Result<Option<BooleanArray>, QueryError> {
    if stream.unique.is_none() || rows == 0 {
        return Ok(None);
    }
    let kept = tail
        .kept_rows
        .rows(&stream.name, record.partition, record.offset)?;
    if kept.as_ref().is_some_and(|kept| kept.len() != rows as usize) {
        return Err(QueryError::Storage(format!(
            "record {} of `{}` has {rows} rows, and others were decided",
            record.offset, stream.name
        )));
    }
    Ok(kept)
}
