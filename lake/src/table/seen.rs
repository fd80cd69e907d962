//! Which ids of a stream with `unique` are known at a position that a version has reached: read from the table itself,
//! so that whoever starts there decides as whoever wrote it (U-1 of [`event::unique`]).
//!
//! Files are read from the newest one back, four columns of them, until all older rows are forgotten: what it costs
//! follows the window and not the table. The bounds in the commits say of an older file that nothing in it came later.
//! Rows that another journal brought are not looked at: partitions and offsets mean something else there, and the
//! window begins anew where a lake was adopted. What retention has removed is not known any more either.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use event::schema::{OFFSET, PARTITION, RECEIVED_AT};
use event::unique::{Id, Ids, LookBack, Seen};
use event::{Offset, Position};

use super::{Inner, Table, run};
use crate::error::LakeError;
use crate::snapshot::{DataFile, Snapshot};

/// Rows that are read at once.
const BATCH_ROWS: usize = 8_192;

/// What is needed of a row: its id and when it came.
type Row = (Id, i64);

impl Table {
    /// The ids that are known at a position, which the version has reached; `None` when the stream's ids may repeat.
    /// `snapshot` is one of this table's.
    ///
    /// # Errors
    /// [`LakeError::Store`] when a file cannot be read, as when vacuum has deleted it since.
    pub async fn seen(&self, snapshot: &Arc<Snapshot>, at: Position) -> Result<Option<Seen>, LakeError> {
        let Some(look) = LookBack::new(self.declaration()) else {
            return Ok(None);
        };
        let (inner, snapshot) = (Arc::clone(&self.inner), Arc::clone(snapshot));
        run(move || {
            // Adoption is a command of its own, so it never happens between two versions of a running process.
            let adopted = inner
                .known()
                .and_then(|known| known.metadata.adopted.last().copied());
            let reading = Reading {
                inner: &inner,
                at,
                first_index: adopted.unwrap_or(0),
                look,
                oldest: Offset(u64::MAX),
            };
            reading.run(&snapshot)
        })
        .await
    }
}

struct Reading<'a> {
    inner: &'a Inner,
    /// Rows of this partition below this offset.
    at: Position,
    /// The index of the first event that today's journal brought.
    first_index: u64,
    look: LookBack,
    /// The offset of the oldest row of the partition so far.
    oldest: Offset,
}

impl Reading<'_> {
    fn run(mut self, snapshot: &Snapshot) -> Result<Option<Seen>, LakeError> {
        let mut seen = Seen::new(&self.inner.stream);
        if self.at.offset.min(snapshot.position(self.at.partition).offset) == Offset(0) {
            return Ok(seen);
        }
        let latest = latest(&snapshot.files);
        // The newest file first.
        let mut parts: Vec<Vec<Row>> = Vec::new();
        for (number, file) in snapshot.files.iter().enumerate().rev() {
            let older = file.first_index + file.rows <= self.first_index;
            if older || self.oldest == Offset(0) || self.look.is_enough(latest[number]) {
                break;
            }
            let rows = self.read(file)?;
            rows.iter().rev().for_each(|(_, at)| self.look.push(*at));
            parts.push(rows);
        }
        if let Some(seen) = &mut seen {
            for (id, at) in parts.into_iter().rev().flatten() {
                seen.keep(id, at);
            }
        }
        Ok(seen)
    }

    /// The partition's rows of a file, in their order.
    fn read(&mut self, file: &DataFile) -> Result<Vec<Row>, LakeError> {
        let field = self.inner.stream.unique.as_ref().map(|unique| &unique.field);
        let field = field.ok_or_else(|| self.failed(&"the stream has no unique field"))?;
        let columns = [field.as_str(), RECEIVED_AT, PARTITION, OFFSET];
        let opened = self
            .inner
            .storage
            .open(&file.path, file.bytes, BATCH_ROWS, Some(&columns));
        let opened = opened.map_err(|message| self.failed(&message))?;
        let (mut rows, mut index) = (Vec::new(), file.first_index);
        for batch in opened.reader {
            let batch = batch.map_err(|message| self.failed(&message))?;
            self.add(&batch, field, index, &mut rows)?;
            index += batch.num_rows() as u64;
        }
        Ok(rows)
    }

    /// Adds the partition's rows of a batch whose first one has that index.
    fn add(
        &mut self,
        batch: &RecordBatch,
        field: &str,
        index: u64,
        rows: &mut Vec<Row>,
    ) -> Result<(), LakeError> {
        let missing = || self.failed(&"a column that says when and where a row came is not there");
        let column = |name: &str| batch.column_by_name(name).ok_or_else(missing);
        let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>();
        let partitions = partitions.ok_or_else(missing)?;
        let offsets = column(OFFSET)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(missing)?;
        let times = column(RECEIVED_AT)?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(missing)?;
        let values = column(field)?;
        let ids = Ids::of(values, &self.inner.stream).map_err(|error| self.failed(&error))?;
        if values.null_count() + times.null_count() > 0 {
            return Err(self.failed(&"a row has no id or no time of arrival"));
        }
        let mut oldest = self.oldest;
        for row in 0..batch.num_rows() {
            let ours = partitions.value(row).cast_unsigned() == self.at.partition.0
                && index + row as u64 >= self.first_index;
            let offset = Offset(offsets.value(row).cast_unsigned());
            if ours && offset < self.at.offset {
                oldest = oldest.min(offset);
                rows.push((ids.get(row), times.value(row)));
            }
        }
        self.oldest = oldest;
        Ok(())
    }

    fn failed(&self, message: &dyn std::fmt::Display) -> LakeError {
        self.inner.failed("read ids of", message)
    }
}

/// For each file the latest arrival in it and in all before it; `None` when that is not known.
fn latest(files: &[DataFile]) -> Vec<Option<i64>> {
    let mut latest = Some(i64::MIN);
    let of = |file: &DataFile| {
        latest = latest
            .zip(file.received_max)
            .map(|(earlier, own)| earlier.max(own));
        latest
    };
    files.iter().map(of).collect()
}
