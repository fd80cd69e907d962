//! Values as JSON text, the same for events, SQL rows and NDJSON.
//!
//! int64 stays a number, timestamps are RFC 3339 in UTC with as many digits as they need, a float that JSON
//! cannot say (NaN, infinities) is null, an integer that no 64 bits hold is text, and so is what has no JSON form.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, UnionArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use event::moment::rfc3339;

/// Appends the value at `row`.
pub(crate) fn write_value(out: &mut Vec<u8>, column: &ArrayRef, row: usize) -> Result<(), ArrowError> {
    // A column of nothing but nulls has no bits that say so.
    if column.is_null(row) || *column.data_type() == DataType::Null {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    macro_rules! number {
        ($kind:ty) => {
            number(out, column.as_primitive::<$kind>().value(row))
        };
    }
    match column.data_type() {
        DataType::Boolean => number(out, column.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => write_float(out, f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => write_float(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => write_text(out, column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_text(out, column.as_string::<i64>().value(row)),
        DataType::Utf8View => write_text(out, column.as_string_view().value(row)),
        DataType::Decimal128(_, 0) => write_integer(out, column.as_primitive::<Decimal128Type>().value(row)),
        DataType::Decimal128(..) => number(out, column.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Timestamp(unit, _) => match microseconds(column, *unit, row) {
            Some(micros) => write_text(out, &rfc3339(micros)),
            None => write_text(out, &display(column, row)?),
        },
        DataType::List(_) => write_list(out, &column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => write_list(out, &column.as_list::<i64>().value(row))?,
        DataType::Struct(fields) => {
            out.push(b'{');
            for (at, (field, values)) in fields.iter().zip(column.as_struct().columns()).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, field.name());
                out.push(b':');
                write_value(out, values, row)?;
            }
            out.push(b'}');
        }
        DataType::Union(..) => {
            let values = column.as_any().downcast_ref::<UnionArray>();
            write_value(out, &values.expect("has the type of a union").value(row), 0)?;
        }
        DataType::Dictionary(_, values) => {
            let plain = arrow_cast::cast(&column.slice(row, 1), values)?;
            write_value(out, &plain, 0)?;
        }
        _ => write_text(out, &display(column, row)?),
    }
    Ok(())
}

fn write_list(out: &mut Vec<u8>, values: &ArrayRef) -> Result<(), ArrowError> {
    out.push(b'[');
    for at in 0..values.len() {
        if at > 0 {
            out.push(b',');
        }
        write_value(out, values, at)?;
    }
    out.push(b']');
    Ok(())
}

/// A JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory does not fail");
}

/// An integer as a JSON number, or as text when no 64 bits hold it: a number would lose digits in most clients.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: i128) {
    if i64::try_from(value).is_ok() || u64::try_from(value).is_ok() {
        number(out, value);
    } else {
        write_text(out, &value.to_string());
    }
}

/// A JSON number, or null for what JSON cannot say.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64) {
    serde_json::to_writer(out, &value).expect("writing to memory does not fail");
}

fn number(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    write!(out, "{value}").expect("writing to memory does not fail");
}

fn display(column: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    Ok(ArrayFormatter::try_new(column.as_ref(), &options)?
        .value(row)
        .to_string())
}

fn microseconds(column: &ArrayRef, unit: TimeUnit, row: usize) -> Option<i64> {
    use arrow_array::types::{
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    };
    match unit {
        TimeUnit::Second => column
            .as_primitive::<TimestampSecondType>()
            .value(row)
            .checked_mul(1_000_000),
        TimeUnit::Millisecond => column
            .as_primitive::<TimestampMillisecondType>()
            .value(row)
            .checked_mul(1_000),
        TimeUnit::Microsecond => Some(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        TimeUnit::Nanosecond => Some(
            column
                .as_primitive::<TimestampNanosecondType>()
                .value(row)
                .div_euclid(1_000),
        ),
    }
}
