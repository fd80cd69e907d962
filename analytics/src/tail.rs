//! The rows that are in the journal but not yet in the lake, as columns of the lake's schema.
//!
//! Decoded records are kept up to a number of bytes and read from the journal beyond: slower, never partial.
//! What does not fit is not kept, rather than pushing out what is: every query reads the whole tail in order,
//! so replacing the oldest would miss each time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use event::batch::bytes_of_rows;
use event::{Offset, Partition, Position, StreamDeclaration, StreamName, schema};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use journal::{Decoded as DecodedRecord, Journal, JournalReader, Record, RecordDecoder};

use crate::QueryError;
use crate::pin::{Pin, TailRange};
use crate::tail_kept::TailKept;
use crate::tail_run::Taken;
use crate::tail_runs::TailRuns;

/// Bytes of records that are read from the journal at once.
const READ_BYTES: usize = 4 << 20;

/// By offset, with the bytes that they take of what may be kept of tails.
type Decoded = BTreeMap<u64, (RecordBatch, Taken)>;

type Kept = HashMap<(StreamName, Partition), Decoded>;

/// Reads tails; one for the process, found by plans in the session that runs them.
pub(crate) struct Tail {
    pub(crate) journal: Arc<dyn Journal>,
    bytes_max: usize,
    kept: Mutex<Kept>,
    /// What SQL knows of tails; within the same bound.
    pub(crate) runs: TailRuns,
    /// Which rows are kept, of streams whose ids are unique.
    pub(crate) kept_rows: TailKept,
}

struct Reading {
    tail: Arc<Tail>,
    stream: Arc<StreamDeclaration>,
    range: TailRange,
    reader: Option<Box<dyn JournalReader>>,
    decoder: RecordDecoder,
    ready: VecDeque<RecordBatch>,
}

impl Tail {
    pub(crate) fn new(journal: Arc<dyn Journal>, bytes_max: usize) -> Self {
        Self {
            kept_rows: TailKept::new(Arc::clone(&journal)),
            journal,
            bytes_max,
            kept: Mutex::default(),
            runs: TailRuns::new(Arc::<AtomicUsize>::default(), bytes_max),
        }
    }

    /// The rows of one range of a pin, a batch a record, in order.
    pub(crate) fn read(
        self: &Arc<Self>,
        stream: &Arc<StreamDeclaration>,
        range: TailRange,
    ) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        let reading = Reading {
            tail: Arc::clone(self),
            stream: Arc::clone(stream),
            range,
            reader: None,
            decoder: RecordDecoder::new(Arc::clone(stream)),
            ready: VecDeque::new(),
        };
        try_unfold(reading, |mut reading| async move {
            let batch = reading.next().await?;
            Ok(batch.map(|batch| (batch, reading)))
        })
        .boxed()
    }

    /// All ranges of a pin, one after the other.
    pub(crate) fn read_pin(
        self: &Arc<Self>,
        pin: &Pin,
    ) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        self.read_ranges(&pin.declaration, &pin.tail)
    }

    /// Some ranges, one after the other.
    pub(crate) fn read_ranges(
        self: &Arc<Self>,
        stream: &Arc<StreamDeclaration>,
        ranges: &[TailRange],
    ) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        let ranges: Vec<_> = ranges.iter().map(|range| self.read(stream, *range)).collect();
        futures::stream::iter(ranges).flatten().boxed()
    }

    /// Lets go of what the lake has.
    pub(crate) fn forget(&self, stream: &StreamName, partition: Partition, stored: Offset) {
        self.runs.forget(stream, partition, stored);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoded) = kept.get_mut(&(stream.clone(), partition)) {
            *decoded = decoded.split_off(&stored.0);
        }
    }

    fn kept(&self, stream: &StreamName, partition: Partition, offset: Offset) -> Option<RecordBatch> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let decoded = kept.get(&(stream.clone(), partition))?;
        decoded.get(&offset.0).map(|(batch, _)| batch.clone())
    }

    fn keep(&self, stream: &StreamName, at: Position, batch: &RecordBatch) {
        // The other half is for what lets runs be left out.
        let Some(taken) = Taken::take(&self.runs.taken, bytes_of_rows(batch), self.bytes_max / 2) else {
            return;
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let decoded = kept.entry((stream.clone(), at.partition)).or_default();
        decoded.insert(at.offset.0, (batch.clone(), taken));
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if let Some(batch) = self.ready.pop_front() {
            self.range.from = self.range.from.next();
            return Ok(Some(batch));
        }
        if self.range.from >= self.range.to {
            return Ok(None);
        }
        let TailRange { partition, from, .. } = self.range;
        if let Some(batch) = self.tail.kept(&self.stream.name, partition, from) {
            self.range.from = from.next();
            return Ok(Some(batch));
        }
        self.fill().await?;
        let batch = self.ready.pop_front();
        self.range.from = from.next();
        Ok(batch)
    }

    async fn fill(&mut self) -> Result<(), QueryError> {
        let (journal, stream) = (&*self.tail.journal, &self.stream.name);
        for record in read_on(journal, stream, &mut self.reader, self.range, READ_BYTES).await? {
            if record.offset >= self.range.to {
                break;
            }
            let rows = self.rows(&record)?;
            let at = Position::new(record.partition, record.offset);
            self.tail.keep(&self.stream.name, at, &rows);
            self.ready.push_back(rows);
        }
        Ok(())
    }
}

/// Reads records from the beginning of a range on, about so many bytes of them, with the reader that stands there or a
/// new one. They follow each other, and may go beyond the range.
///
/// # Errors
/// When the journal cannot be read, or gives other records.
pub(crate) async fn read_on(
    journal: &dyn Journal,
    stream: &StreamName,
    standing: &mut Option<Box<dyn JournalReader>>,
    range: TailRange,
    bytes_max: usize,
) -> Result<Vec<Record>, QueryError> {
    let from = Position::new(range.partition, range.from);
    let mut reader = match standing.take() {
        Some(reader) if reader.position() == from => reader,
        _ => journal.reader(stream, from).await?,
    };
    let last = range.from.next() == range.to;
    let records = reader.next(if last { 1 } else { bytes_max }).await?;
    let mut expected = range.from;
    for record in &records {
        if record.offset != expected {
            return Err(QueryError::Storage(format!(
                "journal gave offset {} of stream `{}` in place of {expected}",
                record.offset,
                stream.as_str()
            )));
        }
        expected = expected.next();
    }
    *standing = Some(reader);
    Ok(records)
}

impl Reading {
    /// The events of a record, none of a message that is no event, and none whose id is known already where ids are
    /// unique.
    fn rows(&mut self, record: &Record) -> Result<RecordBatch, QueryError> {
        match self.decoder.decode(record)? {
            DecodedRecord::Batch(batch) => {
                let rows = schema::to_lake(&batch, record.offset, &self.stream)?;
                if self.stream.unique.is_none() {
                    return Ok(rows);
                }
                let decided = &self.tail.kept_rows;
                decided.keep(&self.stream.name, record.partition, rows)
            }
            DecodedRecord::Reject(..) | DecodedRecord::Nothing => {
                Ok(RecordBatch::new_empty(schema::lake(&self.stream)))
            }
        }
    }
}
