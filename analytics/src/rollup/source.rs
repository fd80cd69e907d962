//! Reads one partition of a rollup's source ahead of the windows: from the journal, and from the lake what the journal
//! does not have any more (I-5: a rollup holds nothing back).
//!
//! Of a stream whose ids are unique it gives the rows that are kept: what the lake has from there, and what it does not
//! have yet as everybody decides it ([`crate::kept`]). So a range has the rows that SQL finds in it, whoever computes it
//! and wherever the lake ends at that moment.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use event::{Offset, Partition, Position, StreamDeclaration, schema};
use journal::{Decoded, Journal, Payload, ReadError, Record, RecordDecoder};
use lake::{PartitionRows, Table};
use tokio::sync::mpsc;

use super::error::RollupError;
use super::window::{Chunk, Place};
use crate::kept::Kept;
use crate::stored_rows::{Records, WholeRecords, offsets};

/// Bytes of records that are read at once: every partition has up to three times as much in memory.
const READ_BYTES: usize = 256 << 10;

/// What comes of reading ahead.
pub(super) type Read = Result<Chunk, RollupError>;

/// Why the journal is not read any more.
enum Next {
    /// Nobody takes what is read.
    Nobody,
    /// What comes next is in the lake, where rows that are not kept have been left out.
    Stored,
    /// The journal has let go of what comes next.
    Gone(ReadError),
}

/// One partition that is read.
pub(super) struct Source {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) table: Option<Arc<Table>>,
    pub(super) partition: Partition,
    /// Says what is kept, of a stream whose ids are unique.
    pub(super) kept: Option<Kept>,
}

impl Source {
    /// Reads from a place on until nobody takes what is read any more.
    pub(super) async fn run(self, from: Place, out: mpsc::Sender<Read>) {
        if let Err(error) = self.read(from, &out).await {
            // Whoever asked may be gone.
            let _ = out.send(Err(error)).await;
        }
    }

    async fn read(&self, mut from: Place, out: &mpsc::Sender<Read>) -> Result<(), RollupError> {
        loop {
            let in_lake = match &self.kept {
                Some(kept) => {
                    let stored = kept.stored(&self.stream, self.partition).await;
                    stored.map_err(RollupError::Source)? > Offset(from.offset)
                }
                None => false,
            };
            let why = if in_lake {
                Next::Stored
            } else {
                self.read_journal(&mut from, out).await?
            };
            let gone = match why {
                Next::Nobody => return Ok(()),
                Next::Stored => None,
                Next::Gone(gone) => Some(gone),
            };
            let end = self.read_lake(from, out).await?;
            // It never jumps.
            if end.0 <= from.offset {
                let shorter = || RollupError::Rows("the lake has less than its newest version".to_owned());
                return Err(gone.map_or_else(shorter, RollupError::Read));
            }
            from = Place {
                offset: end.0,
                row: 0,
            };
        }
    }

    /// Gives what the journal has, as far as it must not be read in the lake.
    async fn read_journal(&self, from: &mut Place, out: &mpsc::Sender<Read>) -> Result<Next, RollupError> {
        let position = Position::new(self.partition, Offset(from.offset));
        let mut reader = match self.journal.reader(&self.stream.name, position).await {
            Err(gone @ ReadError::Gone { .. }) => return Ok(Next::Gone(gone)),
            opened => opened?,
        };
        let mut decoder = RecordDecoder::new(Arc::clone(&self.stream));
        loop {
            let records = match reader.next(READ_BYTES).await {
                Err(gone @ ReadError::Gone { .. }) => return Ok(Next::Gone(gone)),
                read => read?,
            };
            let mut rows = self.rows(&mut decoder, &records)?;
            if let Some(kept) = &self.kept {
                let decided = kept.decide(&self.stream, &records).await;
                let Some(decided) = decided.map_err(RollupError::Source)? else {
                    return Ok(Next::Stored);
                };
                let left = rows.into_iter().map(|rows| decided.keep(rows)).collect();
                rows = Result::<_, _>::map_err(left, RollupError::Source)?;
            }
            skip_before(&mut rows, *from)?;
            let to = reader.position().offset;
            *from = Place { offset: to.0, row: 0 };
            if out.send(Ok(Chunk { rows, to })).await.is_err() {
                return Ok(Next::Nobody);
            }
        }
    }

    fn rows(&self, decoder: &mut RecordDecoder, records: &[Record]) -> Result<Vec<RecordBatch>, RollupError> {
        let mut found = Vec::new();
        let mut rest = records;
        while let Some(record) = rest.first() {
            let mut taken = 1;
            match &record.payload {
                Payload::Json(_) => {
                    let messages = decoder.decode_messages(rest);
                    taken = messages.taken.max(1);
                    if let Some(batch) = &messages.batch {
                        found.push(schema::messages_to_lake(batch, &messages.offsets, &self.stream)?);
                    }
                }
                Payload::Record(_) => {
                    if let Decoded::Batch(batch) = decoder.decode(record)? {
                        found.push(schema::to_lake(&batch, record.offset, &self.stream)?);
                    }
                }
                Payload::Nothing => {}
            }
            rest = &rest[taken..];
        }
        Ok(found)
    }

    /// Gives what the lake has from a place on, and where it ends.
    async fn read_lake(&self, from: Place, out: &mpsc::Sender<Read>) -> Result<Offset, RollupError> {
        let Some(table) = &self.table else {
            return Ok(Offset(0));
        };
        let position = Position::new(self.partition, Offset(from.offset));
        let rows = table.partition_rows(position).await?;
        let end = rows.end();
        let stream = self.stream.name.as_str();
        tracing::info!(stream, partition = %self.partition, from = from.offset, %end, "a rollup reads the lake");
        let out = out.clone();
        let read = tokio::task::spawn_blocking(move || give_lake(rows, from, &out));
        read.await
            .map_err(|error| RollupError::Thread(error.to_string()))??;
        Ok(end)
    }
}

/// Gives the rows of the lake in chunks of whole records. Blocks.
fn give_lake(source: PartitionRows, from: Place, out: &mpsc::Sender<Read>) -> Result<(), RollupError> {
    let mut source = WholeRecords::new(source);
    while let Some(Records { mut rows, to }) = source.next().map_err(RollupError::Source)? {
        skip_before(&mut rows, from)?;
        if out.blocking_send(Ok(Chunk { rows, to })).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Leaves out the rows before a place, which are in a window already.
fn skip_before(rows: &mut Vec<RecordBatch>, from: Place) -> Result<(), RollupError> {
    for batch in rows.iter_mut() {
        let offsets = offsets(batch).map_err(RollupError::Source)?;
        if offsets
            .first()
            .is_none_or(|first| first.cast_unsigned() > from.offset)
        {
            break;
        }
        let numbers = batch
            .column_by_name(schema::ROW)
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .ok_or_else(|| RollupError::Rows("rows have no `_row`".to_owned()))?;
        let before = offsets
            .iter()
            .zip(numbers.values())
            .take_while(|(offset, row)| {
                (offset.cast_unsigned(), row.cast_unsigned()) < (from.offset, from.row)
            })
            .count();
        *batch = batch.slice(before, batch.num_rows() - before);
    }
    rows.retain(|batch| batch.num_rows() > 0);
    Ok(())
}
