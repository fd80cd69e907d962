//! A journal in memory that keeps every group, or refuses as it is told.

use std::sync::Mutex;

use bytes::Bytes;
use event::{Batch, Offset, Partition, Position, StreamName};
use futures::future::BoxFuture;
use journal::{AppendError, Durability, Journal, JournalId, JournalReader, ReadError};

#[derive(Debug, Default)]
pub(crate) struct MemoryJournal {
    groups: Mutex<Vec<Vec<Batch>>>,
    refusal: Mutex<Option<AppendError>>,
}

impl MemoryJournal {
    /// Refuses every append from now on.
    pub(crate) fn refuse(&self, error: AppendError) {
        *self.refusal.lock().unwrap() = Some(error);
    }

    /// Every group, in order.
    pub(crate) fn groups(&self) -> Vec<Vec<Batch>> {
        self.groups.lock().unwrap().clone()
    }

    /// How many rows a stream has.
    pub(crate) fn rows(&self, stream: &str) -> usize {
        let groups = self.groups.lock().unwrap();
        let batches = groups.iter().flatten();
        batches
            .filter(|batch| batch.stream.as_str() == stream)
            .map(Batch::len)
            .sum()
    }
}

impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        JournalId("memory".to_owned())
    }

    fn stream_id(&self, _stream: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn partitions(&self, _stream: &StreamName) -> u32 {
        1
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        Box::pin(async move {
            if let Some(error) = &*self.refusal.lock().unwrap() {
                return Err(error.clone());
            }
            let mut groups = self.groups.lock().unwrap();
            let mut positions = Vec::new();
            for (number, batch) in group.iter().enumerate() {
                let record: Bytes = event::record::encode(batch).expect("a batch is encodable");
                assert!(record.len() <= event::limits::RECORD_BYTES_MAX);
                let same = |other: &&Batch| other.stream == batch.stream;
                let before = groups.iter().flatten().filter(same).count();
                let here = group[..=number].iter().filter(same).count();
                positions.push(Position::new(Partition(0), Offset((before + here) as u64)));
            }
            groups.push(group);
            Ok(positions)
        })
    }

    fn end<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        Box::pin(async { Err(ReadError::Closed) })
    }

    fn start<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        Box::pin(async { Err(ReadError::Closed) })
    }

    fn reader<'a>(
        &'a self,
        _stream: &'a StreamName,
        _from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        Box::pin(async { Err(ReadError::Closed) })
    }

    fn retain<'a>(
        &'a self,
        _stream: &'a StreamName,
        _stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        Box::pin(async { Ok(()) })
    }
}
