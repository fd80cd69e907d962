//! Small batches, put together before they are encoded.
//!
//! A record of the journal may have a single event. For each batch an encoder looks at every column, and its statistics
//! are compared; of a thousand rows together each takes a hundredth of that.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use event::batch::bytes_of_rows;

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
        rows.num_rows() < ROWS && bytes_of_rows(rows) < BYTES && self.batches.first().is_none_or(same)
    }

    /// Lets rows wait.
    pub(super) fn push(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        self.bytes += bytes_of_rows(rows);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("number", column)]).expect("one column")
    }

    fn text(bytes: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(bytes)]));
        RecordBatch::try_from_iter([("text", column)]).expect("one column")
    }

    #[test]
    fn few_rows_wait_until_there_are_enough_of_them_and_come_in_their_order() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.take().expect("nothing to fail"), None);
        for row in 0..ROWS as i64 {
            assert!(!gathered.is_full());
            let one = numbers(row..row + 1);
            assert!(gathered.fits(&one));
            gathered.push(&one);
        }
        assert!(gathered.is_full());
        assert!(gathered.bytes() >= ROWS * size_of::<i64>());
        let all = gathered.take().expect("alike");
        assert_eq!(all, Some(numbers(0..ROWS as i64)));
        assert_eq!((gathered.bytes(), gathered.is_full()), (0, false));
    }

    #[test]
    fn many_rows_large_ones_and_those_of_another_schema_do_not_wait_with_the_others() {
        let mut gathered = Gathered::default();
        assert!(!gathered.fits(&numbers(0..ROWS as i64)));
        assert!(!gathered.fits(&text(BYTES)));
        gathered.push(&numbers(0..3));
        assert!(gathered.fits(&numbers(3..5)) && !gathered.fits(&text(1)));
    }

    #[test]
    fn a_slice_counts_what_it_has_and_not_what_it_is_a_slice_of() {
        let mut gathered = Gathered::default();
        gathered.push(&numbers(0..100_000).slice(50_000, 1));
        assert!(gathered.bytes() < 100, "{} bytes", gathered.bytes());
    }
}
