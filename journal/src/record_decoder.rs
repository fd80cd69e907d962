//! From records to batches, whatever form a record has: the one place where sinks and queries get their rows.
//!
//! A record of our own is decoded as it is. A JSON message goes through the decoder of request bodies, so that what
//! other programs write into a topic is held to the same rule, and what does not keep it is a reject here as there.
//! Messages that follow each other can be decoded together ([`RecordDecoder::decode_messages`]): columns of one row
//! each cost several times what their event costs.

use std::sync::Arc;

use bytes::Bytes;
use event::decode::EventDecoder;
use event::limits::REJECTS_DESCRIBED_MAX;
use event::record::{self, RecordError};
use event::reject_rows::RejectedMessage;
use event::{Batch, Offset, Reject, RejectCode, Span, StreamDeclaration};

use crate::{JsonMessage, Payload, Record};

/// What a record holds.
#[derive(Debug)]
pub enum Decoded {
    /// Events.
    Batch(Batch),
    /// A message that is no event of the stream, and the span that it would have had.
    Reject(Reject, Span),
    /// Nothing.
    Nothing,
}

impl Decoded {
    /// How many events there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.len() as u64,
            Self::Reject(..) | Self::Nothing => 0,
        }
    }
}

/// Messages that were decoded together.
#[derive(Debug, Default)]
pub struct Messages {
    /// How many records this is of.
    pub taken: usize,
    /// The events, at most one record's worth; each row has a span of its own.
    pub batch: Option<Batch>,
    /// The offset of each row.
    pub offsets: Vec<Offset>,
    /// What is no event of the stream, at most `limits::REJECTS_DESCRIBED_MAX`.
    pub rejects: Vec<RejectedMessage>,
}

/// Decodes the records of one stream.
#[derive(Debug)]
pub struct RecordDecoder {
    stream: Arc<StreamDeclaration>,
    /// Made for the first message; most streams have none.
    events: Option<EventDecoder>,
}

impl RecordDecoder {
    /// A decoder for records of `stream`.
    #[must_use]
    pub fn new(stream: Arc<StreamDeclaration>) -> Self {
        Self { stream, events: None }
    }

    /// What a record holds. Columns borrow from the record where alignment allows.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes claim to be a record and are none, or one of a newer form.
    pub fn decode(&mut self, found: &Record) -> Result<Decoded, RecordError> {
        match &found.payload {
            Payload::Record(bytes) => record::decode(found.partition, bytes).map(Decoded::Batch),
            Payload::Json(_) => Ok(self.decode_message(found)),
            Payload::Nothing => Ok(Decoded::Nothing),
        }
    }

    /// How many events a record holds; of a record of our own only the header is read.
    ///
    /// # Errors
    /// [`RecordError`], as [`RecordDecoder::decode`].
    pub fn rows(&mut self, found: &Record) -> Result<u64, RecordError> {
        match &found.payload {
            Payload::Record(bytes) => Ok(u64::from(record::peek(bytes)?.rows)),
            Payload::Json(_) | Payload::Nothing => Ok(self.decode(found)?.rows()),
        }
    }

    /// Decodes the messages that `records`, of one partition, begin with: as many as make one batch, up to the first
    /// record that is none. Takes at least one when the first one is a message.
    pub fn decode_messages(&mut self, records: &[Record]) -> Messages {
        let events = self.events.get_or_insert_with(|| EventDecoder::new(&self.stream));
        let mut messages = Messages::default();
        let mut spans = Vec::new();
        for record in records {
            let Payload::Json(message) = &record.payload else {
                break;
            };
            if events.is_full() || messages.rejects.len() >= REJECTS_DESCRIBED_MAX {
                break;
            }
            messages.taken += 1;
            match push(events, message) {
                Ok(()) => {
                    spans.push(span_of(message));
                    messages.offsets.push(record.offset);
                }
                Err(reject) => messages.rejects.push(RejectedMessage {
                    offset: record.offset,
                    reject,
                    span: span_of(message),
                }),
            }
        }
        messages.batch = events.take().zip(records.first()).map(|(rows, first)| Batch {
            stream: self.stream.name.clone(),
            partition: first.partition,
            version: self.stream.version,
            spans,
            rows,
        });
        messages
    }

    fn decode_message(&mut self, found: &Record) -> Decoded {
        let mut decoded = self.decode_messages(std::slice::from_ref(found));
        match (decoded.batch, decoded.rejects.pop()) {
            (Some(batch), _) => Decoded::Batch(batch),
            (None, Some(rejected)) => Decoded::Reject(rejected.reject, rejected.span),
            (None, None) => Decoded::Nothing,
        }
    }
}

fn span_of(message: &JsonMessage) -> Span {
    Span {
        rows: 1,
        trace_id: message.trace_id,
        received_at: message.received_at,
        idempotency_key: None,
        producer: None,
    }
}

fn push(events: &mut EventDecoder, message: &JsonMessage) -> Result<(), Reject> {
    match message.value.as_ref().map(Bytes::as_ref) {
        Some(text) => events.push(text),
        None => Err(Reject {
            line: 1,
            code: RejectCode::InvalidJson,
            field: None,
            message: "the message has no value".to_owned(),
            raw: Vec::new(),
        }),
    }
}
