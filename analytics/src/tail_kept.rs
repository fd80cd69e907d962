//! Which rows of a tail are kept, of a stream whose ids are unique: those that the lake will have.
//!
//! Decided record by record in the order of the journal, by the rule that the sink follows too ([`event::unique`]),
//! from what is known at the position of a version of the table. Whether a row is kept hangs on nothing but the rows
//! before it, so a decision holds for every later version, is made once, and is kept until no query can ask for it any
//! more. A question decides what came since the last one.
//!
//! A pin has everything that it may read decided before it is given out, and holds it ([`Hold`]): so reading a tail
//! only looks decisions up, in whatever order plans run. Live clients and rollups have the records decided that they
//! are about to give on ([`crate::kept`]), by the same decisions.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use event::unique::Seen;
use event::{Offset, Partition, Position, StreamDeclaration, StreamName, schema};
use journal::{Decoded, Journal, Record, RecordDecoder};
use lake::Snapshot;
use tokio::sync::Mutex;

use crate::QueryError;
use crate::parameters::column;
use crate::pin::{Tables, TailRange};
use crate::tail_rows::{Located, RECORDS_MAX};

/// Bytes of records that are read from the journal at once.
const READ_BYTES: usize = 4 << 20;
/// Records between what is decided and what is asked for that are decided on the way; beyond, what is known is read
/// from the lake instead.
const GAP_RECORDS_MAX: u64 = 4_096;
/// For how long records are decided without a look at how far the lake is, which is what lets decisions go.
const UNPRUNED_MAX: Duration = Duration::from_secs(1);

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
    /// When it was last looked how far the lake is.
    pruned: Option<Instant>,
}

struct RecordKept {
    /// Kept rows up to its end.
    end: u64,
    /// Which of its rows are kept; all when absent.
    rows: Option<BooleanArray>,
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

    /// Decides records that follow one another and were read already, and holds the decisions: if that can be done by
    /// going on, without asking how far the lake is. `None` when it cannot, or was done so for long.
    pub(crate) async fn decide_on(
        &self,
        stream: &Arc<StreamDeclaration>,
        range: TailRange,
        records: &[Record],
    ) -> Result<Option<Hold>, QueryError> {
        let partition = self.partition(&stream.name, range.partition);
        let mut known = partition.known.lock().await;
        let (first, end) = partition.decided().bounds();
        let recent = partition
            .decided()
            .pruned
            .is_some_and(|at| at.elapsed() < UNPRUNED_MAX);
        if known.is_none() || !recent || range.from < first || range.from > end {
            return Ok(None);
        }
        let hold = Hold::new(&partition, range.from);
        self.go_on(&partition, &mut known, stream, range, records).await?;
        Ok(Some(hold))
    }

    /// Decides all rows of a range that begins at the position of a version, and holds the decisions. `records` are
    /// the last ones of it, as far as they were read already.
    pub(crate) async fn decide(
        &self,
        tables: &dyn Tables,
        stream: &Arc<StreamDeclaration>,
        snapshot: &Arc<Snapshot>,
        range: TailRange,
        records: &[Record],
    ) -> Result<Hold, QueryError> {
        let count = range.to.0 - range.from.0;
        if count > RECORDS_MAX {
            return Err(QueryError::Storage(format!(
                "{count} records of `{}` are not in the lake yet, of which {RECORDS_MAX} can be told apart",
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
        match self.go_on(&partition, &mut known, stream, range, records).await {
            // What lies between was let go of; the lake has it.
            Err(QueryError::Moved(_)) if range.from > end && !far => {
                begin_anew(&partition, &mut known, tables, stream, snapshot, range).await?;
                self.go_on(&partition, &mut known, stream, range, records).await?;
            }
            done => done?,
        }
        partition.decided().prune(range.from);
        Ok(hold)
    }

    /// Decides what comes after what is decided, up to the end of a range. What was read already is not read again.
    async fn go_on(
        &self,
        partition: &OnePartition,
        known: &mut Option<Seen>,
        stream: &Arc<StreamDeclaration>,
        range: TailRange,
        records: &[Record],
    ) -> Result<(), QueryError> {
        let (_, mut end) = partition.decided().bounds();
        if end >= range.to {
            return Ok(());
        }
        let Some(known) = known else {
            return Err(undecided(&stream.name, end));
        };
        let mut reader = None;
        let mut decoder = RecordDecoder::new(Arc::clone(stream));
        while end < range.to {
            let read;
            let next = match following(records, end) {
                [] => {
                    let reader = match &mut reader {
                        Some(reader) => reader,
                        None => {
                            let from = Position::new(range.partition, end);
                            reader.insert(self.journal.reader(&stream.name, from).await?)
                        }
                    };
                    read = reader.next(READ_BYTES).await?;
                    &read[..]
                }
                there => there,
            };
            for record in next {
                if record.offset != end {
                    return Err(QueryError::Storage(format!(
                        "journal gave offset {} of stream `{}` in place of {end}",
                        record.offset, stream.name
                    )));
                }
                // Nothing waits between deciding and noting it down, so both are always at the same record.
                let (rows, kept) = match decoder.decode(record)? {
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

    /// Of rows as the lake would have them, of records of one partition that are decided, those that are kept.
    pub(crate) fn keep(
        &self,
        stream: &StreamName,
        partition: Partition,
        rows: RecordBatch,
    ) -> Result<RecordBatch, QueryError> {
        let wrong = || QueryError::Storage("a record's place has another type than it should".to_owned());
        let offsets = column(&rows, schema::OFFSET)?.as_primitive_opt::<Int64Type>();
        let offsets = offsets.ok_or_else(wrong)?.values();
        let numbers = column(&rows, schema::ROW)?.as_primitive_opt::<Int32Type>();
        let mut numbers = &numbers.ok_or_else(wrong)?.values()[..];
        let state = self.partition(stream, partition);
        let mut kept = Vec::with_capacity(rows.num_rows());
        for record in offsets.chunk_by(|one, next| one == next) {
            let offset = Offset(record[0].cast_unsigned());
            let (own, others) = numbers.split_at(record.len());
            numbers = others;
            let decided = state.decided();
            let found = decided.record(offset).ok_or_else(|| undecided(stream, offset))?;
            let Some(decided) = &found.rows else {
                kept.extend(std::iter::repeat_n(true, own.len()));
                continue;
            };
            for number in own {
                let row = usize::try_from(*number).ok().filter(|row| *row < decided.len());
                kept.push(decided.value(row.ok_or_else(wrong)?));
            }
        }
        if kept.iter().all(|kept| *kept) {
            return Ok(rows);
        }
        Ok(filter_record_batch(&rows, &BooleanArray::from(kept))?)
    }

    /// Which rows of a record that is decided are kept; all when absent.
    pub(crate) fn rows(
        &self,
        stream: &StreamName,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<BooleanArray>, QueryError> {
        let state = self.partition(stream, partition);
        let decided = state.decided();
        let found = decided.record(offset).ok_or_else(|| undecided(stream, offset))?;
        Ok(found.rows.clone())
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

/// Of records that follow one another, those from an offset on.
fn following(records: &[Record], from: Offset) -> &[Record] {
    let before = records
        .first()
        .and_then(|first| from.0.checked_sub(first.offset.0));
    let before = before.and_then(|before| usize::try_from(before).ok());
    before
        .and_then(|before| records.get(before..))
        .unwrap_or_default()
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
            rows: kept,
        });
    }

    fn record(&self, offset: Offset) -> Option<&RecordKept> {
        let place = usize::try_from(offset.0.checked_sub(self.first.0)?).ok()?;
        self.records.get(place)
    }

    /// Lets go of what lies below `from` and below every hold.
    fn prune(&mut self, from: Offset) {
        self.pruned = Some(Instant::now());
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

#[cfg(test)]
mod tests;
