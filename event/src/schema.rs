//! The Arrow schemas of a stream.
//!
//! - **wire**: what travels in the journal. Declared fields in order (a uuid as 16 bytes), then `_extra` when the
//!   stream keeps unknown fields. What spans and the record's position say is not stored per row.
//! - **lake**: what is stored and queried. Declared fields in order (a uuid as lower-case text), `_extra`, then
//!   `_received_at`, `_trace_id`, `_partition`, `_offset`, `_row`.
//! - **placed**: the lake's columns while uuids and trace ids still are 16 bytes. The sink's files take them like this:
//!   most of their texts are never made, because a dictionary has each of them once.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::{Buffer, OffsetBuffer};
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

/// The schema of rows on their way into the lake.
#[must_use]
pub fn placed(stream: &StreamDeclaration) -> SchemaRef {
    let ids = DataType::FixedSizeBinary(16);
    let mut fields = event_fields(stream, ids.clone());
    fields.extend(system_fields().iter().map(|field| {
        if field.name() == TRACE_ID {
            Arc::new(field.as_ref().clone().with_data_type(ids.clone()))
        } else {
            Arc::clone(field)
        }
    }));
    Arc::new(Schema::new(fields))
}

/// How 16 bytes are written as text: lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdText {
    /// Of a trace id: 32 digits.
    Simple,
    /// Of a uuid: five groups with hyphens between them, 36 characters.
    Hyphenated,
}

impl IdText {
    /// How the lake has the ids of a column.
    #[must_use]
    pub fn of(column: &str) -> Self {
        if column == TRACE_ID {
            Self::Simple
        } else {
            Self::Hyphenated
        }
    }

    /// Characters of a text, which are as many bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Simple => uuid::fmt::Simple::LENGTH,
            Self::Hyphenated => uuid::fmt::Hyphenated::LENGTH,
        }
    }

    /// Writes the text of an id into a place of [`Self::length`] bytes.
    ///
    /// # Panics
    /// When the place is shorter.
    pub fn write(self, id: [u8; 16], text: &mut [u8]) {
        let id = uuid::Uuid::from_bytes(id);
        match self {
            Self::Simple => id.simple().encode_lower(text),
            Self::Hyphenated => id.hyphenated().encode_lower(text),
        };
    }

    /// The text of an id.
    #[must_use]
    pub fn text(self, id: [u8; 16]) -> String {
        let id = uuid::Uuid::from_bytes(id);
        match self {
            Self::Simple => id.simple().to_string(),
            Self::Hyphenated => id.hyphenated().to_string(),
        }
    }

    /// The texts of a column, all in one buffer. Rows of one request have its trace id, so what was just written is
    /// copied.
    #[must_use]
    pub fn texts(self, ids: &FixedSizeBinaryArray) -> StringArray {
        let mut texts = Vec::with_capacity(ids.len() * self.length());
        let mut last = None;
        for id in ids.value_data().as_chunks().0 {
            let begin = texts.len();
            if last == Some(id) {
                texts.extend_from_within(begin - self.length()..);
            } else {
                texts.resize(begin + self.length(), 0);
                self.write(*id, &mut texts[begin..]);
                last = Some(id);
            }
        }
        let ends = OffsetBuffer::from_repeated_length(self.length(), ids.len());
        StringArray::new(ends, texts.into(), ids.nulls().cloned())
    }
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
    with_texts(&place(batch, offset, stream)?, stream)
}

/// The same with ids as 16 bytes, in the schema [`placed`].
///
/// # Errors
/// As [`to_lake`].
pub fn place(batch: &Batch, offset: Offset, stream: &StreamDeclaration) -> Result<RecordBatch, SchemaError> {
    let rows = batch.rows.num_rows();
    let offsets = Int64Array::from_value(signed(batch.partition, offset)?, rows);
    let numbers = Int32Array::from_iter_values((0..).take(rows));
    place_at(batch, offsets, numbers, stream)
}

/// The rows of a batch of messages as the lake has them. Each is the only row of its record: `offsets` are theirs.
///
/// # Errors
/// As [`to_lake`].
pub fn messages_to_lake(
    batch: &Batch,
    offsets: &[Offset],
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    with_texts(&place_messages(batch, offsets, stream)?, stream)
}

/// The same with ids as 16 bytes, in the schema [`placed`].
///
/// # Errors
/// As [`to_lake`].
pub fn place_messages(
    batch: &Batch,
    offsets: &[Offset],
    stream: &StreamDeclaration,
) -> Result<RecordBatch, SchemaError> {
    place_numbered(batch, offsets, 0, stream)
}

/// As [`messages_to_lake`], for rows of `_rejects` that are messages of another stream's topic, at these offsets.
///
/// # Errors
/// As [`to_lake`].
pub fn rejected_messages_to_lake(batch: &Batch, offsets: &[Offset]) -> Result<RecordBatch, SchemaError> {
    let rejects = StreamDeclaration::rejects();
    with_texts(
        &place_numbered(batch, offsets, ROW_OF_OTHERS, &rejects)?,
        &rejects,
    )
}

fn place_numbered(
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
    place_at(batch, offsets, Int32Array::from_value(number, rows), stream)
}

fn signed(partition: Partition, offset: Offset) -> Result<i64, SchemaError> {
    i64::try_from(offset.0).map_err(|_| SchemaError::Place { partition, offset })
}

/// The rows with the system columns, the last two of which are given.
fn place_at(
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
    let mut columns = events.columns().to_vec();
    let mut received_at = Vec::with_capacity(rows);
    let mut trace_ids = Vec::with_capacity(rows);
    for span in &batch.spans {
        received_at.extend(std::iter::repeat_n(span.received_at, span.rows as usize));
        trace_ids.extend(std::iter::repeat_n(*span.trace_id.as_bytes(), span.rows as usize));
    }
    columns.push(Arc::new(
        TimestampMicrosecondArray::from(received_at).with_timezone("UTC"),
    ));
    columns.push(Arc::new(FixedSizeBinaryArray::new(
        16,
        Buffer::from_vec(trace_ids.into_flattened()),
        None,
    )));
    columns.push(Arc::new(Int32Array::from_value(partition, rows)));
    columns.push(Arc::new(offsets));
    columns.push(Arc::new(numbers));
    assemble(&placed(stream), columns)
}

/// Placed rows as the lake has them.
fn with_texts(rows: &RecordBatch, stream: &StreamDeclaration) -> Result<RecordBatch, SchemaError> {
    let schema = rows.schema_ref().fields().iter();
    let columns = schema
        .zip(rows.columns())
        .map(|(field, column)| column_in_lake(field.name(), column));
    assemble(&lake(stream), columns.collect())
}

/// A column of placed rows, or of the wire schema, as the lake has it: ids become text, everything else stays as it is.
#[must_use]
pub fn column_in_lake(name: &str, column: &ArrayRef) -> ArrayRef {
    match column.as_fixed_size_binary_opt() {
        Some(ids) => Arc::new(IdText::of(name).texts(ids)),
        None => Arc::clone(column),
    }
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
