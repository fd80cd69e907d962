//! What the journal has no more, from the lake: it has the same events under the same positions. Of a stream whose ids
//! are unique whatever is there is taken from there: it has the kept ones.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use event::{Offset, Partition, Position, StreamDeclaration, schema};
use lake::{PartitionRows, Table};

use super::block::Block;
use super::channel::READ_BYTES;
use super::place::Place;
use super::shape::Shape;
use crate::QueryError;
use crate::stored_rows::{Records, WholeRecords, offsets};

/// What the lake has from a place on.
#[derive(Debug)]
pub(super) enum Stored {
    /// The next events, in order.
    Blocks(Vec<Arc<Block>>),
    /// It begins with this record: retention has removed what was before.
    From(Offset),
    /// Nothing.
    Nothing,
}

/// The next events from a place on, as whole records, about as many as are read from a journal at once, of records below an offset.
pub(super) async fn stored(
    table: &Table,
    (stream, shape): (&Arc<StreamDeclaration>, &Arc<Shape>),
    partition: Partition,
    from: Place,
    below: Offset,
) -> Result<Stored, QueryError> {
    let source = table
        .partition_rows(Position::new(partition, from.offset))
        .await?;
    let end = source.end().min(below);
    if end <= from.offset {
        return Ok(Stored::Nothing);
    }
    let (stream, shape) = (Arc::clone(stream), Arc::clone(shape));
    let read = tokio::task::spawn_blocking(move || read(source, &stream, &shape, from, end)).await;
    read.map_err(|_| QueryError::Storage("a file of the lake could not be read".to_owned()))?
}

fn read(
    source: PartitionRows,
    stream: &StreamDeclaration,
    shape: &Shape,
    from: Place,
    end: Offset,
) -> Result<Stored, QueryError> {
    let expired = source.expired();
    let mut source = WholeRecords::new(source);
    let (mut blocks, mut bytes, mut at) = (Vec::new(), 0, from.offset);
    while bytes < READ_BYTES && at < end {
        let Some(Records { rows, to }) = source.next()? else {
            break;
        };
        let rows = below(&concat_batches(&schema::lake(stream), &rows)?, end)?;
        if expired && blocks.is_empty() {
            let first = offsets(&rows)?.first();
            let first = first.map_or(end, |first| Offset(first.cast_unsigned()));
            if first > from.offset {
                return Ok(Stored::From(first));
            }
        }
        let to = to.min(end);
        let block = Block::new(at, to, rows, shape)?;
        bytes += block.bytes;
        blocks.push(Arc::new(block));
        at = to;
    }
    Ok(Stored::Blocks(blocks))
}

/// The rows of records below an offset.
fn below(rows: &RecordBatch, end: Offset) -> Result<RecordBatch, QueryError> {
    let count = offsets(rows)?.partition_point(|offset| offset.cast_unsigned() < end.0);
    Ok(rows.slice(0, count))
}
