//! Query parameters of REST questions: times, intervals, typed equality.

use std::str::FromStr;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use event::{FieldType, Offset, Partition, Position, StreamDeclaration};

use crate::QueryError;

/// What a field must equal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(i64),
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    /// First moment, microseconds.
    pub(crate) start: Option<i64>,
    /// The moment after the last, microseconds.
    pub(crate) end: Option<i64>,
    /// Fields with their values.
    pub(crate) equal: Vec<(String, Wanted)>,
    /// Fields with values of which they must have one; none passes where there are none.
    pub(crate) any: Vec<(String, Vec<Wanted>)>,
    /// Where the journal must be first; changes no answer but when it is given.
    pub(crate) min_position: Vec<Position>,
}

impl Filter {
    /// Whether rows with times within [min, max] can pass, as far as the time says.
    pub(crate) fn overlaps(&self, min: Option<i64>, max: Option<i64>) -> bool {
        let before = matches!((self.end, min), (Some(end), Some(min)) if min >= end);
        let after = matches!((self.start, max), (Some(start), Some(max)) if max < start);
        !before && !after
    }

    /// Whether all rows with times within [min, max] pass.
    pub(crate) fn covers(&self, min: Option<i64>, max: Option<i64>) -> bool {
        let from = self.start.is_none_or(|start| min.is_some_and(|min| min >= start));
        let to = self.end.is_none_or(|end| max.is_some_and(|max| max < end));
        self.equal.is_empty() && self.any.is_empty() && from && to
    }

    /// Whether every row passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.start.is_none() && self.end.is_none() && self.equal.is_empty() && self.any.is_empty()
    }

    /// The columns that it looks at.
    pub(crate) fn columns(&self, time: &str) -> Vec<String> {
        let times = (self.start.is_some() || self.end.is_some()).then(|| time.to_owned());
        times
            .into_iter()
            .chain(self.equal.iter().map(|(name, _)| name.clone()))
            .chain(self.any.iter().map(|(name, _)| name.clone()))
            .collect()
    }

    /// The rows that pass; `None` for all.
    pub(crate) fn mask(&self, rows: &RecordBatch, time: &str) -> Result<Option<BooleanArray>, QueryError> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut pass = vec![true; rows.num_rows()];
        if self.start.is_some() || self.end.is_some() {
            let times = column(rows, time)?.as_primitive_opt::<TimestampMicrosecondType>();
            let times = times.ok_or_else(|| wrong_type(time))?;
            let (start, end) = (self.start.unwrap_or(i64::MIN), self.end);
            for (row, pass) in pass.iter_mut().enumerate() {
                let value = times.value(row);
                *pass = times.is_valid(row) && value >= start && end.is_none_or(|end| value < end);
            }
        }
        for (name, wanted) in &self.equal {
            equals(column(rows, name)?, wanted, &mut pass).ok_or_else(|| wrong_type(name))?;
        }
        for (name, wanted) in &self.any {
            let column = column(rows, name)?;
            let mut one = vec![false; rows.num_rows()];
            for wanted in wanted {
                let mut equal = vec![true; rows.num_rows()];
                equals(column, wanted, &mut equal).ok_or_else(|| wrong_type(name))?;
                one.iter_mut().zip(equal).for_each(|(one, equal)| *one |= equal);
            }
            pass.iter_mut().zip(one).for_each(|(pass, one)| *pass &= one);
        }
        Ok(Some(BooleanArray::from(pass)))
    }
}

fn equals(column: &arrow_array::ArrayRef, wanted: &Wanted, pass: &mut [bool]) -> Option<()> {
    let mut keep = |equal: &dyn Fn(usize) -> bool| {
        for (row, pass) in pass.iter_mut().enumerate() {
            *pass = *pass && column.is_valid(row) && equal(row);
        }
    };
    match wanted {
        Wanted::Bool(value) => {
            let values = column.as_boolean_opt()?;
            keep(&|row| values.value(row) == *value);
        }
        Wanted::Int(value) => {
            let values = column.as_primitive_opt::<Int64Type>()?;
            keep(&|row| values.value(row) == *value);
        }
        Wanted::Float(value) => {
            let values = column.as_primitive_opt::<Float64Type>()?;
            keep(&|row| values.value(row) == *value);
        }
        Wanted::Time(value) => {
            let values = column.as_primitive_opt::<TimestampMicrosecondType>()?;
            keep(&|row| values.value(row) == *value);
        }
        Wanted::Text(value) => {
            let values = column.as_string_opt::<i32>()?;
            keep(&|row| values.value(row) == value);
        }
    }
    Some(())
}

pub(crate) fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a arrow_array::ArrayRef, QueryError> {
    let found = rows.column_by_name(name);
    found.ok_or_else(|| QueryError::Storage(format!("column `{name}` is not there")))
}

fn wrong_type(name: &str) -> QueryError {
    QueryError::Storage(format!("column `{name}` has another type than its declaration"))
}

/// A moment: RFC 3339 with a zone, or an integer of microseconds since 1970.
pub(crate) fn moment(name: &str, text: &str) -> Result<i64, QueryError> {
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(micros);
    }
    // `+` of an offset arrives as a space when a client did not escape it.
    let text = match text.rsplit_once(' ') {
        Some((head, zone)) if head.contains('T') => format!("{head}+{zone}"),
        _ => text.to_owned(),
    };
    let zoned = text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let utc = arrow_array::timezone::Tz::from_str("UTC").expect("is a zone");
    match arrow_cast::parse::string_to_datetime(&utc, &text) {
        Ok(moment) if zoned => Ok(moment.timestamp_micros()),
        _ => Err(QueryError::Invalid(format!(
            "`{name}` is `{}`, expected RFC 3339 with a zone or microseconds since 1970",
            text.chars().take(64).collect::<String>()
        ))),
    }
}

/// The same, where a moment without a zone, or a day alone, is one of UTC.
pub(crate) fn moment_in_utc(name: &str, text: &str) -> Result<i64, QueryError> {
    moment(name, text).or_else(|error| {
        let day = text.len() == 10;
        let utc = if day {
            format!("{text}T00:00:00Z")
        } else {
            format!("{text}Z")
        };
        moment(name, &utc).map_err(|_| error)
    })
}

/// A length of time: `30s`, `5m`, `1h`, `1d`, `1w`; in microseconds.
pub(crate) fn interval(text: &str) -> Result<i64, QueryError> {
    let error = || {
        QueryError::Invalid(format!(
            "`interval` is `{text}`, expected something like 30s, 5m, 1h, 1d or 1w"
        ))
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(error()),
    };
    let number: i64 = number.parse().map_err(|_| error())?;
    let micros = number
        .checked_mul(seconds)
        .and_then(|seconds| seconds.checked_mul(1_000_000));
    micros.filter(|micros| *micros > 0).ok_or_else(error)
}

/// `partition:offset`, several with commas.
pub(crate) fn positions(text: &str) -> Result<Vec<Position>, QueryError> {
    let position = |text: &str| {
        let (partition, offset) = text.trim().split_once(':')?;
        Some(Position::new(
            Partition(partition.parse().ok()?),
            Offset(offset.parse().ok()?),
        ))
    };
    let found: Option<Vec<Position>> = text.split(',').map(position).collect();
    found.ok_or_else(|| QueryError::Invalid(format!("`min_position` is `{text}`, expected partition:offset")))
}

/// What a declared field must equal, from text.
pub(crate) fn wanted(stream: &StreamDeclaration, name: &str, text: &str) -> Result<Wanted, QueryError> {
    let Some(field) = stream.field(name) else {
        return Err(QueryError::Invalid(format!(
            "`{name}` is neither a parameter nor a field of `{}`",
            stream.name.as_str()
        )));
    };
    let error = |expected: &str| QueryError::Invalid(format!("`{name}` is `{text}`, expected {expected}"));
    Ok(match &field.kind {
        FieldType::Bool => Wanted::Bool(text.parse().map_err(|_| error("true or false"))?),
        FieldType::Int { .. } => Wanted::Int(text.parse().map_err(|_| error("an integer"))?),
        FieldType::Float { .. } => Wanted::Float(text.parse().map_err(|_| error("a number"))?),
        FieldType::Timestamp { .. } => Wanted::Time(moment(name, text)?),
        FieldType::Uuid => {
            let id = uuid::Uuid::try_parse(text).map_err(|_| error("a uuid"))?;
            Wanted::Text(id.hyphenated().to_string())
        }
        FieldType::Enum { values } if !values.iter().any(|value| value == text) => {
            return Err(error("one of its declared values"));
        }
        FieldType::Enum { .. } | FieldType::String { .. } => Wanted::Text(text.to_owned()),
        FieldType::Json => {
            return Err(QueryError::Invalid(format!(
                "`{name}` is JSON: ask for parts of it in SQL"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_need_a_zone_and_may_be_epoch_microseconds() {
        assert_eq!(
            moment("start", "1970-01-01T00:00:01Z").expect("a moment"),
            1_000_000
        );
        assert_eq!(moment("start", "1970-01-01T01:00:00 01:00").expect("a moment"), 0);
        assert_eq!(moment("start", "12").expect("a moment"), 12);
        // Far from what 64 bits of nanoseconds hold.
        assert_eq!(
            moment("start", "0001-01-01T00:00:00Z").expect("a moment"),
            -62_135_596_800_000_000
        );
        for wrong in ["yesterday", "1970-01-01T00:00:01", "1970-01-01", ""] {
            assert!(moment("start", wrong).is_err(), "{wrong}");
        }
        for (text, expected) in [
            ("1970-01-01T00:00:01", 1_000_000),
            ("1970-01-02", 86_400_000_000),
            ("1970-01-01 00:00:01.5", 1_500_000),
            ("1970-01-01T01:00:00+01:00", 0),
        ] {
            assert_eq!(
                moment_in_utc("start", text).expect("a moment"),
                expected,
                "{text}"
            );
        }
        assert!(moment_in_utc("start", "yesterday").is_err());
    }

    #[test]
    fn intervals_have_a_unit_and_never_overflow() {
        assert_eq!(interval("1h").expect("an interval"), 3_600_000_000);
        for wrong in [
            "h",
            "1",
            "0s",
            "-1s",
            "1y",
            "9223372036854775807d",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
