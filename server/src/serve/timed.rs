//! The journal with a clock: appends are timed and counted for the metrics.
//!
//! It wraps any journal, so that the same is measured whichever one is in use.

use std::sync::Arc;
use std::time::Instant;

use event::{Batch, Position, StreamName};
use futures::future::BoxFuture;
use journal::{AppendError, Durability, Fault, GroupMember, Journal, JournalId, JournalReader, ReadError};

/// A journal whose appends are measured.
#[derive(Debug)]
pub(super) struct TimedJournal {
    inner: Arc<dyn Journal>,
}

impl TimedJournal {
    pub(super) fn new(inner: Arc<dyn Journal>) -> Self {
        Self { inner }
    }

    fn appended(rows: u64, begun: Instant, done: &Result<Vec<Position>, AppendError>) {
        let took = begun.elapsed();
        match done {
            Ok(_) => {
                metrics::histogram!("tidemill_journal_append_seconds").record(took);
                metrics::counter!("tidemill_journal_rows_total").increment(rows);
            }
            Err(error) => {
                let fault = match error.fault() {
                    Fault::Input => "input",
                    Fault::Overload => "overload",
                    Fault::Outage => "outage",
                    Fault::Fatal => "fatal",
                };
                metrics::counter!("tidemill_journal_append_errors_total", "fault" => fault).increment(1);
            }
        }
    }
}

impl Journal for TimedJournal {
    fn id(&self) -> JournalId {
        self.inner.id()
    }

    fn stream_id(&self, stream: &StreamName) -> JournalId {
        self.inner.stream_id(stream)
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn partitions(&self, stream: &StreamName) -> u32 {
        self.inner.partitions(stream)
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let rows = group.iter().map(|batch| batch.len() as u64).sum();
            let done = self.inner.append(group).await;
            Self::appended(rows, begun, &done);
            done
        })
    }

    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.end(stream)
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.start(stream)
    }

    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        self.inner.reader(stream, from)
    }

    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        self.inner.retain(stream, stored)
    }

    fn group_positions<'a>(
        &'a self,
        group: &'a str,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.group_positions(group, stream)
    }

    fn join<'a>(
        &'a self,
        group: &'a str,
        streams: &'a [StreamName],
    ) -> BoxFuture<'a, Result<Box<dyn GroupMember>, ReadError>> {
        self.inner.join(group, streams)
    }
}
