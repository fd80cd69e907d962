//! A journal in memory, and a lake that has come to some positions of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use event::unique::Seen;
use event::{Batch, Offset, Partition, Position, StreamDeclaration, StreamName, schema};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use journal::{
    AppendError, Decoded, Durability, Journal, JournalId, JournalReader, ReadError, Record, RecordDecoder,
};
use lake::Snapshot;

use crate::QueryError;
use crate::pin::Tables;

/// A log in memory, and how many records of it were read.
#[derive(Debug, Default)]
pub(super) struct Log(pub(super) Mutex<Vec<Vec<Record>>>, pub(super) AtomicUsize);

struct LogReader(Arc<Log>, Position);

impl JournalReader for LogReader {
    fn position(&self) -> Position {
        self.1
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        let log = self.0.0.lock().expect("whole");
        let from = &log[self.1.partition.0 as usize][self.1.offset.0 as usize..];
        assert!(!from.is_empty(), "nobody reads past the end");
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let before = bytes;
            bytes += record.bytes();
            before < bytes_max.min(3_000)
        };
        let given: Vec<Record> = from.iter().take_while(fits).cloned().collect();
        self.1.offset.0 += given.len() as u64;
        self.0.1.fetch_add(given.len(), Ordering::SeqCst);
        ready(Ok(given)).boxed()
    }
}

#[derive(Debug)]
pub(super) struct Logged(pub(super) Arc<Log>);

impl Journal for Logged {
    fn id(&self) -> JournalId {
        JournalId("log".to_owned())
    }

    fn stream_id(&self, _: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::KafkaAcksAll
    }

    fn partitions(&self, _: &StreamName) -> u32 {
        self.0.0.lock().expect("whole").len() as u32
    }

    fn append(&self, _: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        unreachable!("the test appends")
    }

    fn end<'a>(&'a self, _: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let log = self.0.0.lock().expect("whole");
        let ends = log
            .iter()
            .zip(0..)
            .map(|(records, partition)| Position::new(Partition(partition), Offset(records.len() as u64)));
        ready(Ok(ends.collect())).boxed()
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let partitions = 0..self.partitions(stream);
        ready(Ok(partitions
            .map(|partition| Position::new(Partition(partition), Offset(0)))
            .collect()))
        .boxed()
    }

    fn reader<'a>(
        &'a self,
        _: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        let reader: Box<dyn JournalReader> = Box::new(LogReader(Arc::clone(&self.0), from));
        ready(Ok(reader)).boxed()
    }

    fn retain<'a>(&'a self, _: &'a StreamName, _: &'a [Position]) -> BoxFuture<'a, Result<(), ReadError>> {
        ready(Ok(())).boxed()
    }
}

/// A lake that has come to some positions, and whose rows retention has removed.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) log: Arc<Log>,
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) at: Arc<Mutex<Vec<Position>>>,
}

impl Tables for Stored {
    fn snapshot<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
    ) -> BoxFuture<'a, Result<Arc<Snapshot>, QueryError>> {
        let positions = self.at.lock().expect("whole").clone();
        let snapshot = Snapshot {
            version: positions.iter().map(|at| at.offset.0).sum(),
            directory: std::path::PathBuf::from("/nowhere").into(),
            schema: schema::lake(stream),
            files: Arc::new([]),
            positions,
            removed: 5,
        };
        ready(Ok(Arc::new(snapshot))).boxed()
    }

    fn seen<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        _: &'a Arc<Snapshot>,
        at: Position,
    ) -> BoxFuture<'a, Result<Option<Seen>, QueryError>> {
        let mut seen = Seen::new(stream);
        for record in &self.log.0.lock().expect("whole")[at.partition.0 as usize][..at.offset.0 as usize] {
            if let (Some(seen), Some(batch)) = (&mut seen, batch_of(stream, record)) {
                seen.admit(&batch, stream).expect("of the stream");
            }
        }
        ready(Ok(seen)).boxed()
    }
}

pub(super) fn batch_of(stream: &Arc<StreamDeclaration>, record: &Record) -> Option<Batch> {
    match RecordDecoder::new(Arc::clone(stream))
        .decode(record)
        .expect("a record")
    {
        Decoded::Batch(batch) => Some(batch),
        Decoded::Reject(..) | Decoded::Nothing => None,
    }
}
