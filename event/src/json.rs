//! Rows of a stream as JSON events again: what a decoder of the same stream reads as the same rows.
//!
//! A topic of the format `json` holds these, for other programs to read. Fields stand in the order of their
//! declaration, each where its `from` says; a `json` field is its own text, a moment is RFC 3339 in UTC unless the
//! stream declares a unit, null fields are left out, and what `_extra` kept stands at the end.

use std::collections::BTreeSet;
use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use serde_json::value::RawValue;

use crate::schema::EXTRA;
use crate::{FieldType, Moment, StreamDeclaration};

/// Writes rows of one batch.
#[derive(Debug)]
pub struct EventWriter<'a> {
    top: Vec<Member<'a>>,
    extra: Option<&'a ArrayRef>,
}

/// One key of an object.
#[derive(Debug)]
struct Member<'a> {
    key: &'a str,
    /// The columns that have its value; several fields may come from one place.
    columns: Vec<(&'a ArrayRef, &'a FieldType)>,
    inside: Vec<Member<'a>>,
}

impl<'a> EventWriter<'a> {
    /// A writer for rows of `stream`, of today's declaration or an older one.
    #[must_use]
    pub fn new(stream: &'a StreamDeclaration, rows: &'a RecordBatch) -> Self {
        let mut top = Vec::new();
        for field in &stream.fields {
            if let Some(column) = rows.column_by_name(&field.name) {
                place(&mut top, &field.path, (column, &field.kind));
            }
        }
        Self {
            top,
            extra: rows.column_by_name(EXTRA),
        }
    }

    /// Writes one row as a JSON object.
    ///
    /// # Errors
    /// When a column has not the type of its field: a broken invariant of the caller.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let extra = self.extra.filter(|extra| !extra.is_null(row));
        let extra = extra
            .and_then(|extra| extra.as_string_opt::<i32>())
            .map(|extra| extra.value(row));
        let kept = match extra {
            Some(text) => members(text)?,
            None => Vec::new(),
        };
        // An object that was kept whole says what is inside of it.
        let whole: BTreeSet<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
        out.push(b'{');
        let begin = out.len();
        for member in self.top.iter().filter(|member| !whole.contains(member.key)) {
            member.write(row, begin, out)?;
        }
        for (key, value) in &kept {
            write_key(key, begin, out);
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        Ok(())
    }
}

fn place<'a>(members: &mut Vec<Member<'a>>, path: &'a [String], column: (&'a ArrayRef, &'a FieldType)) {
    let [key, inside @ ..] = path else { return };
    let at = members.iter().position(|member| member.key == key);
    let at = at.unwrap_or_else(|| {
        members.push(Member {
            key,
            columns: Vec::new(),
            inside: Vec::new(),
        });
        members.len() - 1
    });
    if inside.is_empty() {
        members[at].columns.push(column);
    } else {
        place(&mut members[at].inside, inside, column);
    }
}

impl Member<'_> {
    /// Writes key and value, or nothing when there is no value.
    fn write(&self, row: usize, begin: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let valued = self.columns.iter().find(|(column, _)| !column.is_null(row));
        if let Some((column, kind)) = valued {
            write_key(self.key, begin, out);
            return write_value(column, kind, row, out);
        }
        let mark = out.len();
        write_key(self.key, begin, out);
        out.push(b'{');
        let inner = out.len();
        for member in &self.inside {
            member.write(row, inner, out)?;
        }
        if out.len() == inner {
            out.truncate(mark);
        } else {
            out.push(b'}');
        }
        Ok(())
    }
}

/// The members of an object that was checked when it was kept.
fn members(text: &str) -> Result<Vec<(String, Box<RawValue>)>, ArrowError> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    serde::de::Deserializer::deserialize_map(&mut reader, Members)
        .map_err(|error| ArrowError::InvalidArgumentError(format!("`{EXTRA}` is no object: {error}")))
}

fn write_key(key: &str, begin: usize, out: &mut Vec<u8>) {
    if out.len() > begin {
        out.push(b',');
    }
    write_text(key, out);
    out.push(b':');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory does not fail");
}

fn write_value(column: &ArrayRef, kind: &FieldType, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match (kind, column.data_type()) {
        (FieldType::Bool, DataType::Boolean) => {
            let value: &[u8] = if column.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(value);
        }
        (FieldType::Int { .. }, DataType::Int64) => {
            number(column.as_primitive::<Int64Type>().value(row), out)
        }
        (FieldType::Float { .. }, DataType::Float64) => {
            let value = column.as_primitive::<Float64Type>().value(row);
            serde_json::to_writer(out, &value).expect("writing a number to memory does not fail");
        }
        // A uuid is text in the lake.
        (FieldType::String { .. } | FieldType::Enum { .. } | FieldType::Uuid, DataType::Utf8) => {
            write_text(column.as_string::<i32>().value(row), out);
        }
        (FieldType::Json, DataType::Utf8) => {
            out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes());
        }
        (FieldType::Uuid, DataType::FixedSizeBinary(16)) => {
            let bytes = column.as_fixed_size_binary().value(row);
            let uuid = uuid::Uuid::from_slice(bytes).expect("the column has 16 bytes a row");
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            write_text(uuid.hyphenated().encode_lower(&mut text), out);
        }
        (FieldType::Timestamp { unit }, DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _)) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            match unit {
                None => write_moment(micros, out),
                Some(unit) => number(unit.of_micros(micros), out),
            }
        }
        (kind, found) => {
            let message = format!("a column of type {found} is no {}", kind.name());
            return Err(ArrowError::InvalidArgumentError(message));
        }
    }
    Ok(())
}

fn number(value: i64, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing a number to memory does not fail");
}

/// Writes `"2024-09-10T09:12:33.000001Z"` with its quotes, of microseconds since 1970 UTC; digits of a fraction stand
/// only where there is one.
pub fn write_moment(micros: i64, out: &mut Vec<u8>) {
    let moment = Moment::of(micros);
    out.push(b'"');
    moment.write_seconds(out, b'T');
    if moment.microsecond() != 0 {
        moment.write_fraction(out);
    }
    out.extend_from_slice(b"Z\"");
}
