//! What a commit says about a file's columns, so that readers may skip it.
//!
//! Delta writes timestamps in milliseconds there: the minimum is floored and the maximum rounded **up**, or readers
//! would skip rows. Statistics only prune; no answer ever comes from them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, SchemaRef};

/// Gathers the statistics of one file.
#[derive(Debug)]
pub(crate) struct Statistics {
    schema: SchemaRef,
    rows: i64,
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Column {
    nulls: i64,
    range: Option<Range>,
}

#[derive(Clone, Copy, Debug)]
enum Range {
    Int(i64, i64),
    Float(f64, f64),
}

impl Statistics {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        let columns = vec![Column::default(); schema.fields().len()];
        Self {
            schema,
            rows: 0,
            columns,
        }
    }

    pub(crate) fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows() as i64;
        for (column, array) in self.columns.iter_mut().zip(rows.columns()) {
            column.nulls += array.null_count() as i64;
            column.range = merge(column.range, range(array));
        }
    }

    /// In the form that the kernel writes into the commit.
    pub(crate) fn to_struct(&self) -> StructArray {
        let (mut nulls, mut minima, mut maxima) = (Vec::new(), Vec::new(), Vec::new());
        for (field, column) in self.schema.fields().iter().zip(&self.columns) {
            nulls.push(named(
                field.name(),
                Arc::new(Int64Array::from(vec![column.nulls])),
            ));
            if let Some((min, max)) = column.range.and_then(|range| bounds(field.data_type(), range)) {
                minima.push(named(field.name(), min));
                maxima.push(named(field.name(), max));
            }
        }
        let mut parts = vec![named(
            "numRecords",
            Arc::new(Int64Array::from(vec![self.rows])) as ArrayRef,
        )];
        for (name, columns) in [("nullCount", nulls), ("minValues", minima), ("maxValues", maxima)] {
            if !columns.is_empty() {
                parts.push(named(name, Arc::new(StructArray::from(columns))));
            }
        }
        parts.push(named("tightBounds", Arc::new(BooleanArray::from(vec![true]))));
        StructArray::from(parts)
    }
}

fn named(name: &str, array: ArrayRef) -> (Arc<Field>, ArrayRef) {
    (Arc::new(Field::new(name, array.data_type().clone(), true)), array)
}

fn range(array: &ArrayRef) -> Option<Range> {
    match array.data_type() {
        DataType::Int32 => {
            let (min, max) = extremes(array.as_primitive::<Int32Type>().iter().flatten().map(i64::from))?;
            Some(Range::Int(min, max))
        }
        DataType::Int64 => {
            let (min, max) = extremes(array.as_primitive::<Int64Type>().iter().flatten())?;
            Some(Range::Int(min, max))
        }
        DataType::Timestamp(..) => {
            let (min, max) = extremes(array.as_primitive::<TimestampMicrosecondType>().iter().flatten())?;
            Some(Range::Int(min, max))
        }
        DataType::Float64 => {
            let (min, max) = extremes(array.as_primitive::<Float64Type>().iter().flatten())?;
            Some(Range::Float(min, max))
        }
        _ => None,
    }
}

fn extremes<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> Option<(T, T)> {
    values.fold(None, |found: Option<(T, T)>, value| {
        let (min, max) = found.unwrap_or((value, value));
        Some((
            if value < min { value } else { min },
            if value > max { value } else { max },
        ))
    })
}

fn merge(a: Option<Range>, b: Option<Range>) -> Option<Range> {
    match (a, b) {
        (Some(Range::Int(a, b)), Some(Range::Int(c, d))) => Some(Range::Int(a.min(c), b.max(d))),
        (Some(Range::Float(a, b)), Some(Range::Float(c, d))) => Some(Range::Float(a.min(c), b.max(d))),
        (a, b) => a.or(b),
    }
}

/// Minimum and maximum as arrays of one value.
fn bounds(data_type: &DataType, range: Range) -> Option<(ArrayRef, ArrayRef)> {
    let moment = |micros: i64| {
        Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef
    };
    let int32 = |value: i64| {
        i32::try_from(value)
            .ok()
            .map(|value| Arc::new(Int32Array::from(vec![value])) as ArrayRef)
    };
    match (data_type, range) {
        (DataType::Timestamp(..), Range::Int(min, max)) => {
            let floor = min.div_euclid(1_000) * 1_000;
            let ceiling = max.checked_add(999)?.div_euclid(1_000) * 1_000;
            Some((moment(floor), moment(ceiling)))
        }
        (DataType::Int32, Range::Int(min, max)) => Some((int32(min)?, int32(max)?)),
        (DataType::Int64, Range::Int(min, max)) => Some((
            Arc::new(Int64Array::from(vec![min])),
            Arc::new(Int64Array::from(vec![max])),
        )),
        (DataType::Float64, Range::Float(min, max)) => Some((
            Arc::new(Float64Array::from(vec![min])),
            Arc::new(Float64Array::from(vec![max])),
        )),
        _ => None,
    }
}
