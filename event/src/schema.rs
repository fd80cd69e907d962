//! The two Arrow schemas of a stream.
//!
//! - **wire**: what travels in the journal. Declared fields in order (a uuid as 16 bytes), then `_extra` when the
//!   stream keeps unknown fields. What spans and the record's position say is not stored per row.
//! - **lake**: what is stored and queried. Declared fields in order (a uuid as lower-case text), `_extra`, then
//!   `_received_at`, `_trace_id`, `_partition`, `_offset`, `_row`.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::{FieldType, StreamDeclaration, UnknownFields};

/// Undeclared fields of an event, as one JSON object.
pub const EXTRA: &str = "_extra";
/// When the request had arrived, microseconds UTC.
pub const RECEIVED_AT: &str = "_received_at";
/// The request's trace id, 32 hexadecimal digits.
pub const TRACE_ID: &str = "_trace_id";
/// The partition of the event's record, Int32 (Delta has no unsigned integers).
pub const PARTITION: &str = "_partition";
/// The offset of the event's record, Int64.
pub const OFFSET: &str = "_offset";
/// The event's number in its record, Int32, from 0.
pub const ROW: &str = "_row";
/// The number of an event in its stream, Int64; computed by readers, stored nowhere.
pub const INDEX: &str = "_index";

/// The type of every timestamp column: microseconds in UTC.
#[must_use]
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()))
}

/// The schema of a stream's columns in the journal.
#[must_use]
pub fn wire(stream: &StreamDeclaration) -> SchemaRef {
    Arc::new(Schema::new(event_fields(stream, DataType::FixedSizeBinary(16))))
}

/// The schema of a stream's table in the lake.
#[must_use]
pub fn lake(stream: &StreamDeclaration) -> SchemaRef {
    let mut fields = event_fields(stream, DataType::Utf8);
    fields.extend(system_fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

/// The system columns at the end of every table, in order.
#[must_use]
pub fn system_fields() -> Fields {
    Fields::from(vec![
        Field::new(RECEIVED_AT, timestamp_type(), false),
        Field::new(TRACE_ID, DataType::Utf8, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(ROW, DataType::Int32, false),
    ])
}

fn event_fields(stream: &StreamDeclaration, uuid: DataType) -> Vec<Arc<Field>> {
    let mut fields: Vec<_> = stream
        .fields
        .iter()
        .map(|field| {
            let data_type = match &field.kind {
                FieldType::Bool => DataType::Boolean,
                FieldType::Int { .. } => DataType::Int64,
                FieldType::Float { .. } => DataType::Float64,
                FieldType::String { .. } | FieldType::Enum { .. } | FieldType::Json => DataType::Utf8,
                FieldType::Uuid => uuid.clone(),
                FieldType::Timestamp { .. } => timestamp_type(),
            };
            Arc::new(Field::new(&field.name, data_type, field.optional))
        })
        .collect();
    if stream.unknown_fields == UnknownFields::Keep {
        fields.push(Arc::new(Field::new(EXTRA, DataType::Utf8, true)));
    }
    fields
}
