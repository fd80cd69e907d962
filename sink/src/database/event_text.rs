//! A whole event as one JSON object: its declared fields by name in the order of the declaration, absent ones left
//! out, then what `_extra` keeps. A moment is RFC 3339 in UTC with microseconds, or a number where it is declared as
//! one; JSON values are their own text.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use event::schema::EXTRA;
use event::{FieldType, Moment, StreamDeclaration};

/// Writes row `row` of a batch in the lake's schema.
pub fn write_event(out: &mut Vec<u8>, stream: &StreamDeclaration, batch: &RecordBatch, row: usize) {
    out.push(b'{');
    let begin = out.len();
    for (field, column) in stream.fields.iter().zip(batch.columns()) {
        if column.is_null(row) {
            continue;
        }
        if out.len() > begin {
            out.push(b',');
        }
        write_text(out, &field.name);
        out.push(b':');
        match (&field.kind, column.as_primitive_opt::<TimestampMicrosecondType>()) {
            (FieldType::Timestamp { unit: Some(unit) }, Some(moments)) => {
                write_int(out, unit.of_micros(moments.value(row)));
            }
            (kind, _) => write_value(out, column.as_ref(), row, matches!(kind, FieldType::Json)),
        }
    }
    if let Some(extra) = batch
        .column_by_name(EXTRA)
        .and_then(|column| column.as_string_opt::<i32>())
        && !extra.is_null(row)
    {
        // It is an object as our decoder writes it: `{` and `}` are its first and last bytes.
        let members = extra.value(row).trim();
        let members = members.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if let Some(members) = members.filter(|members| !members.trim().is_empty()) {
            if out.len() > begin {
                out.push(b',');
            }
            out.extend_from_slice(members.as_bytes());
        }
    }
    out.push(b'}');
}

fn write_value(out: &mut Vec<u8>, column: &dyn Array, row: usize, is_json: bool) {
    match column.data_type() {
        DataType::Boolean => {
            let text: &[u8] = if column.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(text);
        }
        DataType::Int64 => write_int(out, column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => write_float(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let moment = Moment::of(micros);
            if (0..=9_999).contains(&moment.year()) {
                out.push(b'"');
                moment.write_seconds(out, b'T');
                moment.write_fraction(out);
                out.extend_from_slice(b"Z\"");
            } else {
                // RFC 3339 ends with the year 9999; what came as an epoch goes as an epoch, in microseconds.
                write_int(out, micros);
            }
        }
        DataType::Utf8 if is_json => out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
        DataType::Utf8 => write_text(out, column.as_string::<i32>().value(row)),
        // The lake's schema has no other type.
        _ => out.extend_from_slice(b"null"),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory does not fail");
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    serde_json::to_writer(out, &value).expect("writing to memory does not fail");
}

fn write_float(out: &mut Vec<u8>, value: f64) {
    serde_json::to_writer(out, &value).expect("writing to memory does not fail");
}
