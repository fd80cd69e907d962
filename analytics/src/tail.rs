//! The rows that are in the journal but not yet in the lake, as columns of the lake's schema.
//!
//! Decoded records are kept up to a number of bytes and read from the journal beyond: slower, never partial.
//! What does not fit is not kept, rather than pushing out what is: every query reads the whole tail in order,
//! so replacing the oldest would miss each time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, RecordBatch};
use event::{Offset, Partition, Position, StreamDeclaration, StreamName, schema};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use journal::{Decoded as DecodedRecord, Journal, JournalReader, Record, RecordDecoder};

use crate::QueryError;
use crate::pin::{Pin, TailRange};
use crate::tail_kept::TailKept;

/// Bytes of records that are read from the journal at once.
const READ_BYTES: usize = 4 << 20;

type Decoded = BTreeMap<u64, (RecordBatch, usize)>;

#[derive(Default)]
struct Kept {
    partitions: HashMap<(StreamName, Partition), Decoded>,
    bytes: usize,
}

/// Reads tails; one for the process, found by plans in the session that runs them.
pub(crate) struct Tail {
    journal: Arc<dyn Journal>,
    bytes_max: usize,
    kept: Mutex<Kept>,
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(decoded) = kept.partitions.get_mut(&(stream.clone(), partition)) else {
            return;
        };
        let above = decoded.split_off(&stored.0);
        let freed: usize = decoded.values().map(|(_, bytes)| bytes).sum();
        *decoded = above;
        kept.bytes -= freed;
    }

    fn kept(&self, stream: &StreamName, partition: Partition, offset: Offset) -> Option<RecordBatch> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let decoded = kept.partitions.get(&(stream.clone(), partition))?;
        decoded.get(&offset.0).map(|(batch, _)| batch.clone())
    }

    fn keep(&self, stream: &StreamName, at: Position, batch: &RecordBatch) {
        let bytes = batch_bytes(batch);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + bytes > self.bytes_max {
            return;
        }
        let decoded = kept.partitions.entry((stream.clone(), at.partition)).or_default();
        let replaced = decoded.insert(at.offset.0, (batch.clone(), bytes));
        kept.bytes += bytes;
        kept.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
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
        let from = Position::new(self.range.partition, self.range.from);
        let mut reader = match self.reader.take() {
            Some(reader) if reader.position() == from => reader,
            _ => self.tail.journal.reader(&self.stream.name, from).await?,
        };
        let mut expected = from.offset;
        let last = from.offset.next() == self.range.to;
        for record in reader.next(if last { 1 } else { READ_BYTES }).await? {
            if record.offset != expected {
                return Err(QueryError::Storage(format!(
                    "journal gave offset {} of stream `{}` in place of {expected}",
                    record.offset,
                    self.stream.name.as_str()
                )));
            }
            expected = expected.next();
            if record.offset >= self.range.to {
                break;
            }
            let rows = self.rows(&record)?;
            let at = Position::new(record.partition, record.offset);
            self.tail.keep(&self.stream.name, at, &rows);
            self.ready.push_back(rows);
        }
        self.reader = Some(reader);
        Ok(())
    }
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

/// Bytes that the rows themselves take; columns of one record share one allocation.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}
