//! Whether a dictionary pays for a text column, decided by the first rows of a row group.
//!
//! A hundred thousand users hardly repeat in a sample of 16,384 rows, and nine of ten rows of a row group are of a user
//! that it has already. So what counts is not how many values of the sample are distinct, but how many of the row group
//! will be: by Chao's estimator, from the values that the sample has once and twice (A. Chao, Nonparametric estimation
//! of the number of classes in a population, 1984, with the correction of bias), and as if all of them were equally
//! frequent.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use event::schema::IdText;

/// Rows that are looked at.
pub(super) const SAMPLE_ROWS: usize = 16_384;
/// A dictionary pays when at most this share of a row group's values is distinct.
const DISTINCT_SHARE_MAX: f64 = 0.5;
/// Bytes of a dictionary beside those of each value.
const LENGTH_BYTES: f64 = 4.0;

/// What the first rows say of one column.
#[derive(Debug, Default)]
struct Sample {
    rows: usize,
    bytes: usize,
    /// How often each value was there, by its hash.
    counts: HashMap<u64, u32>,
}

/// About how many different values a text column of so many rows has, of which these are the first, when it repeats
/// itself enough for a dictionary of at most so many bytes.
pub(super) fn repetition(
    sample: &[RecordBatch],
    column: usize,
    rows: usize,
    bytes_max: usize,
) -> Option<f64> {
    let sample = Sample::of(sample, column)?;
    let distinct = sample.distinct_among(rows.max(sample.rows));
    let value_bytes = sample.bytes as f64 / sample.rows.max(1) as f64 + LENGTH_BYTES;
    let pays = distinct <= rows.max(sample.rows) as f64 * DISTINCT_SHARE_MAX
        && distinct * value_bytes <= bytes_max as f64;
    pays.then_some(distinct)
}

impl Sample {
    /// None of a column that is no text in the lake.
    fn of(batches: &[RecordBatch], column: usize) -> Option<Self> {
        let hashes = RandomState::new();
        let mut sample = Self::default();
        for rows in batches {
            let length = IdText::of(rows.schema_ref().field(column).name()).length();
            let column = rows.column(column);
            let taken = column.len().min(SAMPLE_ROWS - sample.rows);
            sample.rows += taken;
            if let Some(ids) = column.as_fixed_size_binary_opt() {
                let ids = ids.iter().take(taken).flatten();
                ids.for_each(|id| sample.add(hashes.hash_one(id), length));
            } else {
                let texts = column.as_string_opt::<i32>()?.iter().take(taken).flatten();
                texts.for_each(|text| sample.add(hashes.hash_one(text), text.len()));
            }
        }
        Some(sample)
    }

    fn add(&mut self, hash: u64, bytes: usize) {
        self.bytes += bytes;
        *self.counts.entry(hash).or_default() += 1;
    }

    /// About how many different values so many rows have.
    fn distinct_among(&self, rows: usize) -> f64 {
        let seen = self.counts.len() as f64;
        if rows <= self.rows {
            return seen;
        }
        let times = |times| self.counts.values().filter(|count| **count == times).count() as f64;
        let (once, twice) = (times(1), times(2));
        let all = seen + once * (once - 1.0).max(0.0) / (2.0 * (twice + 1.0));
        // Those of `all` that so many draws meet.
        (all * -(-(rows as f64) / all.max(1.0)).exp_m1()).max(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray};
    use rand::{RngExt, SeedableRng};

    use super::*;

    const ROW_GROUP: usize = 1 << 20;
    const DICTIONARY: usize = 16 << 20;

    fn sample(values: impl Iterator<Item = String>) -> Vec<RecordBatch> {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(values.take(SAMPLE_ROWS)));
        vec![RecordBatch::try_from_iter([("text", texts)]).expect("a batch")]
    }

    fn repeats(sample: &[RecordBatch], rows: usize, bytes_max: usize) -> bool {
        repetition(sample, 0, rows, bytes_max).is_some()
    }

    fn drawn(users: u64) -> Vec<RecordBatch> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(users);
        sample((0..).map(move |_| format!("{:036}", random.random_range(0..users))))
    }

    #[test]
    fn a_hundred_thousand_users_repeat_in_a_row_group_though_hardly_in_its_first_rows() {
        let first = drawn(100_000);
        let found = Sample::of(&first, 0).expect("texts");
        assert!(found.counts.len() > SAMPLE_ROWS * 9 / 10);
        let among = found.distinct_among(ROW_GROUP);
        assert!((80_000.0..120_000.0).contains(&among), "{among}");
        assert!(repeats(&first, ROW_GROUP, DICTIONARY));
    }

    #[test]
    fn values_that_are_all_different_get_no_dictionary_and_neither_do_too_many_or_too_long_ones() {
        let different = sample((0..).map(|number: u64| number.to_string()));
        assert!(!repeats(&different, ROW_GROUP, DICTIONARY));
        assert!(!repeats(&drawn(5_000_000), ROW_GROUP, DICTIONARY));
        // Of these half of the rows repeat, but not in so few bytes.
        assert!(!repeats(&drawn(100_000), ROW_GROUP, 1 << 20));
    }

    #[test]
    fn a_few_frequent_values_do_not_hide_that_the_others_are_all_different() {
        let mixed = (0..).map(|row: u64| {
            if row.is_multiple_of(2) {
                "frequent".to_owned()
            } else {
                row.to_string()
            }
        });
        assert!(!repeats(&sample(mixed), ROW_GROUP, DICTIONARY));
    }

    #[test]
    fn a_row_group_that_is_no_longer_than_its_sample_is_judged_by_what_it_has() {
        let first = drawn(100_000);
        assert!(!repeats(&first, SAMPLE_ROWS, DICTIONARY));
        assert!(repeats(&drawn(1_000), SAMPLE_ROWS, DICTIONARY));
        assert!(repeats(&[], 0, DICTIONARY));
    }
}
