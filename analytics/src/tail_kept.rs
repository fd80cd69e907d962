//! Which rows of a tail are kept, of a stream whose ids are unique: those that the lake will have.
//!
//! Decided record by record in the order of the journal, by the rule that the sink follows too ([`event::unique`]),
//! from what is known at the position of a version of the table. Whether a row is kept hangs on nothing but the rows
//! before it, so a decision holds for every later version, is made once, and is kept until no query can ask for it any
//! more. A question decides what came since the last one.
//!
//! A pin has everything that it may read decided before it is given out, and holds it ([`Hold`]): so reading a tail
//! only looks decisions up, in whatever order plans run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use arrow_array::BooleanArray;
use event::unique::Seen;
use event::{Offset, Partition, Position, StreamDeclaration, StreamName};
use journal::{Decoded, Journal, RecordDecoder};
use lake::Snapshot;
use tokio::sync::Mutex;

use crate::QueryError;
use crate::pin::{Tables, TailRange};
use crate::tail_rows::{Located, RECORDS_MAX};

/// Bytes of records that are read from the journal at once.
const READ_BYTES: usize = 4 << 20;
/// Records between what is decided and what is asked for that are decided on the way; beyond, what is known is read
/// from the lake instead.
const GAP_RECORDS_MAX: u64 = 4_096;

/// Decides; one for the process.
pub(crate) struct TailKept {
    journal: Arc<dyn Journal>,
    partitions: std::sync::Mutex<HashMap<(StreamName, Partition), Arc<OnePartition>>>,
}

#[derive(Default)]
struct OnePartition {
    /// What is known after the last record that is decided. One decides at a time.
    known: Mutex<Option<Seen>>,
    decided: std::sync::Mutex<Decided>,
}

/// Decisions about records from `first` on.
#[derive(Default)]
struct Decided {
    first: Offset,
    /// Kept rows before `first` that were counted.
    before: u64,
    records: VecDeque<RecordKept>,
    /// From where on pins need decisions, and how many do.
    holds: BTreeMap<Offset, usize>,
}

struct RecordKept {
    /// Kept rows up to its end.
    end: u64,
    /// Which of its rows are kept; all when absent.
    rows: Option<Arc<BooleanArray>>,
}

/// As long as it lives, decisions from an offset on stay.
pub(crate) struct Hold {
    partition: Arc<OnePartition>,
    from: Offset,
}

impl TailKept {
    pub(crate) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            partitions: std::sync::Mutex::default(),
        }
    }

    /// Decides all rows of a range that begins at the position of a version, and holds the decisions.
    pub(crate) async fn decide(
        &self,
        tables: &dyn Tables,
        stream: &Arc<StreamDeclaration>,
        snapshot: &Arc<Snapshot>,
        range: TailRange,
    ) -> Result<Hold, QueryError> {
        let records = range.to.0 - range.from.0;
        if records > RECORDS_MAX {
            return Err(QueryError::Storage(format!(
                "{records} records of `{}` are not in the lake yet, of which {RECORDS_MAX} can be told apart",
                stream.name
            )));
        }
        let partition = self.partition(&stream.name, range.partition);
        let mut known = partition.known.lock().await;
        // Nobody prunes meanwhile.
        let hold = Hold::new(&partition, range.from);
        let (first, end) = partition.decided().bounds();
        if known.is_some() && range.from < first {
            return Err(QueryError::Moved(format!(
                "version {} of `{}` is older than another question's",
                snapshot.version, stream.name
            )));
        }
        let far = range.from.0.saturating_sub(end.0) > GAP_RECORDS_MAX;
        if known.is_none() || far {
            begin_anew(&partition, &mut known, tables, stream, snapshot, range).await?;
        }
        match self.go_on(&partition, &mut known, stream, range).await {
            // What lies between was let go of; the lake has it.
            Err(QueryError::Moved(_)) if range.from > end && !far => {
                begin_anew(&partition, &mut known, tables, stream, snapshot, range).await?;
                self.go_on(&partition, &mut known, stream, range).await?;
            }
            done => done?,
        }
        partition.decided().prune(range.from);
        Ok(hold)
    }

    /// Decides what comes after what is decided, up to the end of a range.
    async fn go_on(
        &self,
        partition: &OnePartition,
        known: &mut Option<Seen>,
        stream: &Arc<StreamDeclaration>,
        range: TailRange,
    ) -> Result<(), QueryError> {
        let (_, mut end) = partition.decided().bounds();
        if end >= range.to {
            return Ok(());
        }
        let Some(known) = known else {
            return Err(undecided(&stream.name, end));
        };
        let from = Position::new(range.partition, end);
        let mut reader = self.journal.reader(&stream.name, from).await?;
        let mut decoder = RecordDecoder::new(Arc::clone(stream));
        while end < range.to {
            for record in reader.next(READ_BYTES).await? {
                if record.offset != end {
                    return Err(QueryError::Storage(format!(
                        "journal gave offset {} of stream `{}` in place of {end}",
                        record.offset, stream.name
                    )));
                }
                // Nothing waits between deciding and noting it down, so both are always at the same record.
                let (rows, kept) = match decoder.decode(&record)? {
                    Decoded::Batch(batch) => (batch.len(), known.admit(&batch, stream)?),
                    Decoded::Reject(..) | Decoded::Nothing => (0, None),
                };
                partition.decided().push(rows, kept);
                end = end.next();
            }
            // Lets a cancelled question end here.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Which rows of a record are kept; all when absent.
    pub(crate) fn of(
        &self,
        stream: &StreamName,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<Arc<BooleanArray>>, QueryError> {
        let state = self.partition(stream, partition);
        let decided = state.decided();
        let record = decided.record(offset).ok_or_else(|| undecided(stream, offset))?;
        Ok(record.rows.clone())
    }

    /// Finds a kept row of a range that is decided, counted from 0 at its first record.
    pub(crate) fn locate(
        &self,
        stream: &StreamName,
        range: TailRange,
        row: u64,
    ) -> Result<Located, QueryError> {
        let state = self.partition(stream, range.partition);
        let decided = state.decided();
        let below = |offset: Offset| match offset.0.checked_sub(decided.first.0) {
            Some(0) => Ok(decided.before),
            Some(_) => {
                let before = decided.record(Offset(offset.0 - 1));
                before
                    .map(|record| record.end)
                    .ok_or_else(|| undecided(stream, offset))
            }
            None => Err(undecided(stream, offset)),
        };
        let row = below(range.from)? + row;
        let record = decided.records.partition_point(|record| record.end <= row);
        let offset = Offset(decided.first.0 + record as u64);
        if offset >= range.to {
            return Ok(Located::PastEnd);
        }
        Ok(Located::Record(offset, row - below(offset)?))
    }

    fn partition(&self, stream: &StreamName, partition: Partition) -> Arc<OnePartition> {
        let mut all = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((stream.clone(), partition)).or_default())
    }
}

/// Reads what is known at the position of a version, where a range begins.
async fn begin_anew(
    partition: &OnePartition,
    known: &mut Option<Seen>,
    tables: &dyn Tables,
    stream: &Arc<StreamDeclaration>,
    snapshot: &Arc<Snapshot>,
    range: TailRange,
) -> Result<(), QueryError> {
    *known = None;
    let at = Position::new(range.partition, range.from);
    let seen = tables.seen(stream, snapshot, at).await?;
    partition.decided().begin_at(range.from);
    *known = seen;
    Ok(())
}

fn undecided(stream: &StreamName, offset: Offset) -> QueryError {
    QueryError::Moved(format!("what is kept of record {offset} of `{stream}`"))
}

impl OnePartition {
    fn decided(&self) -> MutexGuard<'_, Decided> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decided {
    /// From where to where it is decided.
    fn bounds(&self) -> (Offset, Offset) {
        (self.first, Offset(self.first.0 + self.records.len() as u64))
    }

    fn begin_at(&mut self, first: Offset) {
        (self.first, self.before) = (first, 0);
        self.records.clear();
    }

    fn push(&mut self, rows: usize, kept: Option<BooleanArray>) {
        let below = self.records.back().map_or(self.before, |record| record.end);
        let count = kept.as_ref().map_or(rows, BooleanArray::true_count);
        self.records.push_back(RecordKept {
            end: below + count as u64,
            rows: kept.map(Arc::new),
        });
    }

    fn record(&self, offset: Offset) -> Option<&RecordKept> {
        let place = usize::try_from(offset.0.checked_sub(self.first.0)?).ok()?;
        self.records.get(place)
    }

    /// Lets go of what lies below `from` and below every hold.
    fn prune(&mut self, from: Offset) {
        let needed = self.holds.keys().next().map_or(from, |held| from.min(*held));
        while self.first < needed
            && let Some(record) = self.records.pop_front()
        {
            self.before = record.end;
            self.first = self.first.next();
        }
    }
}

impl Hold {
    fn new(partition: &Arc<OnePartition>, from: Offset) -> Self {
        *partition.decided().holds.entry(from).or_default() += 1;
        Self {
            partition: Arc::clone(partition),
            from,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut decided = self.partition.decided();
        if let Some(count) = decided.holds.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                decided.holds.remove(&self.from);
            }
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.from).finish()
    }
}
