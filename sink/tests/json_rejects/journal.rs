//! A journal in memory whose streams hold messages, as other programs write them into topics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use event::{Batch, Offset, Partition, Position, StreamName, TraceId};
use futures::future::BoxFuture;
use journal::{
    AppendError, Durability, Journal, JournalId, JournalReader, JsonMessage, Payload, ReadError, Record,
};
use tokio::sync::watch;

type Streams = Arc<Mutex<HashMap<StreamName, Vec<Payload>>>>;

/// One partition of each stream.
#[derive(Debug)]
pub(crate) struct MemoryJournal {
    streams: Streams,
    grown: watch::Sender<u64>,
}

impl MemoryJournal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            streams: Arc::default(),
            grown: watch::channel(0).0,
        })
    }

    /// Appends one record.
    pub(crate) fn append_payload(&self, stream: &StreamName, payload: Payload) {
        let mut streams = self.streams.lock().expect("not poisoned");
        streams.entry(stream.clone()).or_default().push(payload);
        drop(streams);
        self.grown.send_modify(|grown| *grown += 1);
    }

    /// Appends messages.
    pub(crate) fn append_texts<'a>(&self, stream: &StreamName, texts: impl IntoIterator<Item = &'a str>) {
        for text in texts {
            self.append_payload(stream, message(Some(text)));
        }
    }

    pub(crate) fn len(&self, stream: &StreamName) -> u64 {
        let streams = self.streams.lock().expect("not poisoned");
        streams.get(stream).map_or(0, |records| records.len() as u64)
    }
}

/// A message with or without a value.
pub(crate) fn message(text: Option<&str>) -> Payload {
    Payload::Json(JsonMessage {
        value: text.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        received_at: 1_700_000_000_000_000,
        trace_id: TraceId::from_bytes([9; 16]),
    })
}

impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        JournalId("memory".to_owned())
    }
    fn stream_id(&self, _stream: &StreamName) -> JournalId {
        self.id()
    }
    fn durability(&self) -> Durability {
        Durability::KafkaAcksAll
    }
    fn partitions(&self, _stream: &StreamName) -> u32 {
        1
    }
    fn append(&self, _group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        Box::pin(async { Err(AppendError::ReadOnly) })
    }
    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let end = Position::new(Partition(0), Offset(self.len(stream)));
        Box::pin(async move { Ok(vec![end]) })
    }
    fn start<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        Box::pin(async { Ok(vec![Position::default()]) })
    }
    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        let reader = Reader {
            streams: Arc::clone(&self.streams),
            stream: stream.clone(),
            position: from,
            grown: self.grown.subscribe(),
        };
        Box::pin(async move { Ok(Box::new(reader) as Box<dyn JournalReader>) })
    }
    fn retain<'a>(
        &'a self,
        _stream: &'a StreamName,
        _stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Reader {
    streams: Streams,
    stream: StreamName,
    position: Position,
    grown: watch::Receiver<u64>,
}

impl Reader {
    fn take(&self, bytes_max: usize) -> Vec<Record> {
        let streams = self.streams.lock().expect("not poisoned");
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        let from = usize::try_from(self.position.offset.0).expect("small");
        let kept = streams.get(&self.stream).map_or(&[][..], Vec::as_slice);
        for (index, payload) in kept.iter().enumerate().skip(from) {
            let record = Record {
                partition: Partition(0),
                offset: Offset(index as u64),
                payload: payload.clone(),
            };
            bytes += record.bytes();
            if !records.is_empty() && bytes > bytes_max {
                break;
            }
            records.push(record);
        }
        records
    }
}

impl JournalReader for Reader {
    fn position(&self) -> Position {
        self.position
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            loop {
                self.grown.borrow_and_update();
                let records = self.take(bytes_max);
                if let Some(last) = records.last() {
                    self.position.offset = last.offset.next();
                    return Ok(records);
                }
                if self.grown.changed().await.is_err() {
                    return Err(ReadError::Closed);
                }
            }
        })
    }
}
