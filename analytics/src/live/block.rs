//! Events of a few records, decoded once and written once for every client that watches them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use bytes::Bytes;
use event::{Offset, StreamDeclaration, schema};
use journal::{Decoded, Payload, Record, RecordDecoder};

use super::place::Place;
use super::shape::Shape;
use crate::QueryError;
use crate::kept::Decisions;
use crate::parameters::column;
use event::batch::bytes_of_rows;

/// The events of the records [from, to) of one partition. There may be none: what is no event is left out, and what
/// repeats an id where ids are unique.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) from: Offset,
    pub(super) to: Offset,
    /// In the lake's schema: filters look here.
    pub(super) rows: RecordBatch,
    /// Where each row is, in order.
    places: Vec<Place>,
    /// Each row as JSON, one after the other.
    texts: Bytes,
    /// Where the text of each row ends.
    ends: Vec<usize>,
    /// Memory of it all.
    pub(super) bytes: usize,
}

impl Block {
    /// All events of the records [from, to).
    pub(super) fn new(
        from: Offset,
        to: Offset,
        rows: RecordBatch,
        shape: &Shape,
    ) -> Result<Self, QueryError> {
        let mut block = Self::written(rows, shape)?;
        (block.from, block.to) = (from, to);
        Ok(block)
    }

    fn written(rows: RecordBatch, shape: &Shape) -> Result<Self, QueryError> {
        let wrong = || QueryError::Storage("a record's place has another type than it should".to_owned());
        let offsets = column(&rows, schema::OFFSET)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(wrong)?;
        let numbers = column(&rows, schema::ROW)?
            .as_primitive_opt::<Int32Type>()
            .ok_or_else(wrong)?;
        let pairs = offsets.values().iter().zip(numbers.values());
        let places: Vec<_> = pairs
            .map(|(offset, row)| Place {
                offset: Offset(offset.cast_unsigned()),
                row: u32::try_from(*row).unwrap_or_default(),
            })
            .collect();
        let writer = shape.writer(&rows)?;
        let mut texts = Vec::new();
        let mut ends = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            writer.write(row, &mut texts)?;
            ends.push(texts.len());
        }
        texts.shrink_to_fit();
        let places_bytes = size_of_val(&places[..]) + size_of_val(&ends[..]);
        Ok(Self {
            from: Offset(0),
            to: Offset(0),
            bytes: bytes_of_rows(&rows) + texts.len() + places_bytes + size_of::<Self>(),
            rows,
            places,
            texts: texts.into(),
            ends,
        })
    }

    /// The number of the first row at or after a place.
    pub(super) fn row_at(&self, place: Place) -> usize {
        self.places.partition_point(|one| *one < place)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Where a row is, and its text.
    pub(super) fn row(&self, row: usize) -> (Place, &[u8]) {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        (self.places[row], &self.texts[begin..self.ends[row]])
    }
}

/// Makes blocks of records that follow each other from `from` on.
///
/// A stream whose ids are unique has rows that are stored nowhere, which `decided` leaves out here; the rows that stay
/// keep their numbers.
pub(super) fn blocks(
    stream: &Arc<StreamDeclaration>,
    shape: &Shape,
    records: &[Record],
    decided: Option<&Decisions>,
) -> Result<Vec<Arc<Block>>, QueryError> {
    let mut decoder = RecordDecoder::new(Arc::clone(stream));
    let mut blocks = Vec::new();
    let mut rest = records;
    while let Some(first) = rest.first() {
        let (rows, taken) = match &first.payload {
            Payload::Json(_) => {
                let messages = decoder.decode_messages(rest);
                let rows = match &messages.batch {
                    Some(batch) => schema::messages_to_lake(batch, &messages.offsets, stream)?,
                    None => RecordBatch::new_empty(schema::lake(stream)),
                };
                (rows, messages.taken)
            }
            Payload::Record(_) | Payload::Nothing => match decoder.decode(first)? {
                Decoded::Batch(batch) => (schema::to_lake(&batch, first.offset, stream)?, 1),
                Decoded::Reject(..) | Decoded::Nothing => (RecordBatch::new_empty(schema::lake(stream)), 1),
            },
        };
        let rows = match decided {
            Some(decided) => decided.keep(rows)?,
            None => rows,
        };
        let to = rest[taken - 1].offset.next();
        blocks.push(Arc::new(Block::new(first.offset, to, rows, shape)?));
        rest = &rest[taken..];
    }
    Ok(blocks)
}
