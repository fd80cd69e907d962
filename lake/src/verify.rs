//! Comparing a table's files with what its log says about them, by reading every file.
//!
//! Of each file the footer is read, and the columns that say which record a row came from: offsets follow each
//! other without a gap or repeat (I-2), rows of a record are numbered from 0, and the last offset is the one before
//! the stored position. A stream that other programs may fill has offsets without an event, so there gaps are right. Rows that another stream's messages brought to `_rejects` are compared among themselves: the
//! offsets of one partition of a stream rise, and begin anew only when another journal brought them.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::schema::{OFFSET, PARTITION, ROW, ROW_OF_OTHERS};
use event::{Partition, RecordFormat, StreamDeclaration, StreamName};

use crate::snapshot::{DataFile, Snapshot};
use crate::storage::Storage;
use crate::table::{Sources, journals_of};

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

/// The column of `_rejects` that names the stream.
const STREAM: &str = "stream";

/// What is read of each file of `_rejects`; of other tables all but the last one.
const COLUMNS: [&str; 4] = [PARTITION, OFFSET, ROW, STREAM];

/// What a version is compared with.
pub(crate) struct Expected<'a> {
    /// The stream of the table.
    pub(crate) stream: &'a StreamDeclaration,
    /// The version.
    pub(crate) snapshot: &'a Snapshot,
    /// Indexes at which offsets may begin anew.
    pub(crate) adopted: &'a [u64],
    /// How far it is with other streams' messages.
    pub(crate) sources: &'a Sources,
}

impl Expected<'_> {
    /// What may be left out.
    fn gaps(&self) -> Gaps {
        match (&self.stream.unique, self.stream.format) {
            (Some(_), _) => Gaps::Rows,
            (None, RecordFormat::Json) => Gaps::Records,
            (None, RecordFormat::Record) => Gaps::Nothing,
        }
    }
}

/// What of a partition may not be in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gaps {
    /// Every row of every record is there.
    Nothing,
    /// Messages that are no events are not.
    Records,
    /// Nor are rows whose id is known, where ids are unique.
    Rows,
}

/// The row that a partition has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    row: i32,
}

/// Reads all files of a version.
pub(crate) fn verify(storage: &Storage, expected: &Expected<'_>) -> VerifyReport {
    let snapshot = expected.snapshot;
    let mut report = VerifyReport {
        version: snapshot.version,
        ..VerifyReport::default()
    };
    let mut order = Order {
        expected,
        seen: BTreeMap::new(),
        others: BTreeMap::new(),
    };
    for file in snapshot.files.iter() {
        report.files += 1;
        report.rows += file.rows;
        report.bytes += file.bytes;
        if let Err(problem) = verify_file(storage, file, &mut order) {
            report.problems.push(format!("`{}` {problem}", file.path));
            // What follows a file that cannot be read is not compared with what came before it.
            order.seen.clear();
            order.others.clear();
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
        let after = u64::try_from(seen.offset).ok().map(|offset| offset + 1);
        if stored != after && !(expected.gaps() != Gaps::Nothing && stored > after) {
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
    let opened = storage.open(&listed.path, bytes, BATCH_ROWS, Some(order.columns()));
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
    expected: &'a Expected<'a>,
    seen: BTreeMap<i32, Seen>,
    /// Of each partition of another stream the last offset, and how often offsets fell.
    others: BTreeMap<(String, i32), (i64, usize)>,
}

impl Order<'_> {
    fn columns(&self) -> &'static [&'static str] {
        let count = if self.expected.stream.name == StreamName::rejects() {
            4
        } else {
            3
        };
        &COLUMNS[..count]
    }

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
        let streams = rows
            .column_by_name(STREAM)
            .and_then(|streams| streams.as_string_opt::<i32>());
        for (index, ((partition, offset), row)) in (first..).zip(
            partitions
                .values()
                .iter()
                .zip(offsets.values())
                .zip(numbers.values()),
        ) {
            if self.expected.adopted.contains(&index) {
                self.seen.clear();
            }
            if *row == ROW_OF_OTHERS
                && let Some(streams) = streams
            {
                let row = usize::try_from(index - first).map_err(|error| error.to_string())?;
                self.follow_other(streams.value(row), *partition, *offset)?;
                continue;
            }
            let next = Seen {
                offset: *offset,
                row: *row,
            };
            if let Some(last) = self.seen.insert(*partition, next)
                && !follows(last, next, self.expected.gaps())
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

impl Order<'_> {
    /// Looks at a row that a message of another stream brought.
    fn follow_other(&mut self, stream: &str, partition: i32, offset: i64) -> Result<(), String> {
        let number = u32::try_from(partition).map(Partition);
        let number = number.map_err(|_| format!("has a row of partition {partition}"))?;
        let known = self.others.entry((stream.to_owned(), partition));
        let (last, fell) = known.or_insert((-1, 0));
        let fallen = std::mem::replace(last, offset) >= offset;
        *fell += usize::from(fallen);
        if fallen && *fell >= journals_of(self.expected.sources, stream, number) {
            return Err(format!(
                "has offset {offset} of partition {partition} of stream `{stream}` after a later one or itself"
            ));
        }
        Ok(())
    }
}

fn follows(last: Seen, next: Seen, gaps: Gaps) -> bool {
    match gaps {
        Gaps::Nothing => {
            (next.offset == last.offset && next.row == last.row + 1)
                || (next.offset == last.offset + 1 && next.row == 0)
        }
        Gaps::Records => follows(last, next, Gaps::Nothing) || (next.offset > last.offset && next.row == 0),
        Gaps::Rows => next.row >= 0 && (next.offset, next.row) > (last.offset, last.row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_each_other_within_a_record_and_into_the_next_one() {
        let seen = |offset, row| Seen { offset, row };
        for gaps in [Gaps::Nothing, Gaps::Records, Gaps::Rows] {
            assert!(follows(seen(3, 0), seen(3, 1), gaps));
            assert!(follows(seen(3, 1), seen(4, 0), gaps));
            assert!(!follows(seen(3, 1), seen(3, 1), gaps));
            assert!(!follows(seen(3, 1), seen(3, 0), gaps));
            assert_eq!(follows(seen(3, 1), seen(5, 0), gaps), gaps != Gaps::Nothing);
            assert_eq!(follows(seen(3, 1), seen(4, 1), gaps), gaps == Gaps::Rows);
            assert_eq!(follows(seen(3, 1), seen(3, 5), gaps), gaps == Gaps::Rows);
            assert!(!follows(seen(3, 1), seen(2, 0), gaps));
        }
    }
}
