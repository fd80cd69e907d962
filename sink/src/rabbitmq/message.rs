//! A row as a message: the event as JSON, as a decoder of its stream reads it again, and what AMQP says beside it.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef};
use arrow_schema::ArrowError;
use event::json::EventWriter;
use event::partition::write_key;
use event::schema::{RECEIVED_AT, TRACE_ID};
use event::{Offset, Partition, StreamDeclaration};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::options::NAME_BYTES_MAX;
use crate::database::rows::Slice;

/// The delivery mode of messages that a broker keeps on disk.
const PERSISTENT: u8 = 2;

/// Writes the rows of one batch as messages.
pub(super) struct Messages<'a> {
    stream: &'a StreamDeclaration,
    events: EventWriter<'a>,
    id: Option<&'a ArrayRef>,
    received_at: Option<&'a ArrayRef>,
    trace_id: Option<&'a ArrayRef>,
}

/// What every message of ours says of itself.
pub(super) fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(ShortString::from("application/json"))
        .with_app_id(ShortString::from("tidemill"))
}

impl<'a> Messages<'a> {
    /// Messages of a slice; `id` is the field whose value is their id.
    pub(super) fn new(stream: &'a StreamDeclaration, slice: &Slice<'a>, id: Option<&str>) -> Self {
        let batch = slice.batch;
        Self {
            stream,
            events: EventWriter::new(stream, batch),
            id: id.and_then(|field| batch.column_by_name(field)),
            received_at: batch.column_by_name(RECEIVED_AT),
            trace_id: batch.column_by_name(TRACE_ID),
        }
    }

    /// Writes the body of one row of the batch.
    pub(super) fn write(&self, row: usize, body: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.events.write(row, body)
    }

    /// What stands beside the body. `place` is where the event is in the journal.
    pub(super) fn properties(
        &self,
        row: usize,
        partition: Partition,
        place: (Offset, u32),
    ) -> Result<BasicProperties, ArrowError> {
        let mut properties = properties()
            .with_message_id(self.id(row, partition, place)?)
            .with_type(short(self.stream.name.as_str()));
        if let Some(micros) = self
            .received_at
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        {
            let seconds = micros.value(row).div_euclid(1_000_000);
            properties = properties.with_timestamp(u64::try_from(seconds).unwrap_or_default());
        }
        if let Some(trace_id) = self.trace_id.and_then(|column| column.as_string_opt::<i32>()) {
            let mut headers = FieldTable::default();
            let value = AMQPValue::LongString(trace_id.value(row).into());
            headers.insert(ShortString::from("trace_id"), value);
            properties = properties.with_headers(headers);
        }
        Ok(properties)
    }

    /// The value of the field, which is the same however often the event is sent; else the event's place, which is too.
    fn id(&self, row: usize, partition: Partition, place: (Offset, u32)) -> Result<ShortString, ArrowError> {
        let mut text = String::new();
        if let Some(column) = self.id.filter(|column| !column.is_null(row)) {
            write_key(column, row, &mut text)?;
        }
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            let (offset, number) = place;
            text = format!("{}/{partition}:{offset}:{number}", self.stream.name);
        }
        Ok(short(&text))
    }
}

/// A text whose length was checked.
pub(super) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
