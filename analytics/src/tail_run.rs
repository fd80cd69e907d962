//! A run of records of a tail: how many rows each record has, what is known about their values, and, while there is
//! room, the rows as they travel in the journal.
//!
//! Columns of the lake's schema are made of the rows that a question wants, and only those columns that it wants: text
//! of a uuid or of a trace id costs more than everything else about a row.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::take::take;
use event::{Offset, Span, TraceId, schema};

use crate::QueryError;
use crate::pin::TailRange;
use crate::tail_marks::Mark;

/// Rows that belong to one request, up to a row of their part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The row after its last one.
    pub(crate) end: u32,
    pub(crate) trace_id: TraceId,
    pub(crate) received_at: i64,
}

/// Rows of a run that lie together, in the schema of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The first row's number in the run.
    pub(crate) first: u32,
    pub(crate) rows: RecordBatch,
    pub(crate) requests: Vec<Request>,
}

impl Part {
    /// Rows, and where they came from.
    pub(crate) fn new(first: u32, rows: RecordBatch, spans: &[Span]) -> Self {
        let mut end = 0;
        let request = |span: &Span| {
            end += span.rows;
            Request {
                end,
                trace_id: span.trace_id,
                received_at: span.received_at,
            }
        };
        let requests = spans.iter().map(request).collect();
        Self {
            first,
            rows,
            requests,
        }
    }

    /// Where its rows came from, as far as that is kept.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut before = 0;
        let span = |request: &Request| Span {
            rows: request.end - std::mem::replace(&mut before, request.end),
            trace_id: request.trace_id,
            received_at: request.received_at,
            idempotency_key: None,
            producer: None,
        };
        self.requests.iter().map(span).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        event::batch::bytes_of_rows(&self.rows)
            + self.requests.len() * size_of::<Request>()
            + size_of::<Self>()
    }
}

/// Bytes that are taken of a bound, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Taken {
    /// Takes bytes of what may be taken altogether, if there are that many left.
    pub(crate) fn take(of: &Arc<AtomicUsize>, bytes: usize, max: usize) -> Option<Self> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|after| *after <= max);
        of.try_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        Some(Self {
            of: Arc::clone(of),
            bytes,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// Some of what a run knows or has, with the bytes that it takes.
type Kept<T> = (Arc<T>, Taken);

/// Records of one partition that follow each other.
#[derive(Debug)]
pub(crate) struct Run {
    /// Which ones.
    pub(crate) range: TailRange,
    /// Rows up to the end of each record.
    ends: Vec<u32>,
    /// Which rows count, where not all do.
    kept: Option<BooleanBuffer>,
    /// First and last moment at which rows were received.
    pub(crate) received: Option<(i64, i64)>,
    /// Whether it is as long as runs are.
    pub(crate) full: bool,
    rows: Option<Kept<Vec<Part>>>,
    marks: Mutex<BTreeMap<String, Kept<Mark>>>,
    _taken: Option<Taken>,
}

impl Run {
    /// A run whose rows are not kept.
    pub(crate) fn new(range: TailRange, ends: Vec<u32>, kept: Option<BooleanBuffer>, full: bool) -> Self {
        Self {
            range,
            ends,
            kept,
            received: None,
            full,
            rows: None,
            marks: Mutex::default(),
            _taken: None,
        }
    }

    /// Notes when its rows were received, all of which these are.
    pub(crate) fn received_as(&mut self, parts: &[Part]) {
        let moments = || {
            parts
                .iter()
                .flat_map(|part| &part.requests)
                .map(|request| request.received_at)
        };
        self.received = moments().min().zip(moments().max());
    }

    /// Bytes that it takes without rows and marks.
    pub(crate) fn bytes(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.len().div_ceil(8));
        size_of::<Self>() + self.ends.len() * size_of::<u32>() + kept
    }

    /// Says what it takes.
    pub(crate) fn takes(&mut self, taken: Taken) {
        self._taken = Some(taken);
    }

    /// Keeps its rows.
    pub(crate) fn keep(&mut self, parts: Arc<Vec<Part>>, taken: Taken) {
        self.rows = Some((parts, taken));
    }

    /// Its rows, where they are kept.
    pub(crate) fn parts(&self) -> Option<Arc<Vec<Part>>> {
        self.rows.as_ref().map(|(parts, _)| Arc::clone(parts))
    }

    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub(crate) fn kept(&self) -> Option<&BooleanBuffer> {
        self.kept.as_ref()
    }

    /// What is known of a column.
    pub(crate) fn mark(&self, column: &str) -> Option<Arc<Mark>> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(column).map(|(mark, _)| Arc::clone(mark))
    }

    /// Notes what is known of a column.
    pub(crate) fn set_mark(&self, column: &str, mark: Mark, taken: Taken) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.insert(column.to_owned(), (Arc::new(mark), taken));
    }

    /// The number of a record's first row, of one of its records or the one after the last.
    pub(crate) fn row_of(&self, offset: Offset) -> u32 {
        let records = usize::try_from(offset.0.saturating_sub(self.range.from.0)).unwrap_or(usize::MAX);
        match records.min(self.ends.len()) {
            0 => 0,
            records => self.ends[records - 1],
        }
    }

    /// How many of the rows [from, to) count.
    pub(crate) fn count(&self, from: u32, to: u32) -> u64 {
        match &self.kept {
            None => u64::from(to.saturating_sub(from)),
            Some(kept) => {
                let (from, to) = (from as usize, to as usize);
                kept.slice(from, to.saturating_sub(from)).count_set_bits() as u64
            }
        }
    }

    /// The columns that `wanted` names of some rows of a part; `index` is the first row's, where it is known.
    pub(crate) fn columns(
        &self,
        part: &Part,
        rows: &Rows,
        index: Option<u64>,
        wanted: &SchemaRef,
    ) -> Result<RecordBatch, QueryError> {
        let places = rows.list();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.fields().len());
        for field in wanted.fields() {
            columns.push(match field.name().as_str() {
                schema::RECEIVED_AT => Arc::new(received_at(part, &places)),
                schema::TRACE_ID => Arc::new(trace_ids(part, &places)),
                schema::PARTITION => {
                    let partition =
                        i32::try_from(self.range.partition.0).map_err(|_| wrong("a partition"))?;
                    Arc::new(Int32Array::from_value(partition, places.len()))
                }
                schema::OFFSET => Arc::new(self.places(part, &places).0),
                schema::ROW => Arc::new(self.places(part, &places).1),
                schema::INDEX => self.indexes(part, &places, index),
                name => {
                    let column = part.rows.column_by_name(name).ok_or_else(|| wrong(name))?;
                    let chosen = match rows {
                        Rows::Range(from, to) => column.slice(*from as usize, (to - from) as usize),
                        Rows::List(list) => take(column, list, None)?,
                    };
                    schema::column_in_lake(name, &chosen)
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(wanted),
            columns,
            &options,
        )?)
    }

    /// Offset and number of rows of a part.
    fn places(&self, part: &Part, rows: &Places<'_>) -> (Int64Array, Int32Array) {
        let (mut offsets, mut numbers) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut record = self.ends.partition_point(|end| *end <= part.first);
        rows.each(|row| {
            let row = part.first + row;
            while self.ends.get(record).is_some_and(|end| *end <= row) {
                record += 1;
            }
            let first = record.checked_sub(1).map_or(0, |before| self.ends[before]);
            offsets.push((self.range.from.0 + record as u64).cast_signed());
            numbers.push((row - first).cast_signed());
        });
        (Int64Array::from(offsets), Int32Array::from(numbers))
    }

    fn indexes(&self, part: &Part, rows: &Places<'_>, index: Option<u64>) -> ArrayRef {
        let Some(mut index) = index else {
            return new_null_array(&DataType::Int64, rows.len());
        };
        let mut values = Vec::with_capacity(rows.len());
        let mut before = None;
        rows.each(|row| {
            let row = part.first + row;
            index += before.map_or(0, |before| self.count(before, row));
            before = Some(row);
            values.push(index.cast_signed());
        });
        Arc::new(PrimitiveArray::<Int64Type>::from(values))
    }
}

/// Rows of a part, in order.
#[derive(Debug)]
pub(crate) enum Rows {
    /// All from one on, up to another.
    Range(u32, u32),
    /// These.
    List(UInt32Array),
}

impl Rows {
    fn list(&self) -> Places<'_> {
        match self {
            Self::Range(from, to) => Places::Range(*from, *to),
            Self::List(list) => Places::List(list.values()),
        }
    }

    /// The first one.
    pub(crate) fn first(&self) -> Option<u32> {
        match self {
            Self::Range(from, to) => (from < to).then_some(*from),
            Self::List(list) => list.values().first().copied(),
        }
    }
}

/// The same, to go through.
enum Places<'a> {
    Range(u32, u32),
    List(&'a [u32]),
}

impl Places<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Range(from, to) => (to - from) as usize,
            Self::List(list) => list.len(),
        }
    }

    fn each(&self, mut row: impl FnMut(u32)) {
        match self {
            Self::Range(from, to) => (*from..*to).for_each(row),
            Self::List(list) => list.iter().for_each(|place| row(*place)),
        }
    }

    /// Goes through the rows with the request of each.
    fn each_request(&self, part: &Part, mut row: impl FnMut(&Request)) {
        let mut requests = part.requests.iter().peekable();
        self.each(|place| {
            while requests.next_if(|request| request.end <= place).is_some() {}
            if let Some(request) = requests.peek() {
                row(request);
            }
        });
    }
}

fn received_at(part: &Part, rows: &Places<'_>) -> TimestampMicrosecondArray {
    let mut values = Vec::with_capacity(rows.len());
    rows.each_request(part, |request| values.push(request.received_at));
    TimestampMicrosecondArray::from(values).with_timezone("UTC")
}

fn trace_ids(part: &Part, rows: &Places<'_>) -> StringArray {
    let mut ids = Vec::with_capacity(rows.len());
    rows.each_request(part, |request| ids.push(*request.trace_id.as_bytes()));
    let ids = Buffer::from_vec(ids.into_flattened());
    schema::IdText::of(schema::TRACE_ID).texts(&FixedSizeBinaryArray::new(16, ids, None))
}

fn wrong(what: &str) -> QueryError {
    QueryError::Storage(format!("`{what}` of the tail is not as the stream has it"))
}
