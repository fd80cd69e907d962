//! What is kept of a stream whose ids are unique, for those who read it in the order of the journal and for ever: live
//! clients and rollups.
//!
//! ```text
//! ── in the lake, kept rows only ──┬── in the journal only: decided record by record ──► end
//!                          its position
//! ```
//!
//! Below the position of the lake's newest version they take the lake's rows, which are the kept ones; from there on
//! those of the journal, by the decisions that questions follow too ([`crate::tail_kept`]). Whether a row is kept hangs
//! on the rows before it alone, so it is the same whoever asks when: a client that comes back, and a rollup's window
//! that another process computes, see the rows that SQL sees.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use event::{Offset, Partition, StreamDeclaration, StreamName};
use journal::Record;

use crate::QueryError;
use crate::analytics::{Analytics, Shared};
use crate::pin::TailRange;
use crate::sql::again;
use crate::tail::Tail;
use crate::tail_kept::Hold;

/// Decides what is kept; one for the process, as its questions decide it. Cheap to clone.
#[derive(Clone)]
pub struct Kept(Arc<Shared>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Analytics {
    /// What decides which events are kept, for others who read streams in this process.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept(Arc::clone(&self.shared))
    }
}

impl Kept {
    /// How far the lake's newest version has a partition: what lies below is read there.
    pub(crate) async fn stored(
        &self,
        stream: &Arc<StreamDeclaration>,
        partition: Partition,
    ) -> Result<Offset, QueryError> {
        let snapshot = self.0.pinner.tables.snapshot(stream).await?;
        Ok(snapshot.position(partition).offset)
    }

    /// Decides records of one partition that follow one another. `None` when the first of them is in the lake, where
    /// it must be read then.
    ///
    /// # Cancellation
    /// It is decided all the same.
    pub(crate) async fn decide(
        &self,
        stream: &Arc<StreamDeclaration>,
        records: &[Record],
    ) -> Result<Option<Decisions>, QueryError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(Some(Decisions(None)));
        };
        let range = TailRange {
            partition: first.partition,
            from: first.offset,
            to: last.offset.next(),
        };
        let (kept, stream, records) = (self.clone(), Arc::clone(stream), records.to_vec());
        // It decodes them, which sockets should not wait for.
        let deciding = self.0.compute.handle().spawn(async move {
            let hold = kept.hold(&stream, range, &records).await?;
            Ok(hold.map(|hold| {
                Decisions(Some(Decided {
                    _hold: hold,
                    tail: Arc::clone(&kept.0.pinner.tail),
                    stream: stream.name.clone(),
                    partition: range.partition,
                }))
            }))
        });
        let decided = deciding.await;
        decided.map_err(|_| QueryError::Storage("what is kept could not be decided".to_owned()))?
    }

    async fn hold(
        &self,
        stream: &Arc<StreamDeclaration>,
        range: TailRange,
        records: &[Record],
    ) -> Result<Option<Hold>, QueryError> {
        let pinner = &self.0.pinner;
        let decided = &pinner.tail.kept_rows;
        if let Some(hold) = decided.decide_on(stream, range, records).await? {
            return Ok(Some(hold));
        }
        again(|| async {
            let snapshot = pinner.tables.snapshot(stream).await?;
            let from = snapshot.position(range.partition).offset;
            if range.from < from {
                return Ok(None);
            }
            let range = TailRange { from, ..range };
            let tables = pinner.tables.as_ref();
            let hold = decided.decide(tables, stream, &snapshot, range, records).await?;
            Ok(Some(hold))
        })
        .await
    }
}

/// What was decided of some records. It is known for as long as this lives.
pub(crate) struct Decisions(Option<Decided>);

struct Decided {
    _hold: Hold,
    tail: Arc<Tail>,
    stream: StreamName,
    partition: Partition,
}

impl Decisions {
    /// The rows that are kept, of rows of those records as the lake would have them.
    pub(crate) fn keep(&self, rows: RecordBatch) -> Result<RecordBatch, QueryError> {
        match &self.0 {
            Some(decided) => decided
                .tail
                .kept_rows
                .keep(&decided.stream, decided.partition, rows),
            // Of no records there are no rows.
            None => Ok(rows),
        }
    }
}
