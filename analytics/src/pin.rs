//! What one query reads of one stream, fixed once, so that running it again gives the same rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::unique::Seen;
use event::{Offset, Partition, Position, StreamDeclaration, StreamName, schema};
use futures::future::BoxFuture;
use journal::{Journal, JournalReader};
use lake::{DataFile, Lake, Snapshot, Table};
use tokio::sync::Mutex;

use crate::QueryError;
use crate::sql::again;
use crate::tail::Tail;
use crate::tail_kept::Hold;
use crate::tail_rows::TailRows;

/// Longest wait for the next record on the way to a `min_position`; then 503, so that a client comes back.
const REACH_TIME: Duration = Duration::from_secs(5);

/// Offsets [from, to) of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailRange {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first offset.
    pub(crate) from: Offset,
    /// The offset after the last.
    pub(crate) to: Offset,
}

/// files(v) ∪ journal[p(v), end) of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// The stream.
    pub(crate) declaration: Arc<StreamDeclaration>,
    /// The lake version.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The tail of each partition, without empty ones.
    pub(crate) tail: Vec<TailRange>,
    /// Up to where this query sees each partition.
    pub(crate) end: Vec<Position>,
    /// How many writers append to the lake's table independently: the journal's partitions, and of `_rejects` the
    /// streams that other programs fill, taken as one.
    pub(crate) partitions: usize,
    /// Keeps the tail in the journal for as long as the query may read it.
    #[expect(dead_code, reason = "what counts is that it lives")]
    pub(crate) held: Arc<Held>,
}

/// Readers at the beginnings of tails, with which nobody reads, and what is decided of tails whose ids are unique.
#[expect(dead_code, reason = "what counts is that it lives")]
pub(crate) struct Held {
    readers: std::sync::Mutex<Vec<Box<dyn JournalReader>>>,
    decided: Vec<Hold>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Pin {
    /// The index after the last event of the lake.
    pub(crate) fn lake_end(&self) -> u64 {
        self.snapshot
            .files
            .last()
            .map_or(self.snapshot.removed, |file| file.first_index + file.rows)
    }

    /// The index of the tail's first event; `None` when several partitions leave it open until the commit.
    pub(crate) fn tail_index(&self) -> Option<u64> {
        (self.partitions <= 1).then(|| self.lake_end())
    }

    /// The columns of the stream's files. A compacted file has more: those in which Delta keeps row ids.
    pub(crate) fn columns(&self) -> Vec<String> {
        let lake = schema::lake(&self.declaration);
        lake.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The file of an event and its row there.
    pub(crate) fn locate(&self, index: u64) -> Option<(&DataFile, u64)> {
        let files = &self.snapshot.files;
        let after = files.partition_point(|file| file.first_index <= index);
        let file = files.get(after.checked_sub(1)?)?;
        let row = index - file.first_index;
        (row < file.rows).then_some((file, row))
    }

    /// Records that the lake does not have yet.
    pub(crate) fn lag(&self) -> u64 {
        self.tail.iter().map(|range| range.to.0 - range.from.0).sum()
    }
}

/// Gives the newest snapshot of a stream's table: the lake, or a test's own.
pub(crate) trait Tables: Send + Sync + 'static {
    /// The newest version.
    fn snapshot<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
    ) -> BoxFuture<'a, Result<Arc<Snapshot>, QueryError>>;

    /// What is known of a stream whose ids are unique at a position that the version has reached.
    fn seen<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        snapshot: &'a Arc<Snapshot>,
        at: Position,
    ) -> BoxFuture<'a, Result<Option<Seen>, QueryError>>;
}

/// The lake's tables, each opened when it is first asked for.
pub(crate) struct LakeTables {
    lake: Arc<Lake>,
    journal: Arc<dyn Journal>,
    open: Mutex<HashMap<StreamName, Arc<Table>>>,
}

impl LakeTables {
    pub(crate) fn new(lake: Arc<Lake>, journal: Arc<dyn Journal>) -> Self {
        Self {
            lake,
            journal,
            open: Mutex::default(),
        }
    }

    async fn table(&self, stream: &Arc<StreamDeclaration>) -> Result<Arc<Table>, QueryError> {
        let mut open = self.open.lock().await;
        if let Some(table) = open.get(&stream.name) {
            return Ok(Arc::clone(table));
        }
        let filled_by = self.journal.stream_id(&stream.name).to_string();
        let table = self.lake.table_of(Arc::clone(stream), &filled_by).await?;
        open.insert(stream.name.clone(), Arc::clone(&table));
        Ok(table)
    }
}

impl Tables for LakeTables {
    fn snapshot<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
    ) -> BoxFuture<'a, Result<Arc<Snapshot>, QueryError>> {
        Box::pin(async move { Ok(self.table(stream).await?.snapshot().await?) })
    }

    fn seen<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        snapshot: &'a Arc<Snapshot>,
        at: Position,
    ) -> BoxFuture<'a, Result<Option<Seen>, QueryError>> {
        Box::pin(async move { Ok(self.table(stream).await?.seen(snapshot, at).await?) })
    }
}

/// Where pins come from.
pub(crate) struct Pinner {
    pub(crate) tables: Box<dyn Tables>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) rows: TailRows,
    /// Whether there are streams that other programs may fill: what is no event there comes into the table of
    /// `_rejects` before what waits in its tail.
    pub(crate) messages: bool,
}

impl Pinner {
    /// Fixes what a query reads. The journal's end comes first: rows that reach the lake in between are then in
    /// the snapshot and out of the tail, never in neither.
    pub(crate) async fn pin(&self, declaration: &Arc<StreamDeclaration>) -> Result<Pin, QueryError> {
        again(|| self.pin_once(declaration)).await
    }

    async fn pin_once(&self, declaration: &Arc<StreamDeclaration>) -> Result<Pin, QueryError> {
        let mut end = self.journal.end(&declaration.name).await?;
        let snapshot = self.tables.snapshot(declaration).await?;
        let (mut tail, mut held) = (Vec::new(), Vec::new());
        for position in &mut end {
            let stored = stored(&snapshot, position.partition);
            if stored < position.offset {
                let from = Position::new(position.partition, stored);
                held.push(self.journal.reader(&declaration.name, from).await?);
                tail.push(TailRange {
                    partition: position.partition,
                    from: stored,
                    to: position.offset,
                });
            }
            position.offset = position.offset.max(stored);
            self.tail.forget(&declaration.name, position.partition, stored);
        }
        let mut decided = Vec::new();
        if declaration.unique.is_some() {
            for range in &tail {
                let deciding = self
                    .tail
                    .kept_rows
                    .decide(&*self.tables, declaration, &snapshot, *range, &[]);
                decided.push(deciding.await?);
            }
        }
        Ok(Pin {
            declaration: Arc::clone(declaration),
            partitions: end.len() + usize::from(self.messages && declaration.name == StreamName::rejects()),
            snapshot,
            tail,
            end,
            held: Arc::new(Held {
                readers: held.into(),
                decided,
            }),
        })
    }
}

impl Pinner {
    /// Waits until the journal has reached the positions: a reader at its end waits for the next record. Whoever
    /// asks bounds the time.
    pub(crate) async fn reached(
        &self,
        stream: &StreamDeclaration,
        positions: &[Position],
    ) -> Result<(), QueryError> {
        for position in positions {
            loop {
                let end = self.journal.end(&stream.name).await?;
                let Some(found) = end.iter().find(|end| end.partition == position.partition) else {
                    return Err(QueryError::Invalid(format!(
                        "there is no partition {}",
                        position.partition
                    )));
                };
                if found.offset >= position.offset {
                    break;
                }
                let mut reader = self.journal.reader(&stream.name, *found).await?;
                let more = tokio::time::timeout(REACH_TIME, reader.next(1)).await;
                more.map_err(|_| QueryError::NotYet(position.to_string()))??;
            }
        }
        Ok(())
    }
}

fn stored(snapshot: &Snapshot, partition: Partition) -> Offset {
    let mut positions = snapshot.positions.iter();
    positions
        .find(|position| position.partition == partition)
        .map_or(Offset(0), |position| position.offset)
}

/// The table's schema in SQL: the lake's columns and `_index`.
pub(crate) fn table_schema(declaration: &StreamDeclaration) -> arrow_schema::SchemaRef {
    let mut fields = schema::lake(declaration).fields().to_vec();
    let index = arrow_schema::Field::new(schema::INDEX, arrow_schema::DataType::Int64, true);
    fields.push(Arc::new(index));
    Arc::new(arrow_schema::Schema::new(fields))
}
