//! Arrow columns under construction: one row at a time, taken back whole when a later field of its line fails.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef};

use crate::limits::{BATCH_BYTES_TARGET, RECORD_ROWS_MAX};

/// The columns of a batch. A column is as long as the batch, or one longer when the current line has set it.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Bytes that every row takes besides its texts.
    row_bytes: usize,
    /// Columns of texts.
    texts: usize,
    /// No fewer than the bytes of the columns.
    bytes_at_most: usize,
}

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// The rows without a value, for optional fields. Fields that are mostly absent have many of these.
    nulls: Option<Vec<u32>>,
    length: usize,
}

/// The values of one column; a null has some value, too.
#[derive(Debug)]
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    Int(Vec<i64>),
    Moment(Vec<i64>),
    Float(Vec<f64>),
    Uuid(Vec<u8>),
    Text { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Columns {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| Column {
                values: Values::new(field.data_type()),
                nulls: field.is_nullable().then(Vec::new),
                length: 0,
            })
            .collect();
        let row_bytes = columns.iter().map(|column| column.values.row_bytes()).sum();
        let texts = columns.iter().filter(|column| column.values.is_text()).count();
        Self {
            schema,
            columns,
            rows: 0,
            row_bytes,
            texts,
            bytes_at_most: 0,
        }
    }

    /// Whether the batch has one record's worth of rows, now that a line of so many bytes has become one. The columns
    /// are only measured when they could be large enough: no text of a row is longer than its line.
    #[inline]
    pub(super) fn is_full(&mut self, line_bytes: usize) -> bool {
        self.bytes_at_most += self.row_bytes + self.texts * (line_bytes + 2);
        if self.bytes_at_most >= BATCH_BYTES_TARGET {
            self.bytes_at_most = self.bytes();
        }
        self.rows >= RECORD_ROWS_MAX || self.bytes_at_most >= BATCH_BYTES_TARGET
    }

    /// Bytes of the columns, about.
    fn bytes(&self) -> usize {
        let texts = self
            .columns
            .iter()
            .map(|column| column.values.text_bytes())
            .sum::<usize>();
        self.rows * self.row_bytes + texts
    }

    #[inline]
    pub(super) fn column(&mut self, at: usize) -> &mut Column {
        &mut self.columns[at]
    }

    /// Ends a row: columns that the line did not set become null. `Err` is the first required one of these.
    #[inline]
    pub(super) fn end_row(&mut self) -> Result<(), usize> {
        let rows = self.rows;
        for (at, column) in self.columns.iter_mut().enumerate() {
            if column.length == rows {
                column.set_null().map_err(|()| at)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Takes the current row back.
    pub(super) fn take_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// The rows so far, and empty columns from here on. `None` when there is no row.
    pub(super) fn take_batch(&mut self) -> Option<RecordBatch> {
        if self.rows == 0 {
            return None;
        }
        let arrays = self.columns.iter_mut().map(Column::take).collect();
        (self.rows, self.bytes_at_most) = (0, 0);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        Some(batch.expect("every column was made of the schema's field, one value a row"))
    }
}

impl Column {
    /// Marks the value that was just pushed as present.
    #[inline]
    pub(super) fn set(&mut self) {
        self.length += 1;
    }

    /// Forgets what was begun of a value that is not set.
    pub(super) fn take_back_value(&mut self) {
        self.values.truncate(self.length);
    }

    fn set_null(&mut self) -> Result<(), ()> {
        self.nulls.as_mut().ok_or(())?.push(self.length as u32);
        self.values.push_nothing();
        self.length += 1;
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(nulls) = &mut self.nulls {
            // Only the row that is taken back can have one.
            let kept = nulls
                .iter()
                .rposition(|row| (*row as usize) < rows)
                .map_or(0, |last| last + 1);
            nulls.truncate(kept);
        }
        self.values.truncate(rows);
        self.length = rows.min(self.length);
    }

    fn take(&mut self) -> ArrayRef {
        let length = std::mem::take(&mut self.length);
        let nulls = self
            .nulls
            .as_mut()
            .filter(|nulls| !nulls.is_empty())
            .map(|nulls| {
                let mut valid = BooleanBufferBuilder::new(length);
                valid.append_n(length, true);
                for row in nulls.drain(..) {
                    valid.set_bit(row as usize, false);
                }
                NullBuffer::new(valid.finish())
            });
        self.values.take(nulls)
    }
}

impl Values {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int64 => Self::Int(Vec::new()),
            DataType::Float64 => Self::Float(Vec::new()),
            DataType::FixedSizeBinary(_) => Self::Uuid(Vec::new()),
            DataType::Timestamp(..) => Self::Moment(Vec::new()),
            _ => Self::Text {
                ends: vec![0],
                bytes: Vec::new(),
            },
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text { .. })
    }

    fn row_bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Moment(_) | Self::Float(_) => 8,
            Self::Uuid(_) => 16,
            Self::Text { .. } => 4,
        }
    }

    fn text_bytes(&self) -> usize {
        if let Self::Text { bytes, .. } = self {
            bytes.len()
        } else {
            0
        }
    }

    fn push_nothing(&mut self) {
        match self {
            Self::Bool(values) => values.append(false),
            Self::Int(values) | Self::Moment(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Uuid(values) => values.extend_from_slice(&[0; 16]),
            Self::Text { ends, bytes } => ends.push(bytes.len() as i32),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.truncate(rows.min(values.len())),
            Self::Int(values) | Self::Moment(values) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Uuid(values) => values.truncate(rows * 16),
            Self::Text { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends[rows] as usize);
            }
        }
    }

    fn take(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int(values) => Arc::new(Int64Array::new(taken(values), nulls)),
            Self::Moment(values) => {
                Arc::new(TimestampMicrosecondArray::new(taken(values), nulls).with_timezone("UTC"))
            }
            Self::Float(values) => Arc::new(Float64Array::new(taken(values), nulls)),
            Self::Uuid(values) => {
                let next = Vec::with_capacity(values.len());
                Arc::new(FixedSizeBinaryArray::new(
                    16,
                    std::mem::replace(values, next).into(),
                    nulls,
                ))
            }
            Self::Text { ends, bytes } => {
                let ends =
                    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, next_ends(ends.len()))));
                let next = Vec::with_capacity(bytes.len());
                let bytes = std::mem::replace(bytes, next);
                Arc::new(StringArray::new(ends, bytes.into(), nulls))
            }
        }
    }
}

/// Where the first text begins, with room for so many ends.
fn next_ends(capacity: usize) -> Vec<i32> {
    let mut ends = Vec::with_capacity(capacity);
    ends.push(0);
    ends
}

/// The values, leaving room for as many again.
fn taken<T: Clone + arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let next = Vec::with_capacity(values.len());
    ScalarBuffer::from(std::mem::replace(values, next))
}
