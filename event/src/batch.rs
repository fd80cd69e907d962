//! A batch: accepted rows of one stream that travel together, with the spans that say which request each
//! row came in.

use arrow_array::{Array, ArrayRef, RecordBatch};

use crate::{Partition, StreamName, TraceId};

/// The rows of a batch that came in one request. Spans cover a batch's rows in order, without gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// How many rows.
    pub rows: u32,
    /// The request's trace id; becomes `_trace_id` of each row.
    pub trace_id: TraceId,
    /// When the request's head had arrived, microseconds since 1970 UTC; becomes `_received_at` of each row.
    pub received_at: i64,
    /// The request's `Idempotency-Key`, kept from the first format on; not used yet.
    pub idempotency_key: Option<String>,
    /// The producer's id and sequence number, kept from the first format on; not used yet.
    pub producer: Option<(u64, u64)>,
}

/// Accepted rows of one stream.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The stream.
    pub stream: StreamName,
    /// The partition of the stream that it goes to or came from. All rows with the same key go to the same one.
    pub partition: Partition,
    /// The version of the declaration that the rows were decoded with, from 1.
    pub version: u32,
    /// Which rows came in which request; their `rows` add up to `rows.num_rows()`.
    pub spans: Vec<Span>,
    /// The columns, in the schema of [`crate::schema::wire`] for that version.
    pub rows: RecordBatch,
}

impl Batch {
    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// How many events the spans cover; the same as [`Batch::len`] unless the batch contradicts itself.
    #[must_use]
    pub fn spanned(&self) -> u64 {
        spanned(&self.spans)
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the columns take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
    }
}

/// How many events some spans cover.
pub(crate) fn spanned(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.rows)).sum()
}

/// Bytes of memory that rows take; columns of one record share one allocation, which is counted once.
#[must_use]
pub fn bytes_of_rows(rows: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| {
        let shared = column.to_data().get_slice_memory_size();
        shared.unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(bytes).sum()
}
