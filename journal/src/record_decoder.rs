//! From records to batches, whatever form a record has: the one place where sinks and queries get their rows.
//!
//! A record of our own is decoded as it is. A JSON message goes through the decoder of request bodies, so that what
//! other programs write into a topic is held to the same rule, and what does not keep it is a reject here as there.

use std::sync::Arc;

use bytes::Bytes;
use event::decode::EventDecoder;
use event::record::{self, RecordError};
use event::{Batch, Reject, RejectCode, Span, StreamDeclaration};

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
            Payload::Json(message) => Ok(self.decode_message(found, message)),
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

    fn decode_message(&mut self, found: &Record, message: &JsonMessage) -> Decoded {
        let span = Span {
            rows: 1,
            trace_id: message.trace_id,
            received_at: message.received_at,
            idempotency_key: None,
            producer: None,
        };
        let events = self.events.get_or_insert_with(|| EventDecoder::new(&self.stream));
        let decoded = match message.value.as_ref().map(Bytes::as_ref) {
            Some(text) => events.decode(text),
            None => Err(Reject {
                line: 1,
                code: RejectCode::InvalidJson,
                field: None,
                message: "the message has no value".to_owned(),
                raw: Vec::new(),
            }),
        };
        match decoded {
            Ok(rows) => Decoded::Batch(Batch {
                stream: self.stream.name.clone(),
                partition: found.partition,
                version: self.stream.version,
                spans: vec![span],
                rows,
            }),
            Err(reject) => Decoded::Reject(reject, span),
        }
    }
}
