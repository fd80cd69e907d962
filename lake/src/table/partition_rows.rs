//! The rows of one partition from an offset on, for a destination that has fallen further behind than the journal
//! keeps records (I-5).
//!
//! Files are in index order, and the offsets of a partition rise with the index since the journal was last
//! exchanged. So the search for the first file goes backwards and reads two narrow columns of each file that it
//! passes, which costs as much as the destination is behind and not as much as the table holds.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::schema::{OFFSET, PARTITION};
use event::{Offset, Partition, Position};

use super::{Inner, Table, run};
use crate::error::LakeError;
use crate::snapshot::{DataFile, Snapshot};
use crate::storage::Rows;

/// Rows that are read at once.
const BATCH_ROWS: usize = 8_192;

/// Rows of one partition as one version of the table has them, in the order of the journal. Its methods block: it is
/// for a thread for such work.
pub struct PartitionRows {
    inner: Arc<Inner>,
    snapshot: Arc<Snapshot>,
    partition: Partition,
    from: Offset,
    /// The index of the first event that today's journal brought.
    first_index: u64,
    /// The file that is opened next.
    next_file: usize,
    /// Whether the search has come to rows before the first one that is asked for.
    complete: bool,
    open: Option<OpenedFile>,
    /// Parts of the batch that was read last, the next one at the end.
    parts: Vec<RecordBatch>,
}

struct OpenedFile {
    rows: Rows,
    /// The index of the next row.
    index: u64,
}

impl Table {
    /// Begins to read the rows of a partition whose offset is at least `from.offset`, of the newest version.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log or a file cannot be read.
    pub async fn partition_rows(&self, from: Position) -> Result<PartitionRows, LakeError> {
        let inner = Arc::clone(&self.inner);
        run(move || {
            let current = inner.refresh()?;
            let (snapshot, adopted) = match current {
                Some(current) => (current.ours, current.metadata.adopted.last().copied()),
                None => (inner.empty(), None),
            };
            let mut rows = PartitionRows {
                inner,
                snapshot,
                partition: from.partition,
                from: from.offset,
                first_index: adopted.unwrap_or(0),
                next_file: 0,
                complete: false,
                open: None,
                parts: Vec::new(),
            };
            let first = rows.find_first_file()?;
            (rows.next_file, rows.complete) = (first.unwrap_or(0), first.is_some());
            Ok(rows)
        })
        .await
    }
}

impl PartitionRows {
    /// The offset at which this version ends: every record below is in the table.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.snapshot.position(self.partition).offset
    }

    /// Whether retention has removed rows of this table, and the oldest ones that are asked for may be among them.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.snapshot.removed > 0 && !self.complete
    }

    /// The next rows, in today's schema; `None` after the last.
    ///
    /// # Errors
    /// [`LakeError::Store`] when a file cannot be read, as when vacuum has deleted it meanwhile.
    pub fn next_rows(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            if let Some(part) = self.parts.pop() {
                return Ok(Some(part));
            }
            let Some(file) = &mut self.open else {
                let Some(next) = self.snapshot.files.get(self.next_file) else {
                    return Ok(None);
                };
                self.open = Some(self.open_file(next)?);
                self.next_file += 1;
                continue;
            };
            match file.rows.next() {
                None => self.open = None,
                Some(rows) => {
                    let rows = rows.map_err(|message| self.inner.failed("read a file of", &message))?;
                    let first = file.index;
                    file.index += rows.num_rows() as u64;
                    self.parts = self.matching(&rows, first)?;
                    self.parts.reverse();
                }
            }
        }
    }

    fn open_file(&self, file: &DataFile) -> Result<OpenedFile, LakeError> {
        let names: Vec<_> = self
            .inner
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        Ok(OpenedFile {
            rows: self.read(file, &names)?,
            index: file.first_index,
        })
    }

    fn read(&self, file: &DataFile, columns: &[&str]) -> Result<Rows, LakeError> {
        let opened = self
            .inner
            .storage
            .open(&file.path, file.bytes, BATCH_ROWS, Some(columns));
        let opened = opened.map_err(|message| self.inner.failed("open a file of", &message))?;
        Ok(opened.reader)
    }

    /// The runs of rows that are this partition's and not older, as parts of a batch whose first row has index
    /// `first`. Files that were not merged are one run.
    fn matching(&self, rows: &RecordBatch, first: u64) -> Result<Vec<RecordBatch>, LakeError> {
        let conformed = event::schema::conform(rows, &self.inner.schema);
        let rows = conformed.map_err(|error| self.inner.failed("read a file of", &error))?;
        let (partitions, offsets) = self.places(&rows)?;
        let matches: Vec<bool> = (0..rows.num_rows())
            .map(|row| {
                let index = first + row as u64;
                partitions[row] == self.partition.0
                    && offsets[row] >= self.from.0
                    && index >= self.first_index
            })
            .collect();
        let mut parts = Vec::new();
        let mut begin = 0;
        for run in matches.chunk_by(|one, next| one == next) {
            if run[0] {
                parts.push(rows.slice(begin, run.len()));
            }
            begin += run.len();
        }
        Ok(parts)
    }

    /// Partition and offset of each row.
    fn places(&self, rows: &RecordBatch) -> Result<(Vec<u32>, Vec<u64>), LakeError> {
        let missing = || {
            self.inner
                .failed("read a file of", &"a column of the position is not there")
        };
        let partitions = rows
            .column_by_name(PARTITION)
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .ok_or_else(missing)?;
        let offsets = rows
            .column_by_name(OFFSET)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .ok_or_else(missing)?;
        // Neither is ever negative: they were unsigned before they came here.
        Ok((
            partitions
                .values()
                .iter()
                .map(|value| value.cast_unsigned())
                .collect(),
            offsets
                .values()
                .iter()
                .map(|value| value.cast_unsigned())
                .collect(),
        ))
    }

    /// The newest file of which an earlier one cannot have rows that are asked for; `None` when the oldest one may
    /// have had an earlier one.
    fn find_first_file(&self) -> Result<Option<usize>, LakeError> {
        for number in (0..self.snapshot.files.len()).rev() {
            let file = &self.snapshot.files[number];
            if file.first_index + file.rows <= self.first_index {
                return Ok(Some(number));
            }
            let mut oldest = None;
            for rows in self.read(file, &[PARTITION, OFFSET])? {
                let rows = rows.map_err(|message| self.inner.failed("read a file of", &message))?;
                let (partitions, offsets) = self.places(&rows)?;
                let ours = partitions
                    .iter()
                    .zip(&offsets)
                    .filter(|(found, _)| **found == self.partition.0);
                oldest = ours.map(|(_, offset)| *offset).chain(oldest).min();
            }
            if oldest.is_some_and(|oldest| oldest <= self.from.0) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for PartitionRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionRows")
            .field("partition", &self.partition)
            .field("from", &self.from)
            .field("next_file", &self.next_file)
            .finish_non_exhaustive()
    }
}
