//! The way into the journal: what ingest does with a request, for events that come one by one.
//!
//! Events go through the decoder of request bodies, so they are held to the same rule, and what is no event becomes a row
//! of `_rejects`. Both are appended as one group, which is durable when the append returns (I-1).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use arrow_array::RecordBatch;
use event::decode::EventDecoder;
use event::{Batch, Partition, Reject, Span, StreamDeclaration, TraceId, partition, reject_rows};
use journal::Batcher;

use crate::SourceError;

/// Where the events of one source go.
#[derive(Debug)]
pub(crate) struct Inlet {
    source: String,
    stream: Arc<StreamDeclaration>,
    batcher: Batcher,
    /// Where rows without a key go next.
    turn: AtomicU32,
}

/// Events that were decoded and are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    rows: Vec<RecordBatch>,
    /// What is no event of the stream, with its number among the texts, from 0.
    pub(crate) rejects: Vec<(usize, Reject)>,
    /// How many events there are.
    pub(crate) accepted: usize,
}

impl Inlet {
    pub(crate) fn new(source: String, stream: Arc<StreamDeclaration>, batcher: Batcher) -> Self {
        Self {
            source,
            stream,
            batcher,
            turn: AtomicU32::new(0),
        }
    }

    pub(crate) fn stream(&self) -> &Arc<StreamDeclaration> {
        &self.stream
    }

    /// The source's name.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Decodes events, each a JSON object.
    pub(crate) fn decode<'a>(&self, texts: impl IntoIterator<Item = &'a [u8]>) -> Portion {
        let mut decoder = EventDecoder::new(&self.stream);
        let mut portion = Portion::default();
        for (number, text) in texts.into_iter().enumerate() {
            if decoder.is_full() {
                portion.rows.extend(decoder.take());
            }
            match decoder.push(text) {
                Ok(()) => portion.accepted += 1,
                Err(mut reject) => {
                    reject.line = number as u64 + 1;
                    portion.rejects.push((number, reject));
                }
            }
        }
        portion.rows.extend(decoder.take());
        portion
    }

    /// Makes events, and what is none, durable.
    pub(crate) async fn append(&self, portion: Portion) -> Result<(), SourceError> {
        let span = Span {
            rows: 0,
            trace_id: TraceId::random(),
            received_at: microseconds_now(),
            idempotency_key: None,
            producer: None,
        };
        let turn = Partition(self.turn.fetch_add(1, Ordering::Relaxed));
        let journal = self.batcher.journal();
        let partitions = journal.partitions(&self.stream.name);
        let mut group = Vec::new();
        for rows in portion.rows {
            let batch = Batch {
                stream: self.stream.name.clone(),
                partition: Partition(0),
                version: self.stream.version,
                spans: vec![Span {
                    // A record has at most `RECORD_ROWS_MAX` rows.
                    rows: rows.num_rows() as u32,
                    ..span.clone()
                }],
                rows,
            };
            group.extend(partition::split(batch, &self.stream, partitions, turn)?);
        }
        let rejects: Vec<_> = portion.rejects.into_iter().map(|(_, reject)| reject).collect();
        if !rejects.is_empty() {
            let mut rows = reject_rows::batch(&self.stream.name, &rejects, &span)?;
            rows.partition = Partition(turn.0 % journal.partitions(&rows.stream).max(1));
            group.push(rows);
        }
        if !group.is_empty() {
            self.batcher.append(group).await?;
        }
        Ok(())
    }

    /// Keeps what is no event of the stream, and no row either.
    pub(crate) async fn keep(&self, rejects: Vec<Reject>) -> Result<(), SourceError> {
        let rejects = rejects.into_iter().enumerate().collect();
        self.append(Portion {
            rejects,
            ..Portion::default()
        })
        .await
    }
}

fn microseconds_now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
    })
}
