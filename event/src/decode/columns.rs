//! Arrow columns under construction: one row at a time, taken back whole when a later field of its line fails.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef};

/// The columns of a batch. A column is as long as the batch, or one longer when the current line has set it.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Bytes that every row takes besides its texts.
    row_bytes: usize,
}

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// One bit a row, for optional fields.
    validity: Option<BooleanBufferBuilder>,
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
                validity: field.is_nullable().then(|| BooleanBufferBuilder::new(0)),
                length: 0,
            })
            .collect();
        let row_bytes = columns.iter().map(|column| column.values.row_bytes()).sum();
        Self {
            schema,
            columns,
            rows: 0,
            row_bytes,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the columns, about.
    pub(super) fn bytes(&self) -> usize {
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
        self.rows = 0;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        Some(batch.expect("every column was made of the schema's field, one value a row"))
    }
}

impl Column {
    /// Marks the value that was just pushed as present.
    #[inline]
    pub(super) fn set(&mut self) {
        if let Some(validity) = &mut self.validity {
            validity.append(true);
        }
        self.length += 1;
    }

    fn set_null(&mut self) -> Result<(), ()> {
        self.validity.as_mut().ok_or(())?.append(false);
        self.values.push_nothing();
        self.length += 1;
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(validity) = &mut self.validity {
            validity.truncate(rows.min(validity.len()));
        }
        self.values.truncate(rows);
        self.length = rows.min(self.length);
    }

    fn take(&mut self) -> ArrayRef {
        let nulls = self
            .validity
            .as_mut()
            .map(|validity| NullBuffer::new(validity.finish()));
        self.length = 0;
        self.values.take(nulls.filter(|nulls| nulls.null_count() > 0))
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
                let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])));
                let bytes = std::mem::take(bytes);
                Arc::new(StringArray::new(ends, bytes.into(), nulls))
            }
        }
    }
}

/// The values, leaving room for as many again.
fn taken<T: Clone + arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let next = Vec::with_capacity(values.len());
    ScalarBuffer::from(std::mem::replace(values, next))
}
