//! The two Arrow schemas of a stream.
//!
//! - **wire**: what travels in the journal. Declared fields in order (a uuid as 16 bytes), then `_extra` when the
//!   stream keeps unknown fields. What spans and the record's position say is not stored per row.
//! - **lake**: what is stored and queried. Declared fields in order (a uuid as lower-case text), `_extra`, then
//!   `_received_at`, `_trace_id`, `_partition`, `_offset`, `_row`.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::limits::RECORD_ROWS_MAX;
use crate::{Batch, FieldType, Offset, Partition, StreamDeclaration, UnknownFields};

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
/// The event's number in its record, Int32, from 0; [`ROW_OF_OTHERS`] of what another stream's journal brought.
pub const ROW: &str = "_row";
/// What `_row` says of a row of `_rejects` that is a message of another stream's topic: then `_partition` and `_offset`
/// are that message's, in the topic of the stream that the row names, and not of the journal of `_rejects`.
pub const ROW_OF_OTHERS: i32 = -1;
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

/// Why columns do not fit a stream's schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A column has another type than its name has in the schema, or the schema does not have it.
    #[error("column `{column}` is {found}, the stream has {expected}")]
    Column {
        /// The column's name.
        column: String,
        /// What the columns say.
        found: String,
        /// What the schema says.
        expected: String,
    },
    /// A required column is not there.
    #[error("required column `{column}` is missing")]
    Missing {
        /// The column's name.
        column: String,
    },
    /// The spans do not say of every row where it came from.
    #[error("{spanned} rows are said to come from somewhere, {rows} are in columns")]
    Spans {
        /// Rows that the spans have.
        spanned: u64,
        /// Rows that there are.
        rows: usize,
    },
    /// A place in a journal that no column can hold.
    #[error("partition {partition} or offset {offset} is beyond what the lake's columns hold")]
    Place {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
    },
    /// More rows than a record may have.
    #[error("a batch of {rows} rows is no record's, the limit is {limit}")]
    TooManyRows {
        /// How many rows.
        rows: usize,
        /// Most rows of a record.
        limit: usize,
    },
}

/// Brings columns that an older declaration made into today's schema: by name, absent ones as nulls.
///
/// # Errors
/// [`SchemaError`] when a column is unknown or has another type, or a required one is missing.
pub fn conform(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SchemaError> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    for field in rows.schema_ref().fields() {
        if schema.column_with_name(field.name()).is_none() {
            return Err(mismatch(field.name(), field.data_type(), "no such column"));
        }
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| match rows.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => Err(mismatch(
                field.name(),
                column.data_type(),
                &field.data_type().to_string(),
            )),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows.num_rows())),
            None => Err(SchemaError::Missing {
                column: field.name().clone(),
            }),
        });
    assemble(schema, columns.collect::<Result<_, _>>()?)
}

/// The rows of a record as the lake has them: today's declared columns, a uuid as text, and the system columns
/// that the spans and the record's place in the journal say.
///
/// # Errors
/// [`SchemaError`] when the batch is not one of this stream.
pub fn to_lake(
    batch: &Batch,
    offset: Offset,
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    let rows = batch.rows.num_rows();
    let offsets = Int64Array::from_value(signed(batch.partition, offset)?, rows);
    let numbers = Int32Array::from_iter_values((0..).take(rows));
    place_in_lake(batch, offsets, numbers, stream)
}

/// The same for a batch of messages, each of which is the only row of its record: `offsets` are theirs.
///
/// # Errors
/// As [`to_lake`].
pub fn messages_to_lake(
    batch: &Batch,
    offsets: &[Offset],
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    place_messages(batch, offsets, 0, stream)
}

/// The same for rows of `_rejects` that are messages of another stream's topic, at these offsets.
///
/// # Errors
/// As [`to_lake`].
pub fn rejected_messages_to_lake(batch: &Batch, offsets: &[Offset]) -> Result<RecordBatch, SchemaError> {
    place_messages(batch, offsets, ROW_OF_OTHERS, &StreamDeclaration::rejects())
}

fn place_messages(
    batch: &Batch,
    offsets: &[Offset],
    number: i32,
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    let rows = batch.rows.num_rows();
    if offsets.len() != rows {
        let spanned = offsets.len() as u64;
        return Err(SchemaError::Spans { spanned, rows });
    }
    let offsets = offsets.iter().map(|offset| signed(batch.partition, *offset));
    let offsets = Int64Array::from(offsets.collect::<Result<Vec<_>, _>>()?);
    place_in_lake(batch, offsets, Int32Array::from_value(number, rows), stream)
}

fn signed(partition: Partition, offset: Offset) -> Result<i64, SchemaError> {
    i64::try_from(offset.0).map_err(|_| SchemaError::Place { partition, offset })
}

/// The rows with the system columns, the last two of which are given.
fn place_in_lake(
    batch: &Batch,
    offsets: Int64Array,
    numbers: Int32Array,
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    let rows = batch.rows.num_rows();
    if rows > RECORD_ROWS_MAX {
        return Err(SchemaError::TooManyRows {
            rows,
            limit: RECORD_ROWS_MAX,
        });
    }
    let spanned = batch.spanned();
    if spanned != rows as u64 {
        return Err(SchemaError::Spans { spanned, rows });
    }
    let partition = i32::try_from(batch.partition.0).map_err(|_| SchemaError::Place {
        partition: batch.partition,
        offset: Offset(
            offsets
                .values()
                .first()
                .copied()
                .unwrap_or_default()
                .unsigned_abs(),
        ),
    })?;
    let events = conform(&batch.rows, &wire(stream))?;
    let mut columns: Vec<ArrayRef> = events.columns().iter().map(column_in_lake).collect();
    let mut received_at = Vec::with_capacity(rows);
    let mut trace_ids = String::with_capacity(rows * 32);
    for span in &batch.spans {
        received_at.extend(std::iter::repeat_n(span.received_at, span.rows as usize));
        if span.rows > 0 {
            let begin = trace_ids.len();
            write!(trace_ids, "{}", span.trace_id).expect("a `String` takes any text");
            (1..span.rows).for_each(|_| trace_ids.extend_from_within(begin..begin + 32));
        }
    }
    let trace_ends = OffsetBuffer::from_repeated_length(32, rows);
    columns.push(Arc::new(
        TimestampMicrosecondArray::from(received_at).with_timezone("UTC"),
    ));
    columns.push(Arc::new(StringArray::new(
        trace_ends,
        trace_ids.into_bytes().into(),
        None,
    )));
    columns.push(Arc::new(Int32Array::from_value(partition, rows)));
    columns.push(Arc::new(offsets));
    columns.push(Arc::new(numbers));
    assemble(&lake(stream), columns)
}

/// A column of the wire schema as the lake has it: a uuid becomes text, everything else stays as it is.
#[must_use]
pub fn column_in_lake(column: &ArrayRef) -> ArrayRef {
    match column.as_fixed_size_binary_opt() {
        Some(uuids) => Arc::new(uuid_texts(uuids)),
        None => Arc::clone(column),
    }
}

/// Lower-case hyphenated texts, all in one buffer.
fn uuid_texts(uuids: &FixedSizeBinaryArray) -> StringArray {
    const TEXT: usize = uuid::fmt::Hyphenated::LENGTH;
    let mut texts = vec![0; uuids.len() * TEXT];
    for (bytes, text) in uuids
        .value_data()
        .chunks_exact(16)
        .zip(texts.chunks_exact_mut(TEXT))
    {
        let bytes = bytes.try_into().expect("a chunk has 16 bytes");
        uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(text);
    }
    let ends = OffsetBuffer::from_repeated_length(TEXT, uuids.len());
    StringArray::new(ends, texts.into(), uuids.nulls().cloned())
}

fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, SchemaError> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| SchemaError::Column {
        column: String::new(),
        found: error.to_string(),
        expected: "columns of the declared schema".to_owned(),
    })
}

fn mismatch(column: &str, found: &DataType, expected: &str) -> SchemaError {
    SchemaError::Column {
        column: column.to_owned(),
        found: found.to_string(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FieldDeclaration, Span, StreamName, TraceId};

    fn stream() -> StreamDeclaration {
        let field = |name: &str, kind, optional| FieldDeclaration {
            name: name.to_owned(),
            kind,
            optional,
            description: String::new(),
            path: vec![name.to_owned()],
        };
        StreamDeclaration {
            fields: vec![
                field("user", FieldType::Uuid, true),
                field("later", FieldType::Bool, true),
            ],
            name: StreamName::parse("s").expect("allowed"),
            ..StreamDeclaration::rejects()
        }
    }

    #[test]
    fn rows_reach_the_lake_with_their_request_and_their_place() {
        let id = "d290f1ee-6c54-4b01-90e6-d701748f0851";
        let bytes = *uuid::Uuid::parse_str(id).expect("a uuid").as_bytes();
        let users = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(bytes), None].into_iter(), 16);
        let column: ArrayRef = Arc::new(users.expect("16 bytes each"));
        let span = |n: u8| Span {
            rows: 1,
            trace_id: TraceId::from_bytes([n; 16]),
            received_at: i64::from(n),
            idempotency_key: None,
            producer: None,
        };
        let rows = RecordBatch::try_from_iter([("user", column)]).expect("one column");
        let batch = Batch {
            stream: stream().name,
            partition: Partition(3),
            version: 1,
            spans: vec![span(1), span(2)],
            rows,
        };
        let found = to_lake(&batch, Offset(9), &stream()).expect("converts");
        assert_eq!(found.schema(), lake(&stream()));
        assert_eq!(
            found
                .column_by_name("user")
                .expect("there")
                .as_string::<i32>()
                .value(0),
            id
        );
        assert!(found.column_by_name("user").expect("there").is_null(1));
        assert_eq!(found.column_by_name("later").expect("there").null_count(), 2);
        let trace = found
            .column_by_name(TRACE_ID)
            .expect("there")
            .as_string::<i32>()
            .value(1)
            .to_owned();
        assert_eq!(trace, "02".repeat(16));
        let numbers = [(OFFSET, 9), (ROW, 1), (PARTITION, 3), (RECEIVED_AT, 2)];
        for (name, expected) in numbers {
            let column = found.column_by_name(name).expect("there");
            let column = arrow_cast::cast(column, &DataType::Int64).expect("a number");
            assert_eq!(
                column.as_primitive::<arrow_array::types::Int64Type>().value(1),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_column_that_the_stream_does_not_have_is_named() {
        let column: ArrayRef = Arc::new(Int32Array::from_value(1, 1));
        let rows = RecordBatch::try_from_iter([("other", column)]).expect("one column");
        let error = conform(&rows, &wire(&stream())).expect_err("unknown");
        assert!(error.to_string().contains("`other`"), "{error}");
    }
}
