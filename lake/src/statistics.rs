//! What a commit says about a file's columns, so that readers may skip it.
//!
//! Delta writes timestamps in milliseconds there: the minimum is floored and the maximum rounded **up**, or readers
//! would skip rows. Text is cut to its first characters in the same way. Statistics only prune; no answer ever comes
//! from them.
//!
//! Every column has bounds, also those that nobody compares: deltalake 1.6.6, as a pyarrow dataset, takes a missing
//! bound beside others for one that no value keeps to, and finds nothing.

use std::convert::Infallible;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Float64Array, Int32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, SchemaRef};
use event::schema::IdText;

use crate::writer::ids;
use crate::writer::threads::EncodingThreads;

/// Characters of a text that statistics keep, as other Delta writers do.
const TEXT_CHARACTERS: usize = 32;

/// Gathers the statistics of one file.
#[derive(Debug)]
pub(crate) struct Statistics {
    schema: SchemaRef,
    rows: i64,
    columns: Vec<Column>,
}

#[derive(Clone, Debug, Default)]
struct Column {
    nulls: i64,
    range: Option<Range>,
}

#[derive(Clone, Debug, PartialEq)]
enum Range {
    Bool(bool, bool),
    Int(i64, i64),
    Float(f64, f64),
    Text(String, String),
}

impl Statistics {
    /// For a file with (at least) the columns of `schema`.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            columns: vec![Column::default(); schema.fields().len()],
            schema,
            rows: 0,
        }
    }

    /// Adds rows; columns after the schema's are not looked at.
    pub(crate) fn add(&mut self, batches: &[RecordBatch], threads: &EncodingThreads) {
        self.rows += batches.iter().map(|rows| rows.num_rows() as i64).sum::<i64>();
        let columns = self.columns.iter_mut().zip(self.schema.fields()).enumerate();
        let added = threads.each(columns, |(number, (column, field))| {
            for array in batches.iter().map(|rows| rows.column(number)) {
                column.nulls += array.null_count() as i64;
                column.range = merge(column.range.take(), range(field.name(), array));
            }
            Ok::<_, Infallible>(())
        });
        let Ok(()) = added;
    }

    /// In the form that the kernel writes into the commit.
    pub(crate) fn to_struct(&self) -> StructArray {
        let (mut nulls, mut minima, mut maxima) = (Vec::new(), Vec::new(), Vec::new());
        for (field, column) in self.schema.fields().iter().zip(&self.columns) {
            nulls.push(named(
                field.name(),
                Arc::new(Int64Array::from(vec![column.nulls])),
            ));
            let (min, max) = match &column.range {
                Some(range) => bounds(field.data_type(), range),
                None => (None, None),
            };
            minima.extend(min.map(|min| named(field.name(), min)));
            maxima.extend(max.map(|max| named(field.name(), max)));
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

fn range(name: &str, array: &ArrayRef) -> Option<Range> {
    match array.data_type() {
        DataType::Boolean => {
            let (min, max) = extremes(array.as_boolean().iter().flatten())?;
            Some(Range::Bool(min, max))
        }
        DataType::Int32 => {
            let (min, max) = integers(array.as_primitive::<Int32Type>())?;
            Some(Range::Int(min.into(), max.into()))
        }
        DataType::Int64 => {
            let (min, max) = integers(array.as_primitive::<Int64Type>())?;
            Some(Range::Int(min, max))
        }
        DataType::Timestamp(..) => {
            let (min, max) = integers(array.as_primitive::<TimestampMicrosecondType>())?;
            Some(Range::Int(min, max))
        }
        DataType::Float64 => {
            let (min, max) = extremes(array.as_primitive::<Float64Type>().iter().flatten())?;
            Some(Range::Float(min, max))
        }
        DataType::Utf8 => {
            let (min, max) = texts(array.as_string::<i32>())?;
            Some(Range::Text(min.to_owned(), max.to_owned()))
        }
        DataType::FixedSizeBinary(16) => {
            let (min, max) = ids::range(&ids::values(array.as_fixed_size_binary()))?;
            let text = |id: u128| IdText::of(name).text(id.to_be_bytes());
            Some(Range::Text(text(min), text(max)))
        }
        _ => None,
    }
}

/// Without nulls over the values as they lie in memory, several at once.
fn integers<T: ArrowPrimitiveType<Native: Ord>>(array: &PrimitiveArray<T>) -> Option<(T::Native, T::Native)> {
    if array.null_count() > 0 {
        return extremes(array.iter().flatten());
    }
    let values = array.values().iter().copied();
    Some((values.clone().min()?, values.max()?))
}

/// Most texts differ in their first bytes, which are compared as one number.
fn texts(array: &StringArray) -> Option<(&str, &str)> {
    let mut values = array.iter().flatten().map(|text| (first_bytes(text), text));
    let first = values.next()?;
    let (mut min, mut max) = (first, first);
    for value in values {
        if value < min {
            min = value;
        } else if value > max {
            max = value;
        }
    }
    Some((min.1, max.1))
}

/// The first eight bytes, which order texts unless they are equal.
fn first_bytes(text: &str) -> u64 {
    if let Some(first) = text.as_bytes().first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    u64::from_be_bytes(bytes)
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
        (Some(Range::Bool(a, b)), Some(Range::Bool(c, d))) => Some(Range::Bool(a.min(c), b.max(d))),
        (Some(Range::Int(a, b)), Some(Range::Int(c, d))) => Some(Range::Int(a.min(c), b.max(d))),
        (Some(Range::Float(a, b)), Some(Range::Float(c, d))) => Some(Range::Float(a.min(c), b.max(d))),
        (Some(Range::Text(a, b)), Some(Range::Text(c, d))) => Some(Range::Text(a.min(c), b.max(d))),
        (a, b) => a.or(b),
    }
}

/// Minimum and maximum as arrays of one value, where there is one that is not too high or too low.
fn bounds(data_type: &DataType, range: &Range) -> (Option<ArrayRef>, Option<ArrayRef>) {
    fn array(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }
    let moment = |micros: i64| array(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
    let int32 = |value: i64| Some(array(Int32Array::from(vec![i32::try_from(value).ok()?])));
    match (data_type, range) {
        (DataType::Timestamp(..), Range::Int(min, max)) => {
            let floor = min.div_euclid(1_000) * 1_000;
            let ceiling = max.checked_add(999).map(|max| max.div_euclid(1_000) * 1_000);
            (Some(moment(floor)), ceiling.map(moment))
        }
        (DataType::Boolean, Range::Bool(min, max)) => (
            Some(array(BooleanArray::from(vec![*min]))),
            Some(array(BooleanArray::from(vec![*max]))),
        ),
        (DataType::Int32, Range::Int(min, max)) => (int32(*min), int32(*max)),
        (DataType::Int64, Range::Int(min, max)) => (
            Some(array(Int64Array::from(vec![*min]))),
            Some(array(Int64Array::from(vec![*max]))),
        ),
        (DataType::Float64, Range::Float(min, max)) => (
            Some(array(Float64Array::from(vec![*min]))),
            Some(array(Float64Array::from(vec![*max]))),
        ),
        (DataType::Utf8, Range::Text(min, max)) => (
            Some(array(StringArray::from(vec![cut(min)]))),
            Some(array(StringArray::from(vec![raise(max)]))),
        ),
        _ => (None, None),
    }
}

/// The beginning of a text: never above it.
fn cut(text: &str) -> &str {
    match text.char_indices().nth(TEXT_CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// A short text that is not below: the text itself, or its beginning with the last character that can be raised
/// raised, or all of it when none can.
fn raise(text: &str) -> String {
    let beginning = cut(text);
    if beginning.len() == text.len() {
        return text.to_owned();
    }
    let mut raised = beginning.to_owned();
    while let Some(last) = raised.pop() {
        // The code points after U+D7FF are surrogates, which no text has.
        let next = if last == '\u{d7ff}' {
            0xe000
        } else {
            u32::from(last) + 1
        };
        if let Some(next) = char::from_u32(next) {
            raised.push(next);
            return raised;
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_texts_that_begin_alike_or_end_early_are_those_of_all_bytes() {
        let values = ["aaaaaaaab", "aaaaaaaaa", "aaaaaaaa", "aaaaaaaa\0", "b", "b\0", ""];
        for skipped in 0..values.len() {
            let kept = values.iter().enumerate().filter(|(number, _)| *number != skipped);
            let kept: Vec<&str> = kept.map(|(_, text)| *text).collect();
            let array = StringArray::from(kept.clone());
            let found = texts(&array).expect("texts");
            assert_eq!(
                found,
                (
                    *kept.iter().min().expect("a text"),
                    *kept.iter().max().expect("a text")
                )
            );
        }
    }

    #[test]
    fn a_long_text_is_cut_below_and_raised_above() {
        let long = format!("{}z", "a".repeat(TEXT_CHARACTERS));
        assert!(cut(&long) <= long.as_str());
        let raised = raise(&long);
        assert!(raised.as_str() > long.as_str());
        assert_eq!(raised.chars().count(), TEXT_CHARACTERS);
        assert_eq!(raise("short"), "short");
    }

    #[test]
    fn characters_at_the_ends_of_their_ranges_are_raised_to_the_next_one_that_exists() {
        let at_end = format!("{}\u{d7ff}{}", "a".repeat(TEXT_CHARACTERS - 1), "b");
        assert!(raise(&at_end).ends_with('\u{e000}'));
        let last = format!("x{}", "\u{10ffff}".repeat(TEXT_CHARACTERS));
        assert_eq!(raise(&last), "y");
        let highest = "\u{10ffff}".repeat(TEXT_CHARACTERS + 1);
        assert_eq!(raise(&highest), highest);
    }
}
