//! Rows of one partition as the lake has them, cut between records and never within one.
//!
//! Whoever goes on somewhere else behind such a cut, in the journal or in another turn, needs the offset alone.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use event::{Offset, schema};
use lake::PartitionRows;

use crate::QueryError;
use crate::parameters::column;
use event::batch::bytes_of_rows;

/// Rows, and bytes of them, that are given at once: with whatever else has been read by then, and what else the last
/// one's record has.
const ROWS: usize = 8_192;
const BYTES: usize = 1 << 20;

/// Reads them in order. Its methods block.
pub(crate) struct WholeRecords {
    source: PartitionRows,
    /// Read and not given yet.
    rows: Vec<RecordBatch>,
    count: usize,
    bytes: usize,
    done: bool,
}

/// Rows of whole records.
pub(crate) struct Records {
    pub(crate) rows: Vec<RecordBatch>,
    /// The offset after the last record: everything below was given.
    pub(crate) to: Offset,
}

impl WholeRecords {
    pub(crate) fn new(source: PartitionRows) -> Self {
        Self {
            source,
            rows: Vec::new(),
            count: 0,
            bytes: 0,
            done: false,
        }
    }

    /// The next records; the last ones, which may have no rows, reach to where the version ends.
    pub(crate) fn next(&mut self) -> Result<Option<Records>, QueryError> {
        if self.done {
            return Ok(None);
        }
        while let Some(batch) = self.source.next_rows()? {
            // Of the record that is read last there may be more.
            if (self.count >= ROWS || self.bytes >= BYTES)
                && let Some((at, offset)) = last_record(&batch)?
                && (at > 0 || !self.continues(offset)?)
            {
                if at > 0 {
                    self.rows.push(batch.slice(0, at));
                }
                let rows = std::mem::take(&mut self.rows);
                (self.count, self.bytes) = (0, 0);
                self.push(batch.slice(at, batch.num_rows() - at));
                let to = Offset(offset);
                return Ok(Some(Records { rows, to }));
            }
            self.push(batch);
        }
        self.done = true;
        let rows = std::mem::take(&mut self.rows);
        let to = self.source.end();
        Ok(Some(Records { rows, to }))
    }

    fn push(&mut self, batch: RecordBatch) {
        self.count += batch.num_rows();
        self.bytes += bytes_of_rows(&batch);
        self.rows.push(batch);
    }

    /// Whether the rows so far end within the record at that offset.
    fn continues(&self, offset: u64) -> Result<bool, QueryError> {
        let Some(last) = self.rows.last() else {
            return Ok(false);
        };
        let offsets = offsets(last)?;
        Ok(offsets.last().is_some_and(|last| last.cast_unsigned() == offset))
    }
}

/// Where in a batch the last record begins, and its offset.
fn last_record(batch: &RecordBatch) -> Result<Option<(usize, u64)>, QueryError> {
    let offsets = offsets(batch)?;
    let Some(last) = offsets.last() else {
        return Ok(None);
    };
    let begin = offsets.partition_point(|offset| offset < last);
    Ok(Some((begin, last.cast_unsigned())))
}

/// The offset of each row.
pub(crate) fn offsets(batch: &RecordBatch) -> Result<&[i64], QueryError> {
    let offsets = column(batch, schema::OFFSET)?.as_primitive_opt::<Int64Type>();
    let offsets = offsets.filter(|offsets| offsets.null_count() == 0);
    let offsets = offsets.ok_or_else(|| QueryError::Storage("a row has no offset".to_owned()))?;
    Ok(offsets.values())
}
