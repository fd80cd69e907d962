//! How many rows each record of a tail has, so that the nth event is found without decoding what lies before it.
//!
//! Counting needs the records' headers only. What was counted is kept and grows with the tail, so a question
//! reads what came since the last one.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use event::{Offset, Partition, Position, StreamDeclaration, StreamName};
use journal::{Journal, RecordDecoder};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::QueryError;
use crate::pin::{Pinner, TailRange};
use crate::tail::Tail;

/// Bytes of records that are read from the journal at once. A processor is busy with them for a tenth of a millisecond:
/// counting goes on in the background all the time, and requests wait for whoever does not stop.
const READ_BYTES: usize = 256 << 10;
/// Most records that are counted, 32 MiB; a longer tail, as of a sink that stopped, is read in order.
pub(crate) const RECORDS_MAX: u64 = 4 << 20;
/// Counts of records that the lake has are dropped in groups of this size.
const DROPPED_AT_ONCE: usize = 4_096;

/// How often what has come is counted, so that the first question after much of it need not.
const COUNTED_EVERY: Duration = Duration::from_millis(200);

/// Counts records; one for the process.
pub(crate) struct TailRows {
    journal: Arc<dyn Journal>,
    /// Has decided, and counted, what is kept of streams whose ids are unique.
    tail: Arc<Tail>,
    counted: std::sync::Mutex<Tails>,
}

/// A lock for each partition of each stream.
type Tails = HashMap<(StreamName, Partition), Arc<Mutex<Counted>>>;

/// Where a row of a tail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// In this record, at this row of it.
    Record(Offset, u64),
    /// The tail has fewer rows.
    PastEnd,
    /// The tail has too many records to be counted.
    Uncounted,
}

/// Rows from the record `first` on: the end of each record.
#[derive(Debug)]
struct Counted {
    first: Offset,
    /// Rows before `first` that were counted and dropped.
    before: u64,
    ends: Vec<u64>,
}

impl Counted {
    fn new(first: Offset) -> Self {
        Self {
            first,
            before: 0,
            ends: Vec::new(),
        }
    }

    fn end(&self) -> Offset {
        Offset(self.first.0 + self.ends.len() as u64)
    }

    /// Rows below a record that was counted, or that is the next one.
    fn rows_below(&self, offset: Offset) -> u64 {
        match offset.0 - self.first.0 {
            0 => self.before,
            records => self.ends[records as usize - 1],
        }
    }

    fn drop_below(&mut self, offset: Offset) {
        let records = (offset.0 - self.first.0) as usize;
        if records >= DROPPED_AT_ONCE {
            self.before = self.rows_below(offset);
            self.ends.drain(..records);
            self.first = offset;
        }
    }
}

impl TailRows {
    pub(crate) fn new(journal: Arc<dyn Journal>, tail: Arc<Tail>) -> Self {
        Self {
            journal,
            tail,
            counted: std::sync::Mutex::default(),
        }
    }

    /// Finds a row of a tail that is pinned, counted from 0 at the range's first record.
    pub(crate) async fn locate(
        &self,
        declaration: &Arc<StreamDeclaration>,
        range: TailRange,
        row: u64,
    ) -> Result<Located, QueryError> {
        let stream = &declaration.name;
        if declaration.unique.is_some() {
            return self.tail.kept_rows.locate(stream, range, row);
        }
        if range.to.0 - range.from.0 > RECORDS_MAX {
            return Ok(Located::Uncounted);
        }
        // One lock a stream: counting a long tail holds up nobody who asks for another one's.
        let counted = {
            let mut all = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = all.entry((stream.clone(), range.partition));
            Arc::clone(counted.or_insert_with(|| Arc::new(Mutex::new(Counted::new(range.from)))))
        };
        let mut counted = counted.lock().await;
        if range.from < counted.first || range.from > counted.end() {
            *counted = Counted::new(range.from);
        }
        self.count(declaration, &mut counted, range).await?;
        counted.drop_below(range.from);
        let row = counted.rows_below(range.from) + row;
        let record = counted.ends.partition_point(|end| *end <= row);
        let offset = Offset(counted.first.0 + record as u64);
        if offset >= range.to {
            return Ok(Located::PastEnd);
        }
        Ok(Located::Record(offset, row - counted.rows_below(offset)))
    }

    async fn count(
        &self,
        stream: &Arc<StreamDeclaration>,
        counted: &mut Counted,
        range: TailRange,
    ) -> Result<(), QueryError> {
        if counted.end() >= range.to {
            return Ok(());
        }
        let from = Position::new(range.partition, counted.end());
        let mut reader = self.journal.reader(&stream.name, from).await?;
        let mut decoder = RecordDecoder::new(Arc::clone(stream));
        while counted.end() < range.to {
            for record in reader.next(READ_BYTES).await? {
                let rows = decoder.rows(&record)?;
                let below = counted.rows_below(counted.end());
                counted.ends.push(below + rows);
            }
        }
        Ok(())
    }
}

/// Counts what comes, stream by stream, for as long as somebody asks questions.
pub(crate) async fn follow(pinner: Weak<Pinner>, streams: Vec<Arc<StreamDeclaration>>) {
    let mut ticks = interval(COUNTED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: HashMap<StreamName, Vec<Position>> = HashMap::new();
    loop {
        ticks.tick().await;
        let Some(pinner) = pinner.upgrade() else { return };
        for stream in &streams {
            let Ok(end) = pinner.journal.end(&stream.name).await else {
                continue;
            };
            let empty = end.iter().all(|end| end.offset == Offset(0));
            if empty || seen.get(&stream.name) == Some(&end) {
                continue;
            }
            if let Err(error) = pinner.count(stream).await {
                // Whoever asks is told; here it only costs time later.
                tracing::debug!(stream = stream.name.as_str(), %error, "the tail is not counted");
            }
            seen.insert(stream.name.clone(), end);
        }
    }
}

impl Pinner {
    async fn count(&self, stream: &Arc<StreamDeclaration>) -> Result<(), QueryError> {
        if let [range] = self.pin(stream).await?.tail[..] {
            self.rows.locate(stream, range, 0).await?;
        }
        Ok(())
    }
}
