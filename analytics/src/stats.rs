//! Counts, bounds, sums, distinct keys of a stream; by interval, by field.
//!
//! Without a filter they are the sum of each file's partial, computed once, and the tail. With a time range only
//! files at its edges are read, and of them only pages that can hold a row of it; with `interval` also files that
//! lie across the edge of an interval. With `by` all files of the range are read. Always only the columns needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;
use event::moment::rfc3339;
use event::{FieldType, schema};
use futures::StreamExt;
use lake::DataFile;
use serde_json::{Map, Value, json};

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::json::write_value;
use crate::parameters::{Filter, column};
use crate::partial::Partial;
use crate::pin::Pin;
use crate::sql::as_of;
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
        if !question.filter.overlaps(file.time_min, file.time_max) {
            continue;
        }
        let whole =
            !question.exact && question.by.is_none() && question.filter.covers(file.time_min, file.time_max);
        match question.interval {
            _ if !whole => gathering.read(shared, file).await?,
            None => gathering.total.merge(&*partial(shared, &pin, file).await?),
            Some(interval) => match gathering.one_interval(file, interval) {
                Some(bucket) => {
                    let partial = partial(shared, &pin, file).await?;
                    gathering.total.merge(&partial);
                    gathering.group((Some(bucket), None))?.merge(&partial);
                }
                None => gathering.read(shared, file).await?,
            },
        }
    }
    let mut tail = shared.pinner.tail.read_pin(&pin);
    let mut tail_rows = 0;
    while let Some(rows) = tail.next().await {
        let rows = rows?;
        tail_rows += rows.num_rows();
        gathering.add(&rows)?;
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
    if let Some(partial) = shared.partials.get(&pin.declaration, &file.path) {
        return Ok(partial);
    }
    let mut partial = Partial::new(&pin.declaration, false);
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
        partial.add(&pin.declaration, &rows, 0..rows.num_rows())?;
        tokio::task::yield_now().await;
    }
    Ok(shared.partials.put(&pin.declaration, &file.path, partial))
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
    async fn read(&mut self, shared: &Shared, file: &DataFile) -> Result<(), QueryError> {
        let mut columns = Partial::columns(&self.pin.declaration);
        columns.extend(self.question.filter.columns(self.pin.declaration.time_column()));
        columns.extend(self.question.by.clone());
        columns.sort_unstable();
        columns.dedup();
        let schema = projected(self.pin, &columns);
        let path = self.pin.snapshot.directory.join(&file.path);
        for (first, rows) in stretches(shared, self.pin, file, 0, &self.question.filter).await? {
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

    /// The interval that all rows of the file are in, if there is one and each row has a time.
    fn one_interval(&self, file: &DataFile, interval: i64) -> Option<i64> {
        let stream = &self.pin.declaration;
        if stream
            .field(stream.time_column())
            .is_some_and(|field| field.optional)
        {
            return None;
        }
        let bucket = |at: i64| begin(at, interval);
        let (first, last) = (bucket(file.time_min?), bucket(file.time_max?));
        (first == last).then_some(first)
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
