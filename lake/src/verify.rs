//! Comparing a table's files with what its log says about them, by reading every file.
//!
//! Of each file the footer is read, and the columns that say which record a row came from: offsets follow each
//! other without a gap or repeat (I-2), rows of a record are numbered from 0, and the last offset is the one before
//! the stored position.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::schema::{OFFSET, PARTITION, ROW};

use crate::snapshot::{DataFile, Snapshot};
use crate::storage::Storage;

/// Rows that are looked at at once.
const BATCH_ROWS: usize = 8_192;

/// Most problems that are described; more would only hide the first one.
const PROBLEMS_MAX: usize = 100;

/// What [`Table::verify`](crate::Table::verify) found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The version that was looked at.
    pub version: u64,
    /// How many files.
    pub files: u64,
    /// How many events.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What is wrong, one sentence each, the first ones; empty when all is well.
    pub problems: Vec<String>,
}

/// The row that a partition has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    row: i32,
}

/// Reads all files of a version. At the indexes in `adopted` offsets may begin anew.
pub(crate) fn verify(storage: &Storage, snapshot: &Snapshot, adopted: &[u64]) -> VerifyReport {
    let mut report = VerifyReport {
        version: snapshot.version,
        ..VerifyReport::default()
    };
    let mut order = Order {
        adopted,
        seen: BTreeMap::new(),
    };
    for file in snapshot.files.iter() {
        report.files += 1;
        report.rows += file.rows;
        report.bytes += file.bytes;
        if let Err(problem) = verify_file(storage, file, &mut order) {
            report.problems.push(format!("`{}` {problem}", file.path));
            // What follows a file that cannot be read is not compared with what came before it.
            order.seen.clear();
        }
        if report.problems.len() >= PROBLEMS_MAX {
            return report;
        }
    }
    for (partition, seen) in order.seen {
        let stored = snapshot
            .positions
            .iter()
            .find(|position| i32::try_from(position.partition.0).is_ok_and(|number| number == partition));
        let stored = stored.map(|position| position.offset.0);
        if stored != u64::try_from(seen.offset).ok().map(|offset| offset + 1) {
            report.problems.push(format!(
                "partition {partition} ends with offset {}, its stored position is {}",
                seen.offset,
                stored.map_or("absent".to_owned(), |stored| stored.to_string()),
            ));
        }
    }
    report
}

fn verify_file(storage: &Storage, listed: &DataFile, order: &mut Order<'_>) -> Result<(), String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("is not readable: {error}");
    let bytes = storage.size(&listed.path).map_err(|error| unreadable(&error))?;
    let bytes = bytes.ok_or_else(|| unreadable(&"it is not there"))?;
    if bytes != listed.bytes {
        return Err(format!("has {bytes} bytes, the log says {}", listed.bytes));
    }
    let opened = storage.open(&listed.path, bytes, BATCH_ROWS, Some(&[PARTITION, OFFSET, ROW]));
    let opened = opened.map_err(|error| unreadable(&error))?;
    if u64::try_from(opened.rows) != Ok(listed.rows) {
        return Err(format!("has {} rows, the log says {}", opened.rows, listed.rows));
    }
    let mut index = listed.first_index;
    for rows in opened.reader {
        let rows = rows.map_err(|error| unreadable(&error))?;
        order.follow(&rows, index)?;
        index += rows.num_rows() as u64;
    }
    if index - listed.first_index == listed.rows {
        Ok(())
    } else {
        Err(format!(
            "gives {} rows, the log says {}",
            index - listed.first_index,
            listed.rows
        ))
    }
}

/// How far each partition is.
struct Order<'a> {
    adopted: &'a [u64],
    seen: BTreeMap<i32, Seen>,
}

impl Order<'_> {
    /// Looks at rows of which the first one has an index.
    fn follow(&mut self, rows: &RecordBatch, first: u64) -> Result<(), String> {
        let column = |name: &str| {
            rows.column_by_name(name)
                .ok_or_else(|| format!("has no column `{name}`"))
        };
        let other = |name: &str| format!("has a column `{name}` of another type");
        let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>();
        let partitions = partitions.ok_or_else(|| other(PARTITION))?;
        let offsets = column(OFFSET)?.as_primitive_opt::<Int64Type>();
        let offsets = offsets.ok_or_else(|| other(OFFSET))?;
        let numbers = column(ROW)?.as_primitive_opt::<Int32Type>();
        let numbers = numbers.ok_or_else(|| other(ROW))?;
        for (index, ((partition, offset), row)) in (first..).zip(
            partitions
                .values()
                .iter()
                .zip(offsets.values())
                .zip(numbers.values()),
        ) {
            if self.adopted.contains(&index) {
                self.seen.clear();
            }
            let next = Seen {
                offset: *offset,
                row: *row,
            };
            if let Some(last) = self.seen.insert(*partition, next)
                && !follows(last, next)
            {
                return Err(format!(
                    "has offset {} row {} of partition {partition} after offset {} row {}",
                    next.offset, next.row, last.offset, last.row
                ));
            }
        }
        Ok(())
    }
}

fn follows(last: Seen, next: Seen) -> bool {
    (next.offset == last.offset && next.row == last.row + 1)
        || (next.offset == last.offset + 1 && next.row == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_each_other_within_a_record_and_into_the_next_one() {
        let seen = |offset, row| Seen { offset, row };
        assert!(follows(seen(3, 0), seen(3, 1)));
        assert!(follows(seen(3, 1), seen(4, 0)));
        assert!(!follows(seen(3, 1), seen(3, 1)));
        assert!(!follows(seen(3, 1), seen(5, 0)));
        assert!(!follows(seen(3, 1), seen(4, 1)));
    }
}
