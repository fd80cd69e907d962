//! What the journal has no more, from the lake: it has the same events under the same positions.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use event::{Offset, Partition, Position, StreamDeclaration, schema};
use lake::{PartitionRows, Table};

use super::block::Block;
use super::channel::READ_BYTES;
use super::place::Place;
use super::shape::Shape;
use crate::QueryError;
use crate::parameters::column;

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

/// The next events from a place on, about as many as are read from a journal at once, of records below an offset.
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
    mut source: PartitionRows,
    stream: &StreamDeclaration,
    shape: &Shape,
    from: Place,
    end: Offset,
) -> Result<Stored, QueryError> {
    let (mut blocks, mut bytes, mut at) = (Vec::new(), 0, from.offset);
    while bytes < READ_BYTES {
        let rows = source.next_rows()?.map(|rows| below(&rows, end)).transpose()?;
        let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) else {
            if blocks.is_empty() && source.expired() {
                return Ok(Stored::From(end));
            }
            // What is left of these records has no rows.
            let none = RecordBatch::new_empty(schema::lake(stream));
            blocks.push(Arc::new(Block::new(at, end, none, shape)?));
            break;
        };
        let block = Block::part(at, rows, shape)?;
        let first = block.row(0).0.offset;
        if blocks.is_empty() && source.expired() && first > from.offset {
            return Ok(Stored::From(first));
        }
        at = block.to;
        // Rows of the record in whose middle this begins.
        if block.row_at(from) < block.len() {
            bytes += block.bytes;
            blocks.push(Arc::new(block));
        }
    }
    Ok(Stored::Blocks(blocks))
}

/// The rows of records below an offset.
fn below(rows: &RecordBatch, end: Offset) -> Result<RecordBatch, QueryError> {
    let offsets = column(rows, schema::OFFSET)?.as_primitive_opt::<Int64Type>();
    let offsets = offsets.ok_or_else(|| QueryError::Storage("an offset is no integer".to_owned()))?;
    debug_assert_eq!(offsets.null_count(), 0);
    let count = offsets
        .values()
        .partition_point(|offset| offset.cast_unsigned() < end.0);
    Ok(rows.slice(0, count))
}
