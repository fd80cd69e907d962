//! Exact partial aggregates of some rows: they add up, so those of an immutable file are made once.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use event::moment::rfc3339;
use event::{FieldType, StreamDeclaration};
use serde_json::{Map, Value, json};

use crate::QueryError;
use crate::json::write_value;
use crate::parameters::column;
use crate::sketch::{STANDARD_ERROR, Sketch};

/// Most different keys that `exact=true` counts, in one answer.
const EXACT_KEYS_MAX: usize = 2_000_000;

/// Count, bounds and sum of one numeric field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// 64-bit integers; the sum cannot wrap.
    Ints {
        count: u64,
        min: i64,
        max: i64,
        sum: i128,
    },
    /// Doubles.
    Floats {
        count: u64,
        min: f64,
        max: f64,
        sum: f64,
    },
}

/// The aggregates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Partial {
    pub(crate) count: u64,
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) numbers: Vec<(String, Numbers)>,
    pub(crate) keys: Sketch,
    /// Only for `exact=true`.
    pub(crate) exact: Option<HashSet<Box<[u8]>>>,
}

impl Partial {
    /// Of no rows.
    pub(crate) fn new(stream: &StreamDeclaration, exact: bool) -> Self {
        let numbers = stream.fields.iter().filter_map(|field| {
            let empty = match field.kind {
                FieldType::Int { .. } => Numbers::Ints {
                    count: 0,
                    min: i64::MAX,
                    max: i64::MIN,
                    sum: 0,
                },
                FieldType::Float { .. } => Numbers::Floats {
                    count: 0,
                    min: f64::INFINITY,
                    max: f64::NEG_INFINITY,
                    sum: 0.0,
                },
                _ => return None,
            };
            Some((field.name.clone(), empty))
        });
        Self {
            count: 0,
            first: None,
            last: None,
            numbers: numbers.collect(),
            keys: Sketch::default(),
            exact: exact.then(HashSet::new),
        }
    }

    /// The columns that [`add`](Self::add) looks at.
    pub(crate) fn columns(stream: &StreamDeclaration) -> Vec<String> {
        let numeric = |kind: &FieldType| matches!(kind, FieldType::Int { .. } | FieldType::Float { .. });
        let fields = stream.fields.iter().filter(|field| numeric(&field.kind));
        let mut columns: Vec<String> = fields.map(|field| field.name.clone()).collect();
        columns.push(stream.time_column().to_owned());
        columns.extend(stream.key.clone());
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Adds the rows of `rows` that `picked` lists.
    pub(crate) fn add(
        &mut self,
        stream: &StreamDeclaration,
        rows: &RecordBatch,
        picked: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), QueryError> {
        self.count += picked.clone().count() as u64;
        let times = column(rows, stream.time_column())?.as_primitive::<TimestampMicrosecondType>();
        for row in picked.clone().filter(|row| times.is_valid(*row)) {
            let at = times.value(row);
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
            self.last = Some(self.last.map_or(at, |last| last.max(at)));
        }
        for (name, numbers) in &mut self.numbers {
            let values = column(rows, name)?;
            let valid = picked.clone().filter(|row| values.is_valid(*row));
            match numbers {
                Numbers::Ints { count, min, max, sum } => {
                    let values = values.as_primitive::<Int64Type>();
                    for value in valid.map(|row| values.value(row)) {
                        (*count, *sum) = (*count + 1, *sum + i128::from(value));
                        (*min, *max) = ((*min).min(value), (*max).max(value));
                    }
                }
                Numbers::Floats { count, min, max, sum } => {
                    let values = values.as_primitive::<Float64Type>();
                    for value in valid.map(|row| values.value(row)) {
                        (*count, *sum) = (*count + 1, *sum + value);
                        (*min, *max) = (min.min(value), max.max(value));
                    }
                }
            }
        }
        let Some(key) = &stream.key else {
            return Ok(());
        };
        let keys = column(rows, key)?;
        let valid = picked.filter(|row| keys.is_valid(*row));
        if let Some(texts) = keys.as_string_opt::<i32>() {
            for row in valid {
                self.add_key(texts.value(row).as_bytes())?;
            }
            return Ok(());
        }
        let mut bytes = Vec::new();
        for row in valid {
            bytes.clear();
            write_value(&mut bytes, keys, row)?;
            self.add_key(&bytes)?;
        }
        Ok(())
    }

    fn add_key(&mut self, key: &[u8]) -> Result<(), QueryError> {
        self.keys.add(key);
        if let Some(exact) = &mut self.exact
            && !exact.contains(key)
        {
            if exact.len() >= EXACT_KEYS_MAX {
                return Err(QueryError::TooLarge(format!(
                    "there are more than {EXACT_KEYS_MAX} keys: ask without `exact`, or in SQL"
                )));
            }
            exact.insert(key.into());
        }
        Ok(())
    }

    /// Adds another's rows.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = [self.last, other.last].into_iter().flatten().max();
        self.keys.merge(&other.keys);
        for (name, mine) in &mut self.numbers {
            let theirs = other.numbers.iter().find(|(other, _)| other == name);
            match (mine, theirs.map(|(_, numbers)| numbers)) {
                (
                    Numbers::Ints { count, min, max, sum },
                    Some(Numbers::Ints {
                        count: count_,
                        min: min_,
                        max: max_,
                        sum: sum_,
                    }),
                ) => {
                    (*count, *sum) = (*count + count_, *sum + sum_);
                    (*min, *max) = ((*min).min(*min_), (*max).max(*max_));
                }
                (
                    Numbers::Floats { count, min, max, sum },
                    Some(Numbers::Floats {
                        count: count_,
                        min: min_,
                        max: max_,
                        sum: sum_,
                    }),
                ) => {
                    (*count, *sum) = (*count + count_, *sum + sum_);
                    (*min, *max) = (min.min(*min_), max.max(*max_));
                }
                _ => {}
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.exact, &other.exact) {
            mine.extend(theirs.iter().cloned());
        }
    }

    /// As an answer gives it.
    pub(crate) fn to_answer(&self, stream: &StreamDeclaration) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("count".to_owned(), json!(self.count));
        answer.insert("first".to_owned(), json!(self.first.map(rfc3339)));
        answer.insert("last".to_owned(), json!(self.last.map(rfc3339)));
        if let Some(key) = &stream.key {
            let distinct = match &self.exact {
                Some(keys) => json!({"field": key, "distinct": keys.len(), "exact": true}),
                None => json!({"field": key, "distinct": self.keys.estimate(), "exact": false,
                    "standard_error": STANDARD_ERROR}),
            };
            answer.insert("key".to_owned(), distinct);
        }
        let fields = self
            .numbers
            .iter()
            .map(|(name, numbers)| (name.clone(), numbers.to_answer()));
        answer.insert("fields".to_owned(), Value::Object(fields.collect()));
        answer
    }
}

impl Numbers {
    fn to_answer(&self) -> Value {
        match self {
            Self::Ints { count: 0, .. } | Self::Floats { count: 0, .. } => {
                json!({"count": 0, "min": null, "max": null, "sum": null, "avg": null})
            }
            Self::Ints { count, min, max, sum } => json!({"count": count, "min": min, "max": max,
                "sum": integer(*sum), "avg": *sum as f64 / *count as f64}),
            Self::Floats { count, min, max, sum } => {
                json!({"count": count, "min": min, "max": max, "sum": sum, "avg": sum / *count as f64})
            }
        }
    }
}

/// An integer as SQL answers give it too ([`write_integer`](crate::json::write_integer)).
fn integer(value: i128) -> Value {
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => json!(value),
        (_, Ok(value)) => json!(value),
        _ => json!(value.to_string()),
    }
}
