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

/// `2024-09-10T09:12:33Z`, with milliseconds or microseconds when there are any.
pub(crate) fn rfc3339(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let sign = if year < 0 { "-" } else { "" };
    let year = year.unsigned_abs();
    let head = format!("{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match fraction {
        0 => format!("{head}Z"),
        _ if fraction % 1_000 == 0 => format!("{head}.{:03}Z", fraction / 1_000),
        _ => format!("{head}.{fraction:06}Z"),
    }
}

/// Year, month, day of a number of days since 1970-01-01 in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_with_the_digits_that_they_need() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_725_959_553_001_000, "2024-09-10T09:12:33.001Z"),
            (1_709_164_800_000_001, "2024-02-29T00:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
        ];
        for (micros, expected) in cases {
            assert_eq!(rfc3339(micros), expected);
        }
    }
}
