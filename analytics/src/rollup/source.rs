//! Reads one partition of a rollup's source ahead of the windows: from the journal, and from the lake what the journal
//! does not have any more (I-5: a rollup holds nothing back).

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::{Offset, Partition, Position, StreamDeclaration, schema};
use journal::{Decoded, Journal, Payload, ReadError, Record, RecordDecoder};
use lake::{PartitionRows, Table};
use tokio::sync::mpsc;

use super::error::RollupError;
use super::window::{Chunk, Place};

/// Bytes of records that are read at once: every partition has up to three times as much in memory.
const READ_BYTES: usize = 256 << 10;
/// Rows of the lake that are given at once.
const LAKE_ROWS: usize = 8_192;

/// What comes of reading ahead.
pub(super) type Read = Result<Chunk, RollupError>;

/// One partition that is read.
pub(super) struct Source {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) table: Option<Arc<Table>>,
    pub(super) partition: Partition,
}

impl Source {
    /// Reads from a place on until nobody takes what is read any more.
    pub(super) async fn run(self, from: Place, out: mpsc::Sender<Read>) {
        if let Err(error) = self.read(from, &out).await {
            // Whoever asked may be gone.
            let _ = out.send(Err(error)).await;
        }
    }

    async fn read(&self, from: Place, out: &mpsc::Sender<Read>) -> Result<(), RollupError> {
        let mut from = from;
        loop {
            let position = Position::new(self.partition, Offset(from.offset));
            let gone = match self.read_journal(position, &mut from, out).await {
                Err(RollupError::Read(gone @ ReadError::Gone { .. })) => gone,
                done => return done,
            };
            let end = self.read_lake(from, out).await?;
            // It never jumps.
            if end.0 <= from.offset {
                return Err(gone.into());
            }
            from = Place {
                offset: end.0,
                row: 0,
            };
        }
    }

    async fn read_journal(
        &self,
        position: Position,
        from: &mut Place,
        out: &mpsc::Sender<Read>,
    ) -> Result<(), RollupError> {
        let mut reader = self.journal.reader(&self.stream.name, position).await?;
        let mut decoder = RecordDecoder::new(Arc::clone(&self.stream));
        loop {
            let records = reader.next(READ_BYTES).await?;
            let mut rows = self.rows(&mut decoder, &records)?;
            skip_before(&mut rows, *from)?;
            let to = reader.position().offset;
            *from = Place { offset: to.0, row: 0 };
            if out.send(Ok(Chunk { rows, to })).await.is_err() {
                return Ok(());
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
fn give_lake(mut source: PartitionRows, from: Place, out: &mpsc::Sender<Read>) -> Result<(), RollupError> {
    let (mut rows, mut count) = (Vec::new(), 0);
    while let Some(batch) = source.next_rows()? {
        let mut part = vec![batch];
        skip_before(&mut part, from)?;
        for batch in part {
            // Of the record that is read last there may be more.
            let begin = last_record(&batch)?;
            if count >= LAKE_ROWS
                && let Some((at, offset)) = begin
                && (at > 0 || !continues(&rows, offset)?)
            {
                if at > 0 {
                    rows.push(batch.slice(0, at));
                }
                let chunk = Chunk {
                    rows: std::mem::take(&mut rows),
                    to: Offset(offset),
                };
                if out.blocking_send(Ok(chunk)).is_err() {
                    return Ok(());
                }
                let rest = batch.slice(at, batch.num_rows() - at);
                count = rest.num_rows();
                rows.push(rest);
                continue;
            }
            count += batch.num_rows();
            rows.push(batch);
        }
    }
    let to = source.end();
    // An error means that nobody listens any more.
    let _ = out.blocking_send(Ok(Chunk { rows, to }));
    Ok(())
}

/// Where in a batch the last record begins, and its offset.
fn last_record(batch: &RecordBatch) -> Result<Option<(usize, u64)>, RollupError> {
    let offsets = offsets(batch)?;
    let Some(last) = offsets.last() else {
        return Ok(None);
    };
    let begin = offsets.partition_point(|offset| offset < last);
    Ok(Some((begin, last.cast_unsigned())))
}

/// Whether the rows so far end within the record at that offset.
fn continues(rows: &[RecordBatch], offset: u64) -> Result<bool, RollupError> {
    let Some(last) = rows.last() else { return Ok(false) };
    Ok(offsets(last)?
        .last()
        .is_some_and(|last| last.cast_unsigned() == offset))
}

/// Leaves out the rows before a place, which are in a window already.
fn skip_before(rows: &mut Vec<RecordBatch>, from: Place) -> Result<(), RollupError> {
    for batch in rows.iter_mut() {
        let offsets = offsets(batch)?;
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

fn offsets(batch: &RecordBatch) -> Result<&[i64], RollupError> {
    let column = batch
        .column_by_name(schema::OFFSET)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let column = column.ok_or_else(|| RollupError::Rows("rows have no `_offset`".to_owned()))?;
    Ok(column.values())
}
