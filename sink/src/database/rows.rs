//! Rows that go into one transaction: record batches in the schema of [`event::schema::lake`], of whole records of
//! one partition, and which records they are.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use event::{Offset, Partition};

/// Rows of the records [`from`](Self::from) to [`to`](Self::to) of one partition, numbered from 0.
#[derive(Clone, Debug)]
pub struct Rows {
    partition: Partition,
    from: Offset,
    to: Offset,
    batches: Vec<RecordBatch>,
    /// For each batch the number of its first row.
    starts: Vec<usize>,
    rows: usize,
    bytes: usize,
}

/// A part of one batch.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// The batch.
    pub batch: &'a RecordBatch,
    /// Rows of the batch.
    pub range: Range<usize>,
    /// The number in the [`Rows`] of the first row of the range.
    pub first: usize,
}

impl Rows {
    /// No rows yet, of a partition whose next record is `from`.
    #[must_use]
    pub fn new(partition: Partition, from: Offset) -> Self {
        Self {
            partition,
            from,
            to: from,
            batches: Vec::new(),
            starts: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds the rows of the next records; `to` is the offset after the last of them.
    pub fn push(&mut self, batch: RecordBatch, to: Offset) {
        self.to = to;
        if batch.num_rows() == 0 {
            return;
        }
        self.starts.push(self.rows);
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Goes past records of which nothing is to be written; `to` is the offset after the last of them.
    pub fn skip(&mut self, to: Offset) {
        self.to = to;
    }

    /// The same records without some rows, whose numbers rise.
    ///
    /// # Errors
    /// Never for rows of the lake's schema.
    pub fn without(&self, numbers: &[usize]) -> Result<Self, ArrowError> {
        let mut left = Self::new(self.partition, self.from);
        let mut rest = numbers;
        for (batch, start) in self.batches.iter().zip(&self.starts) {
            let end = start + batch.num_rows();
            let here = rest.partition_point(|number| *number < end);
            let (gone, later) = rest.split_at(here);
            rest = later;
            if gone.is_empty() {
                left.push(batch.clone(), self.to);
                continue;
            }
            let mut kept = vec![true; batch.num_rows()];
            gone.iter().for_each(|number| kept[number - start] = false);
            left.push(filter_record_batch(batch, &BooleanArray::from(kept))?, self.to);
        }
        left.skip(self.to);
        Ok(left)
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The offset of the first record.
    #[must_use]
    pub fn from(&self) -> Offset {
        self.from
    }

    /// The offset after the last record.
    #[must_use]
    pub fn to(&self) -> Offset {
        self.to
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row. There may be records all the same, of which nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The parts of batches that a range of rows lies in, in order.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = Slice<'_>> {
        let first = self.starts.partition_point(|start| *start <= range.start);
        let batches = self
            .batches
            .iter()
            .zip(&self.starts)
            .skip(first.saturating_sub(1));
        batches
            .take_while({
                let end = range.end;
                move |(_, start)| **start < end
            })
            .map(move |(batch, start)| {
                let from = range.start.saturating_sub(*start);
                let to = (range.end - start).min(batch.num_rows());
                Slice {
                    batch,
                    range: from..to.max(from),
                    first: start + from,
                }
            })
    }

    /// The batch of a row, and its number there.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> (&RecordBatch, usize) {
        let index = self.starts.partition_point(|start| *start <= row) - 1;
        (&self.batches[index], row - self.starts[index])
    }

    /// The offset of a row's record, and the row's number in the record.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn place(&self, row: usize) -> (Offset, u32) {
        let (batch, row) = self.row(row);
        // The system columns are the last ones of the schema: …, `_partition`, `_offset`, `_row`.
        let columns = batch.columns();
        let offset = columns[columns.len() - 2].as_primitive::<Int64Type>().value(row);
        let number = columns[columns.len() - 1].as_primitive::<Int32Type>().value(row);
        (
            Offset(offset.try_into().unwrap_or_default()),
            number.try_into().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, Int64Array};

    use super::*;

    fn batch(offset: i64, rows: i32) -> RecordBatch {
        let offsets: ArrayRef = Arc::new(Int64Array::from_value(offset, rows as usize));
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("_offset", offsets), ("_row", numbers)]).expect("two columns")
    }

    fn check_without(rows: &Rows, all: &[(u64, u32)], gone: Range<usize>) {
        let left = rows.without(&gone.clone().collect::<Vec<_>>()).expect("filters");
        let places: Vec<_> = (0..left.len()).map(|row| left.place(row)).collect();
        let places: Vec<_> = places.into_iter().map(|(offset, row)| (offset.0, row)).collect();
        assert_eq!(places, [&all[..gone.start], &all[gone.end..]].concat());
        assert_eq!((left.from(), left.to()), (rows.from(), rows.to()));
    }

    #[test]
    fn every_range_is_cut_into_the_right_parts() {
        let mut rows = Rows::new(Partition(0), Offset(3));
        for (offset, count) in [(3, 2), (4, 0), (5, 4), (6, 1)] {
            rows.push(batch(offset, count), Offset(offset as u64 + 1));
        }
        assert_eq!((rows.from(), rows.to(), rows.len()), (Offset(3), Offset(7), 7));
        let all = [(3, 0), (3, 1), (5, 0), (5, 1), (5, 2), (5, 3), (6, 0)];
        for start in 0..=7 {
            for end in start..=7 {
                let mut found = Vec::new();
                check_without(&rows, &all, start..end);
                for slice in rows.slices(start..end) {
                    for (index, row) in slice.range.clone().enumerate() {
                        assert_eq!(rows.row(slice.first + index).1, row);
                        let (offset, number) = rows.place(slice.first + index);
                        found.push((offset.0, number));
                    }
                }
                assert_eq!(found, all[start..end], "{start}..{end}");
            }
        }
    }
}
