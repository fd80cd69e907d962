//! From the lake into the rows of transactions, for records that the journal does not have any more (I-5).
//!
//! The lake has every record below its own position, and the journal every one from there on; so a destination that
//! was away for longer than the journal keeps records reads the lake up to its position, and then the journal. What
//! is committed on the way ends where a record ends, as from the journal.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use event::schema::OFFSET;
use event::{Offset, Position};
use lake::{PartitionRows, Table};
use tokio::sync::mpsc;

use super::rows::Rows;
use crate::SinkError;

/// Bounds of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows.
    pub(super) rows: usize,
    /// Bytes of columns.
    pub(super) bytes: usize,
}

/// Rows of one partition from the lake, cut into transactions.
pub(super) struct Refill {
    /// What comes of it, in order; ends after the last or after an error.
    pub(super) rows: mpsc::Receiver<Result<Rows, SinkError>>,
    /// Where the lake ends: where the journal goes on.
    pub(super) end: Offset,
}

impl Refill {
    /// Begins to read on a thread for such work, which ends when nobody takes its rows any more. `None` when the
    /// lake ends where reading is to begin, or before.
    pub(super) async fn begin(
        table: &Table,
        from: Position,
        bounds: Bounds,
    ) -> Result<Option<Self>, SinkError> {
        let source = table.partition_rows(from).await?;
        let end = source.end();
        if end <= from.offset {
            return Ok(None);
        }
        let (out, rows) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            let mut cutter = Cutter {
                open: Rows::new(from.partition, from.offset),
                record: Vec::new(),
                offset: from.offset,
                bounds,
                out,
            };
            if let Err(error) = cutter.run(source) {
                // Whoever asked may be gone.
                let _ = cutter.out.blocking_send(Err(error));
            }
        });
        Ok(Some(Self { rows, end }))
    }
}

/// Cuts rows into transactions of whole records.
struct Cutter {
    open: Rows,
    /// Rows of the record that was read last: more of them may come.
    record: Vec<RecordBatch>,
    /// Its offset.
    offset: Offset,
    bounds: Bounds,
    out: mpsc::Sender<Result<Rows, SinkError>>,
}

impl Cutter {
    fn run(&mut self, mut source: PartitionRows) -> Result<(), SinkError> {
        let end = source.end();
        let mut first = true;
        while let Some(batch) = source.next_rows()? {
            for (offset, part) in records(&batch) {
                if std::mem::take(&mut first) && source.expired() && offset > self.offset {
                    warn_expired(self.offset, offset);
                }
                if offset != self.offset && !self.close_record(offset) {
                    return Ok(());
                }
                self.record.push(part);
            }
        }
        self.close_record(end);
        self.send();
        Ok(())
    }

    /// The record that was read last is whole, and so is whatever lies before `next`. Whether anybody wants more.
    fn close_record(&mut self, next: Offset) -> bool {
        for part in self.record.drain(..) {
            self.open.push(part, self.offset.next());
        }
        // Offsets between two records have no rows.
        self.open.skip(next);
        self.offset = next;
        if self.open.len() >= self.bounds.rows || self.open.bytes() >= self.bounds.bytes {
            return self.send();
        }
        true
    }

    fn send(&mut self) -> bool {
        let next = Rows::new(self.open.partition(), self.open.to());
        let full = std::mem::replace(&mut self.open, next);
        full.to() == full.from() || self.out.blocking_send(Ok(full)).is_ok()
    }
}

/// The parts of a batch that are one record's each.
fn records(batch: &RecordBatch) -> Vec<(Offset, RecordBatch)> {
    let offsets = batch
        .column_by_name(OFFSET)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let Some(offsets) = offsets else {
        return Vec::new();
    };
    let mut begin = 0;
    let mut parts = Vec::new();
    for run in offsets.values().chunk_by(|one, next| one == next) {
        parts.push((Offset(run[0].cast_unsigned()), batch.slice(begin, run.len())));
        begin += run.len();
    }
    parts
}

/// Retention says that nobody needs events so old any more; that some never came here is still worth a word.
fn warn_expired(from: Offset, found: Offset) {
    metrics::counter!("tidemill_destination_expired_records_total").increment(found.0 - from.0);
    tracing::warn!(%from, %found, "the lake's retention has removed records that a destination never had");
}
