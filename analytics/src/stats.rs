//! Counts, bounds, sums, distinct keys of a stream; by interval, by field.
//!
//! Without a filter they are the sum of each file's partial, computed once, and the tail. With a time range, or with
//! `interval`, they are the sum of the partials of blocks: rows are read of blocks that lie across an edge only, and
//! of them only pages that can hold a row of the range. With `by` all files of the range are read. Always only the
//! columns needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;
use event::moment::rfc3339;
use event::{FieldType, Offset, schema};
use futures::StreamExt;
use lake::DataFile;
use serde_json::{Map, Value, json};

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::json::write_value;
use crate::parameters::{Filter, column};
use crate::partial::Partial;
use crate::partial_store::{BLOCK_ROWS, Blocks};
use crate::pin::{Pin, TailRange};
use crate::sql::as_of;
use crate::tail_partials::{self, TailBlock, TailPartials};
use crate::walk::stretches;

/// An interval's beginning and a field's encoded value; absent where the question has no such grouping.
type GroupKey = (Option<i64>, Option<Vec<u8>>);

/// Most groups of an answer.
const GROUPS_MAX: usize = 10_000;

/// A question.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatsQuestion {
    pub(crate) filter: Filter,
    /// Microseconds.
    pub(crate) interval: Option<i64>,
    pub(crate) by: Option<String>,
    pub(crate) exact: bool,
}

type Groups = BTreeMap<GroupKey, Partial>;

struct Gathering<'a> {
    question: &'a StatsQuestion,
    pin: &'a Pin,
    total: Partial,
    groups: Groups,
}

/// The answer as JSON.
pub(crate) async fn stats(
    shared: &Shared,
    stream: &str,
    question: &StatsQuestion,
) -> Result<Value, QueryError> {
    let pin = shared.pin(stream, &question.filter.min_position).await?;
    check_by(&pin, question)?;
    let mut gathering = Gathering {
        question,
        pin: &pin,
        total: Partial::new(&pin.declaration, question.exact),
        groups: Groups::new(),
    };
    let grouped = question.interval.is_some() || question.by.is_some();
    for file in pin.snapshot.files.iter() {
        if question.filter.overlaps(file.time_min, file.time_max) {
            gathering.add_file(shared, file).await?;
        }
    }
    let mut tail_rows = 0;
    for range in &pin.tail {
        tail_rows += gathering.add_tail(shared, *range).await?;
    }
    let files = pin.snapshot.files.iter();
    shared
        .partials
        .sweep(&pin.declaration, files.map(|file| file.path.as_str()));
    metrics::gauge!("tidemill_tail_rows", "stream" => stream.to_owned()).set(tail_rows as f64);
    gathering.answer(grouped)
}

fn check_by(pin: &Pin, question: &StatsQuestion) -> Result<(), QueryError> {
    let Some(by) = &question.by else {
        return Ok(());
    };
    match pin.declaration.field(by).map(|field| &field.kind) {
        None => Err(QueryError::Invalid(format!(
            "`by` is `{by}`, which is not a field"
        ))),
        Some(FieldType::Json | FieldType::Float { .. }) => Err(QueryError::Invalid(format!(
            "`by` is `{by}`, expected a field that is neither json nor float"
        ))),
        Some(_) => Ok(()),
    }
}

/// The partial of a whole file.
async fn partial(shared: &Shared, pin: &Pin, file: &DataFile) -> Result<Arc<Partial>, QueryError> {
    match shared.partials.get(&pin.declaration, &file.path) {
        Some(partial) => Ok(partial),
        None => Ok(computed(shared, pin, file).await?.0),
    }
}

/// The partials of a file's blocks.
async fn blocks(shared: &Shared, pin: &Pin, file: &DataFile) -> Result<Arc<Blocks>, QueryError> {
    match shared.partials.blocks(&pin.declaration, &file.path) {
        Some(blocks) => Ok(blocks),
        None => Ok(computed(shared, pin, file).await?.1),
    }
}

async fn computed(
    shared: &Shared,
    pin: &Pin,
    file: &DataFile,
) -> Result<(Arc<Partial>, Arc<Blocks>), QueryError> {
    let mut blocks = Blocks::new();
    let columns = Partial::columns(&pin.declaration);
    let schema = projected(pin, &columns);
    let wanted = Wanted {
        from: 0,
        take: None,
        columns: &columns,
    };
    let path = pin.snapshot.directory.join(&file.path);
    let mut found = shared.files.read(&path, file.bytes, wanted).await?;
    while let Some(rows) = found.next().await {
        let rows = schema::conform(&rows?, &schema)?;
        let mut first = 0;
        while first < rows.num_rows() {
            let full = blocks.last().is_none_or(|block| block.count == BLOCK_ROWS);
            if full {
                blocks.push(Partial::new(&pin.declaration, false));
            }
            let Some(block) = blocks.last_mut() else { break };
            let room = usize::try_from(BLOCK_ROWS - block.count).unwrap_or(usize::MAX);
            let end = rows.num_rows().min(first.saturating_add(room));
            block.add(&pin.declaration, &rows, first..end)?;
            first = end;
        }
        tokio::task::yield_now().await;
    }
    Ok(shared.partials.put(&pin.declaration, &file.path, blocks))
}

/// The lake's schema of some columns.
pub(crate) fn projected(pin: &Pin, columns: &[String]) -> Arc<Schema> {
    let lake = schema::lake(&pin.declaration);
    let fields = lake
        .fields()
        .iter()
        .filter(|field| columns.contains(field.name()));
    Arc::new(Schema::new(fields.map(Arc::clone).collect::<Vec<_>>()))
}

/// The beginning of the interval that a moment is in, counted from 1970. The first one before the smallest
/// representable moment begins with that.
fn begin(at: i64, interval: i64) -> i64 {
    at.div_euclid(interval).saturating_mul(interval)
}

impl<'a> Gathering<'a> {
    /// Adds a file: its partial, those of its blocks, or what they leave of its rows.
    async fn add_file(&mut self, shared: &Shared, file: &DataFile) -> Result<(), QueryError> {
        if !self.adds_up() {
            return self.read(shared, file, 0, file.rows).await;
        }
        if let Some(bucket) = self.whole(file.time_min, file.time_max) {
            let partial = partial(shared, self.pin, file).await?;
            return self.add_partial(&partial, bucket);
        }
        let mut unread: Vec<(u64, u64)> = Vec::new();
        let mut first = 0;
        for block in blocks(shared, self.pin, file).await?.iter() {
            if self.question.filter.overlaps(block.first, block.last) {
                match (self.whole(block.first, block.last), unread.last_mut()) {
                    (Some(bucket), _) => self.add_partial(block, bucket)?,
                    (None, Some((start, rows))) if *start + *rows == first => *rows += block.count,
                    (None, _) => unread.push((first, block.count)),
                }
            }
            first += block.count;
        }
        for (first, rows) in unread {
            self.read(shared, file, first, rows).await?;
        }
        Ok(())
    }

    /// Adds a partition's tail, and says how many rows it has: the partials of runs of its records, or what they
    /// leave of its rows.
    async fn add_tail(&mut self, shared: &Shared, range: TailRange) -> Result<u64, QueryError> {
        let stream = &self.pin.declaration;
        shared
            .tail_partials
            .forget(&stream.name, range.partition, range.from);
        let (mut left, mut tail_rows) = (range, 0);
        while left.from < left.to {
            let known = shared.tail_partials.get(&stream.name, left);
            if let Some(block) = known.filter(|_| self.adds_up()) {
                let partial = &block.partial;
                tail_rows += partial.count;
                if self.question.filter.overlaps(partial.first, partial.last) {
                    match self.whole(partial.first, partial.last) {
                        Some(bucket) => self.add_partial(partial, bucket)?,
                        None => {
                            let run = TailRange { to: block.to, ..left };
                            self.add_records(shared, run, None).await?;
                        }
                    }
                }
                left.from = block.to;
                continue;
            }
            let (at, rows) = self
                .add_records(shared, left, Some(&shared.tail_partials))
                .await?;
            tail_rows += rows;
            if at == left.from {
                return Err(QueryError::Storage(format!("the tail ends at offset {at}")));
            }
            left.from = at;
        }
        Ok(tail_rows)
    }

    /// Reads records up to the end of the range, or up to a run that is known, and keeps the runs on the way. Gives
    /// the offset behind the last one, and how many rows they have.
    async fn add_records(
        &mut self,
        shared: &Shared,
        range: TailRange,
        keep: Option<&TailPartials>,
    ) -> Result<(Offset, u64), QueryError> {
        let stream = &self.pin.declaration;
        let keep = keep.filter(|_| self.adds_up());
        let mut records = shared.pinner.tail.read(stream, range);
        let (mut begin, mut at, mut count) = (range.from, range.from, 0);
        let mut run = Partial::new(stream, false);
        while let Some(rows) = records.next().await {
            let rows = rows?;
            self.add(&rows)?;
            (at, count) = (at.next(), count + rows.num_rows() as u64);
            let Some(keep) = keep else { continue };
            run.add(stream, &rows, 0..rows.num_rows())?;
            if run.count >= tail_partials::BLOCK_ROWS {
                let partial = std::mem::replace(&mut run, Partial::new(stream, false));
                keep.put(
                    &stream.name,
                    range.partition,
                    begin,
                    TailBlock { to: at, partial },
                );
                begin = at;
                if keep.get(&stream.name, TailRange { from: at, ..range }).is_some() {
                    break;
                }
            }
        }
        Ok((at, count))
    }

    /// Whether the answer is a sum of partials, which know neither the values of fields nor groups by them.
    fn adds_up(&self) -> bool {
        let filter = &self.question.filter;
        !self.question.exact && self.question.by.is_none() && filter.equal.is_empty() && filter.any.is_empty()
    }

    /// Whether all rows with times within [min, max] are wanted, and in which interval they are where they must be in
    /// one.
    fn whole(&self, min: Option<i64>, max: Option<i64>) -> Option<Option<i64>> {
        let (stream, filter) = (&self.pin.declaration, &self.question.filter);
        let timed = filter.start.is_some() || filter.end.is_some() || self.question.interval.is_some();
        let time = stream.field(stream.time_column());
        if !filter.covers(min, max) || (timed && time.is_some_and(|field| field.optional)) {
            return None;
        }
        let Some(interval) = self.question.interval else {
            return Some(None);
        };
        let (first, last) = (begin(min?, interval), begin(max?, interval));
        (first == last).then_some(Some(first))
    }

    fn add_partial(&mut self, partial: &Partial, bucket: Option<i64>) -> Result<(), QueryError> {
        self.total.merge(partial);
        if bucket.is_some() {
            self.group((bucket, None))?.merge(partial);
        }
        Ok(())
    }

    /// Reads rows of a file, as far as they can be of the answer.
    async fn read(
        &mut self,
        shared: &Shared,
        file: &DataFile,
        first: u64,
        rows: u64,
    ) -> Result<(), QueryError> {
        let mut columns = Partial::columns(&self.pin.declaration);
        columns.extend(self.question.filter.columns(self.pin.declaration.time_column()));
        columns.extend(self.question.by.clone());
        columns.sort_unstable();
        columns.dedup();
        let schema = projected(self.pin, &columns);
        let path = self.pin.snapshot.directory.join(&file.path);
        let part = first..first + rows;
        for (first, rows) in stretches(shared, self.pin, file, part, &self.question.filter).await? {
            let wanted = Wanted {
                from: first,
                take: usize::try_from(rows).ok(),
                columns: &columns,
            };
            let mut found = shared.files.read(&path, file.bytes, wanted).await?;
            while let Some(rows) = found.next().await {
                self.add(&schema::conform(&rows?, &schema)?)?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// The aggregates of a group.
    fn group(&mut self, key: GroupKey) -> Result<&mut Partial, QueryError> {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            return Err(QueryError::TooLarge(format!(
                "there are more than {GROUPS_MAX} groups"
            )));
        }
        let (stream, exact) = (&self.pin.declaration, self.question.exact);
        Ok(self
            .groups
            .entry(key)
            .or_insert_with(|| Partial::new(stream, exact)))
    }

    fn add(&mut self, rows: &RecordBatch) -> Result<(), QueryError> {
        let pin: &'a Pin = self.pin;
        let stream = &pin.declaration;
        let mask = self.question.filter.mask(rows, stream.time_column())?;
        let picked = (0..rows.num_rows()).filter(|row| mask.as_ref().is_none_or(|mask| mask.value(*row)));
        let picked: Vec<usize> = picked.collect();
        self.total.add(stream, rows, picked.iter().copied())?;
        if self.question.interval.is_none() && self.question.by.is_none() {
            return Ok(());
        }
        let times = column(rows, stream.time_column())?.as_primitive::<TimestampMicrosecondType>();
        let by = self.question.by.as_ref().map(|by| column(rows, by)).transpose()?;
        let mut members: BTreeMap<GroupKey, Vec<usize>> = BTreeMap::new();
        for row in picked {
            let bucket = self.question.interval.filter(|_| times.is_valid(row));
            let bucket = bucket.map(|interval| begin(times.value(row), interval));
            let value = match by {
                Some(values) => {
                    let mut text = Vec::new();
                    write_value(&mut text, values, row)?;
                    Some(text)
                }
                None => None,
            };
            members.entry((bucket, value)).or_default().push(row);
        }
        for (group, members) in members {
            self.group(group)?.add(stream, rows, members.into_iter())?;
        }
        Ok(())
    }

    fn answer(self, grouped: bool) -> Result<Value, QueryError> {
        let stream = &self.pin.declaration;
        let mut answer = Map::new();
        answer.insert("stream".to_owned(), json!(stream.name.as_str()));
        answer.extend(self.total.to_answer(stream));
        if grouped {
            let mut groups = Vec::with_capacity(self.groups.len());
            for ((bucket, value), partial) in &self.groups {
                let mut group = Map::new();
                if self.question.interval.is_some() {
                    group.insert("start".to_owned(), json!(bucket.map(rfc3339)));
                }
                if let (Some(by), Some(value)) = (&self.question.by, value) {
                    let value: Value = serde_json::from_slice(value)
                        .map_err(|error| QueryError::Storage(format!("group of `{by}`: {error}")))?;
                    group.insert(by.clone(), value);
                }
                group.extend(partial.to_answer(stream));
                groups.push(Value::Object(group));
            }
            answer.insert("groups".to_owned(), Value::Array(groups));
        }
        answer.insert("as_of".to_owned(), as_of(&[self.pin]));
        Ok(Value::Object(answer))
    }
}
