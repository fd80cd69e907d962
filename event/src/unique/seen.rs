//! What is known of one partition at one place of its journal.

use std::collections::{HashMap, VecDeque};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;

use super::{AGREEING, Id, Ids};
use crate::{Batch, StreamDeclaration, Unique};

/// The ids that are known in one partition. Rows are given in the order of the journal.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Microseconds.
    window: i64,
    ids_max: usize,
    /// The number of `kept`'s first row; kept rows are counted from 0.
    first: u64,
    /// Kept rows, the oldest known one first.
    kept: VecDeque<Kept>,
    /// The number of the newest kept row of each id.
    numbers: HashMap<Id, u64>,
    runs: Runs,
    /// What runs agreed on: (number of a run's last row, time since when all of it came), times falling. So the first
    /// one that is not before a row is the latest time that any run after that row agrees on.
    agreed: VecDeque<(u64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    id: Id,
    /// Microseconds since 1970.
    at: i64,
}

impl Seen {
    /// Nothing is known yet. `None` when the stream's ids may repeat.
    #[must_use]
    pub fn new(stream: &StreamDeclaration) -> Option<Self> {
        stream.unique.as_ref().map(Self::of)
    }

    pub(super) fn of(unique: &Unique) -> Self {
        Self {
            window: micros(unique),
            ids_max: unique.ids_max.max(1),
            first: 0,
            kept: VecDeque::new(),
            numbers: HashMap::new(),
            runs: Runs::default(),
            agreed: VecDeque::new(),
        }
    }

    /// How many kept rows are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // A table of the standard library has one more byte for each place, and is 7/8 full at the most.
        let places = self.numbers.capacity() * 8 / 7;
        places * (size_of::<(Id, u64)>() + 1) + self.kept.capacity() * size_of::<Kept>()
    }

    /// Most bytes of memory of one partition, also while it grows: a table that is just above 7/8 of a power of two
    /// beside the one of half its size, and the same of the rows.
    #[must_use]
    pub fn bytes_max(unique: &Unique) -> u64 {
        let (id, row) = (size_of::<(Id, u64)>() + 1, size_of::<Kept>());
        let each = id * 16 / 7 * 3 / 2 + row * 3;
        (unique.ids_max as u64).saturating_mul(each as u64)
    }

    /// Decides the rows of the next batch as the journal has it, and remembers those that are kept. Says which those
    /// are; `None` when all are.
    ///
    /// # Errors
    /// When the batch is none of the stream: nothing is remembered then.
    pub fn admit(
        &mut self,
        batch: &Batch,
        stream: &StreamDeclaration,
    ) -> Result<Option<BooleanArray>, ArrowError> {
        let field = stream.unique.as_ref().map(|unique| unique.field.as_str());
        let column = field.and_then(|field| batch.rows.column_by_name(field));
        let column = column.ok_or_else(|| {
            let message = format!("a batch of stream `{}` has no unique field", stream.name);
            ArrowError::InvalidArgumentError(message)
        })?;
        if batch.spanned() != batch.len() as u64 {
            let message = "the spans of a batch do not cover its rows".to_owned();
            return Err(ArrowError::InvalidArgumentError(message));
        }
        let ids = Ids::of(column, stream)?;
        let times = batch
            .spans
            .iter()
            .flat_map(|span| std::iter::repeat_n(span.received_at, span.rows as usize));
        let mut kept = Vec::with_capacity(batch.len());
        for (row, at) in times.enumerate() {
            kept.push(self.admit_one(ids.get(row), at));
        }
        let all = kept.iter().all(|kept| *kept);
        Ok((!all).then(|| BooleanArray::from(kept)))
    }

    /// The rows of a batch that are kept, as the lake has them, from all of them as the lake would have them.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn admit_rows(
        &mut self,
        batch: &Batch,
        stream: &StreamDeclaration,
        rows: RecordBatch,
    ) -> Result<RecordBatch, ArrowError> {
        match self.admit(batch, stream)? {
            Some(kept) => filter_record_batch(&rows, &kept),
            None => Ok(rows),
        }
    }

    /// Decides one row, received at `at` microseconds since 1970, and remembers it when it is kept.
    pub fn admit_one(&mut self, id: Id, at: i64) -> bool {
        if self
            .numbers
            .get(&id)
            .is_some_and(|number| self.knows(*number, at))
        {
            return false;
        }
        self.keep(id, at);
        true
    }

    /// Remembers a row of which it is known that it was kept, as every row of the lake was.
    pub fn keep(&mut self, id: Id, at: i64) {
        let number = self.first + self.kept.len() as u64;
        self.kept.push_back(Kept { id, at });
        self.numbers.insert(id, number);
        if let Some(since) = self.runs.push(at) {
            while self
                .agreed
                .pop_back_if(|(_, earlier)| *earlier <= since)
                .is_some()
            {}
            self.agreed.push_back((number, since));
        }
        while self.kept.len() > self.ids_max || self.is_forgotten(self.first) {
            self.forget_first();
        }
    }

    /// Whether a kept row is known to a row that was received at `at`.
    fn knows(&self, number: u64, at: i64) -> bool {
        self.find(number)
            .is_some_and(|kept| at < kept.at.saturating_add(self.window))
            && !self.is_forgotten(number)
    }

    fn is_forgotten(&self, number: u64) -> bool {
        let Some(kept) = self.find(number) else {
            return false;
        };
        let after = self.agreed.partition_point(|(last, _)| *last < number);
        let latest = self.agreed.get(after);
        latest.is_some_and(|(_, since)| *since >= kept.at.saturating_add(self.window))
    }

    fn find(&self, number: u64) -> Option<&Kept> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(place)
    }

    fn forget_first(&mut self) {
        let Some(kept) = self.kept.pop_front() else {
            return;
        };
        // The id may have come again after its time.
        if self.numbers.get(&kept.id) == Some(&self.first) {
            self.numbers.remove(&kept.id);
        }
        self.first += 1;
        while self.agreed.pop_front_if(|(last, _)| *last < self.first).is_some() {}
        // What a burst took is given back, with room for half as many again.
        if self.kept.capacity() > 4 * self.kept.len() + 4_096 {
            self.kept.shrink_to(2 * self.kept.len());
            self.numbers.shrink_to(2 * self.numbers.len());
        }
    }
}

/// Says how far back the kept rows of a partition must be read to find out what is known after them. Takes them in
/// their reverse order, the newest first.
#[derive(Clone, Debug)]
pub struct LookBack {
    window: i64,
    ids_max: usize,
    runs: Runs,
    /// The latest time since when all rows of some run came.
    latest: Option<i64>,
    rows: usize,
}

impl LookBack {
    /// Before the newest row. `None` when the stream's ids may repeat.
    #[must_use]
    pub fn new(stream: &StreamDeclaration) -> Option<Self> {
        let unique = stream.unique.as_ref()?;
        Some(Self {
            window: micros(unique),
            ids_max: unique.ids_max.max(1),
            runs: Runs::default(),
            latest: None,
            rows: 0,
        })
    }

    /// The row before those that were given.
    pub fn push(&mut self, at: i64) {
        self.rows += 1;
        self.latest = self.latest.max(self.runs.push(at));
    }

    /// Whether every row before those that were given is forgotten, of which none was received after `at`, or at any
    /// time when that is not known.
    #[must_use]
    pub fn is_enough(&self, at: Option<i64>) -> bool {
        let forgotten = match (at, self.latest) {
            (Some(at), Some(latest)) => latest >= at.saturating_add(self.window),
            _ => false,
        };
        forgotten || self.rows >= self.ids_max
    }
}

/// The least time of the last [`AGREEING`] rows.
#[derive(Clone, Debug, Default)]
struct Runs {
    rows: u64,
    /// Numbers and times of rows of the run, times rising: the first is the least.
    least: VecDeque<(u64, i64)>,
}

impl Runs {
    /// Adds a row; gives the least time of the run that it ends.
    fn push(&mut self, at: i64) -> Option<i64> {
        let length = AGREEING as u64;
        while self.least.pop_back_if(|(_, earlier)| *earlier >= at).is_some() {}
        self.least.push_back((self.rows, at));
        self.rows += 1;
        let begin = self.rows.checked_sub(length)?;
        while self.least.pop_front_if(|(row, _)| *row < begin).is_some() {}
        self.least.front().map(|(_, at)| *at)
    }
}

/// The window in microseconds.
fn micros(unique: &Unique) -> i64 {
    i64::try_from(unique.window.as_micros()).unwrap_or(i64::MAX)
}
