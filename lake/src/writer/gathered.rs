//! Small batches, put together before they are encoded.
//!
//! A record of the journal may have a single event. For each batch an encoder looks at every column, and its statistics
//! are compared; of a thousand rows together each takes a hundredth of that.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;

/// So many rows are encoded as they come.
const ROWS: usize = 1_024;
/// The same of bytes, in memory.
const BYTES: usize = 1 << 20;

/// Batches of one schema that wait for others.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Gathered {
    /// Whether rows may wait together with these.
    pub(super) fn fits(&self, rows: &RecordBatch) -> bool {
        let same = |first: &RecordBatch| first.schema_ref() == rows.schema_ref();
        rows.num_rows() < ROWS
            && rows.get_array_memory_size() < BYTES
            && self.batches.first().is_none_or(same)
    }

    /// Lets rows wait.
    pub(super) fn push(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows.clone());
    }

    /// Whether there are enough of them.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that wait, as one batch; none when there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Self { batches, .. } = std::mem::take(self);
        batches
            .first()
            .map(|first| concat_batches(first.schema_ref(), &batches))
            .transpose()
    }
}
