//! Batches as messages, and messages as what a record holds.
//!
//! A stream of the format `record` has one message for each batch: our own record as the value. One of the format
//! `json` has one for each event, with its key, so that other programs read it. Headers say whose request it was.

use arrow_schema::ArrowError;
use bytes::Bytes;
use event::json::EventWriter;
use event::limits::RECORD_BYTES_MAX;
use event::{Batch, Offset, Partition, RecordFormat, Span, TraceId, partition};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};

use super::topic::Topic;
use crate::{AppendError, JsonMessage, Payload, Record};

/// The W3C header that carries a trace id.
const TRACEPARENT: &str = "traceparent";
/// Microseconds since 1970 when the request had arrived. A message's own timestamp is when it was sent, in
/// milliseconds: the broker's retention goes by it.
const RECEIVED_AT: &str = "received-at";
const CONTENT_TYPE: &str = "content-type";
const ROWS: &str = "rows";

/// What librdkafka needs for each message beyond its bytes, about: its structures, and ours.
const MESSAGE_OVERHEAD_BYTES: usize = 512;

/// One message to be sent.
pub(super) struct Message {
    pub(super) key: Option<String>,
    pub(super) value: Bytes,
    pub(super) headers: OwnedHeaders,
}

/// The messages of one batch.
pub(super) struct Messages {
    pub(super) partition: Partition,
    pub(super) messages: Vec<Message>,
}

impl Messages {
    /// Encodes a batch. CPU-bound.
    pub(super) fn of(topic: &Topic, batch: &Batch) -> Result<Self, AppendError> {
        let encode = |message: String| AppendError::Encode { message };
        let messages = match topic.format {
            RecordFormat::Record => {
                let record = event::record::encode(batch).map_err(|error| encode(error.to_string()))?;
                vec![record_message(batch, record)?]
            }
            RecordFormat::Json => json_messages(topic, batch).map_err(|error| encode(error.to_string()))?,
        };
        Ok(Self {
            partition: batch.partition,
            messages,
        })
    }

    /// Bytes that they take while they wait.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |message: &Message| {
            MESSAGE_OVERHEAD_BYTES + message.value.len() + message.key.as_ref().map_or(0, String::len)
        };
        self.messages.iter().map(bytes).sum()
    }
}

fn record_message(batch: &Batch, value: Bytes) -> Result<Message, AppendError> {
    if value.len() > RECORD_BYTES_MAX {
        return Err(AppendError::TooLarge {
            record_bytes: value.len() as u64,
            limit_bytes: RECORD_BYTES_MAX as u64,
        });
    }
    let first = batch.spans.first();
    let headers = headers("application/vnd.tidemill.record", batch.len(), first);
    Ok(Message {
        key: None,
        value,
        headers,
    })
}

fn json_messages(topic: &Topic, batch: &Batch) -> Result<Vec<Message>, ArrowError> {
    let writer = EventWriter::new(&topic.declaration, &batch.rows);
    let key = topic.declaration.key.as_deref();
    let key = key.and_then(|key| batch.rows.column_by_name(key));
    let mut messages = Vec::with_capacity(batch.len());
    let mut row = 0;
    for span in &batch.spans {
        let headers = headers("application/json", 1, Some(span));
        let headers = headers.insert(Header {
            key: RECEIVED_AT,
            value: Some(&span.received_at.to_string()),
        });
        for _ in 0..span.rows.min((batch.len() - row) as u32) {
            let mut value = Vec::with_capacity(256);
            writer.write(row, &mut value)?;
            let key = match key.filter(|key| !arrow_array::Array::is_null(key, row)) {
                Some(column) => {
                    let mut text = String::new();
                    partition::write_key(column, row, &mut text)?;
                    Some(text)
                }
                None => None,
            };
            messages.push(Message {
                key,
                value: Bytes::from(value),
                headers: headers.clone(),
            });
            row += 1;
        }
    }
    Ok(messages)
}

fn headers(content_type: &str, rows: usize, span: Option<&Span>) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header {
            key: CONTENT_TYPE,
            value: Some(content_type),
        })
        .insert(Header {
            key: ROWS,
            value: Some(&rows.to_string()),
        });
    if let Some(span) = span {
        headers = headers.insert(Header {
            key: TRACEPARENT,
            value: Some(&traceparent(span.trace_id)),
        });
    }
    headers
}

/// The id of the request, as sent on by this program: the parent is the id's own second half, which is stable.
fn traceparent(trace_id: TraceId) -> String {
    let text = trace_id.to_string();
    let half = &text[16..];
    let parent = if half.bytes().all(|digit| digit == b'0') {
        "0000000000000001"
    } else {
        half
    };
    format!("00-{text}-{parent}-01")
}

/// The record that a message is.
pub(super) fn record(
    topic: &Topic,
    message: &BorrowedMessage<'_>,
    offset: Offset,
    partition: Partition,
) -> Record {
    let value = message.payload().map(Bytes::copy_from_slice);
    let payload = match topic.format {
        RecordFormat::Record => Payload::Record(value.unwrap_or_default()),
        RecordFormat::Json => Payload::Json(JsonMessage {
            value,
            received_at: received_at(message),
            trace_id: trace_id(topic, message, offset, partition),
        }),
    };
    Record {
        partition,
        offset,
        payload,
    }
}

fn received_at(message: &BorrowedMessage<'_>) -> i64 {
    let exact = header(message, RECEIVED_AT).and_then(|value| value.parse().ok());
    let timestamp = || message.timestamp().to_millis().unwrap_or(0).max(0);
    exact.unwrap_or_else(|| timestamp().saturating_mul(1_000))
}

/// That of the message, or one that is this message's alone whenever it is read: of its topic and place.
fn trace_id(topic: &Topic, message: &BorrowedMessage<'_>, offset: Offset, partition: Partition) -> TraceId {
    let said = header(message, TRACEPARENT).and_then(|value| TraceId::parse(value.split('-').nth(1)?));
    said.unwrap_or_else(|| {
        let place = u128::from(partition.0) << 64 | u128::from(offset.0);
        TraceId::from_bytes((topic.id.0 ^ place).max(1).to_be_bytes())
    })
}

fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == key)?;
    std::str::from_utf8(found.value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_one_of_the_specification_and_carries_the_id() {
        let id = TraceId::from_bytes([0xab; 16]);
        let text = traceparent(id);
        assert_eq!(text, format!("00-{}-{}-01", "ab".repeat(16), "ab".repeat(8)));
        let half_zero = TraceId::parse("4bf92f3577b34da60000000000000000").expect("an id");
        assert!(traceparent(half_zero).ends_with("-0000000000000001-01"));
    }
}
