//! Values of an envelope, filled into the rows that were decoded before they were known.
//!
//! A row that has a value of its own keeps it. Texts are copied into every row, so a small body can become large
//! columns: the caller learns how large before anything is copied, and batches are cut so that none outgrows a
//! record.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::zip::zip;

use super::BodyError;
use crate::limits::BATCH_BYTES_TARGET;

/// The values of one envelope, and the batches that still lack them.
#[derive(Debug)]
pub(super) struct Fill {
    wire: SchemaRef,
    values: Vec<Value>,
    /// Bytes that the values of one row take.
    row_bytes: usize,
    /// What is not filled yet, the next one last.
    waiting: Vec<RecordBatch>,
    rows: usize,
}

#[derive(Debug)]
struct Value {
    /// The column's number in the wire schema.
    column: usize,
    member: String,
    /// One value, or null.
    value: ArrayRef,
}

impl Fill {
    /// What fills `columns` of the wire schema with the values of `row`, which came from `members`.
    pub(super) fn new(wire: SchemaRef, columns: Vec<usize>, members: Vec<String>, row: &RecordBatch) -> Self {
        let values = columns.into_iter().zip(members).zip(row.columns());
        let values: Vec<_> = values
            .map(|((column, member), value)| Value {
                column,
                member,
                value: Arc::clone(value),
            })
            .collect();
        let row_bytes = values.iter().map(|value| value_bytes(&value.value)).sum();
        Self {
            wire,
            values,
            row_bytes,
            waiting: Vec::new(),
            rows: 0,
        }
    }

    /// Takes the batches that are to be filled.
    pub(super) fn begin(&mut self, batches: &mut Vec<RecordBatch>) {
        self.waiting = std::mem::take(batches);
        self.waiting.reverse();
        self.rows = self.waiting.iter().map(RecordBatch::num_rows).sum();
    }

    /// Bytes of columns that filling adds, at most.
    pub(super) fn bytes(&self) -> usize {
        self.rows.saturating_mul(self.row_bytes)
    }

    /// The next batch in the wire schema, filled. `None` when there is none left.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, BodyError> {
        let Some(batch) = self.waiting.pop() else {
            return Ok(None);
        };
        let rows_max = (BATCH_BYTES_TARGET / self.row_bytes.max(1)).max(1);
        let batch = if batch.num_rows() > rows_max {
            self.waiting
                .push(batch.slice(rows_max, batch.num_rows() - rows_max));
            batch.slice(0, rows_max)
        } else {
            batch
        };
        let mut columns = batch.columns().to_vec();
        for value in &self.values {
            let column = &mut columns[value.column];
            if column.null_count() == 0 {
                continue;
            }
            if value.value.is_null(0) {
                if !self.wire.field(value.column).is_nullable() {
                    return Err(value.missing(&self.wire));
                }
            } else {
                *column = value.filled_into(column);
            }
        }
        let filled = RecordBatch::try_new(Arc::clone(&self.wire), columns);
        Ok(Some(filled.expect(
            "columns keep type and length, and required ones have no null left",
        )))
    }
}

impl Value {
    fn filled_into(&self, column: &ArrayRef) -> ArrayRef {
        let present = column.nulls().map_or_else(
            || BooleanArray::from(vec![true; column.len()]),
            |nulls| BooleanArray::new(nulls.inner().clone(), None),
        );
        zip(&present, column, &Scalar::new(Arc::clone(&self.value)))
            .expect("value and column are of one type, the mask is as long as the column")
    }

    fn missing(&self, wire: &SchemaRef) -> BodyError {
        let field = wire.field(self.column).name();
        let member = &self.member;
        BodyError::NoEnvelope {
            message: format!("it has no `{member}`, and not every event has the required field `{field}`"),
        }
    }
}

/// Bytes that a value takes in each row.
fn value_bytes(value: &ArrayRef) -> usize {
    match value.data_type() {
        DataType::Utf8 if value.is_valid(0) => value.as_string::<i32>().value(0).len() + size_of::<i32>(),
        DataType::Utf8 => size_of::<i32>(),
        // The widest of the others, a UUID.
        _ => 16,
    }
}
