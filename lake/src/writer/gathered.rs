//! Batches that wait for each other before they are encoded.
//!
//! A record of the journal may have a single event. For each batch an encoder looks at every column, and its statistics
//! are compared; of a thousand rows together each takes a hundredth of that. Where several threads encode, each of them
//! does one column of many rows: a thread that has to wait some milliseconds for a processor would come too late for few.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use event::batch::bytes_of_rows;

/// So many rows are a batch of their own.
const ROWS: usize = 1_024;
/// The same of bytes, in memory.
const BYTES: usize = 1 << 20;
/// So many rows are enough for several threads.
const ROWS_FOR_THREADS: usize = 1 << 17;
/// The same of bytes, in memory.
const BYTES_FOR_THREADS: usize = 8 << 20;

/// Batches that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// With enough rows each.
    batches: Vec<RecordBatch>,
    /// Those after them, of one schema, which become one batch.
    few: Vec<RecordBatch>,
    few_rows: usize,
    few_bytes: usize,
    rows: usize,
    bytes: usize,
}

impl Gathered {
    /// Lets rows wait.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let (count, bytes) = (rows.num_rows(), bytes_of_rows(rows));
        if count == 0 {
            return Ok(());
        }
        self.rows += count;
        self.bytes += bytes;
        let is_few = count < ROWS && bytes < BYTES;
        let same = |first: &RecordBatch| first.schema_ref() == rows.schema_ref();
        if !is_few || !self.few.first().is_none_or(same) {
            self.put_together()?;
        }
        if !is_few {
            self.batches.push(rows.clone());
            return Ok(());
        }
        self.few.push(rows.clone());
        self.few_rows += count;
        self.few_bytes += bytes;
        if self.few_rows >= ROWS || self.few_bytes >= BYTES {
            self.put_together()?;
        }
        Ok(())
    }

    fn put_together(&mut self) -> Result<(), ArrowError> {
        let few = std::mem::take(&mut self.few);
        (self.few_rows, self.few_bytes) = (0, 0);
        if let Some(first) = few.first() {
            self.batches.push(concat_batches(first.schema_ref(), &few)?);
        }
        Ok(())
    }

    /// Whether there are enough of them for one thread.
    pub(super) fn are_enough(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Whether there are enough of them for several threads.
    pub(super) fn are_enough_for_threads(&self) -> bool {
        self.rows >= ROWS_FOR_THREADS || self.bytes >= BYTES_FOR_THREADS
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that wait.
    pub(super) fn take(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        self.put_together()?;
        Ok(std::mem::take(self).batches)
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
        gathered.push(&numbers(0..0)).expect("alike");
        assert_eq!(gathered.take().expect("nothing to fail"), []);
        for row in 0..ROWS as i64 {
            assert!(!gathered.are_enough());
            gathered.push(&numbers(row..row + 1)).expect("alike");
        }
        assert!(gathered.are_enough() && !gathered.are_enough_for_threads());
        assert!(gathered.bytes() >= ROWS * size_of::<i64>());
        assert_eq!(gathered.take().expect("alike"), [numbers(0..ROWS as i64)]);
        assert_eq!((gathered.bytes(), gathered.are_enough()), (0, false));
    }

    #[test]
    fn many_rows_large_ones_and_those_of_another_schema_are_not_put_together_with_the_others() {
        let mut gathered = Gathered::default();
        let many = numbers(5..5 + ROWS as i64);
        let after = numbers(0..1);
        let all = [
            &numbers(0..3),
            &numbers(3..5),
            &many,
            &after,
            &text(1),
            &text(BYTES),
            &after,
        ];
        for rows in all {
            gathered.push(rows).expect("alike");
        }
        let taken = gathered.take().expect("alike");
        assert_eq!(
            taken,
            [numbers(0..5), many, after.clone(), text(1), text(BYTES), after]
        );
    }

    #[test]
    fn for_several_threads_more_rows_wait() {
        let mut gathered = Gathered::default();
        let rows = numbers(0..ROWS as i64);
        let mut pushed = 0;
        while !gathered.are_enough_for_threads() {
            gathered.push(&rows).expect("alike");
            pushed += ROWS;
        }
        assert_eq!(pushed, ROWS_FOR_THREADS);
        gathered.take().expect("alike");
        gathered.push(&text(BYTES_FOR_THREADS)).expect("alike");
        assert!(gathered.are_enough_for_threads());
    }

    #[test]
    fn a_slice_counts_what_it_has_and_not_what_it_is_a_slice_of() {
        let mut gathered = Gathered::default();
        let slice = numbers(0..100_000).slice(50_000, 1);
        gathered.push(&slice).expect("alike");
        assert!(gathered.bytes() < 100, "{} bytes", gathered.bytes());
    }
}
