//! Where a rollup goes on: behind its last valid row, wherever that is.
//!
//! The journal gives valid records only, so it is the last that it gives. What the journal has removed is in the lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use event::stream::rollup::{SOURCE, WINDOW_END};
use event::{Offset, Partition, Position, StreamDeclaration, schema};
use journal::{Decoded, Journal, Record, RecordDecoder};
use lake::Table;
use serde::{Deserialize, Serialize};

use super::error::RollupError;
use super::window::{Place, Range};

/// Bytes of records that are read at once.
const READ_BYTES: usize = 1 << 20;

/// The end of a rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// The offset of the last valid record.
    pub(super) last: Option<u64>,
    /// Where the journal ends; everything below was looked at.
    pub(super) end: u64,
    /// The journal that the places are in.
    pub(super) journal: Option<String>,
    /// Up to where the rows reach, by partition.
    pub(super) places: BTreeMap<u32, Place>,
    /// When the last window ended.
    pub(super) window_end: i64,
}

/// The field `source` of a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SourceRange {
    journal: String,
    ranges: Vec<PartitionRange>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PartitionRange {
    partition: u32,
    from: u64,
    from_row: u32,
    to: u64,
    to_row: u32,
}

impl SourceRange {
    pub(super) fn new(journal: &str, ranges: &[Range]) -> Self {
        let range = |range: &Range| PartitionRange {
            partition: range.partition,
            from: range.from.offset,
            from_row: range.from.row,
            to: range.to.offset,
            to_row: range.to.row,
        };
        Self {
            journal: journal.to_owned(),
            ranges: ranges.iter().map(range).collect(),
        }
    }
}

/// Finds the end of a rollup.
pub(super) async fn find(
    journal: &dyn Journal,
    rollup: &Arc<StreamDeclaration>,
    table: Option<&Arc<Table>>,
) -> Result<Tip, RollupError> {
    let ends = journal.end(&rollup.name).await?;
    let end = ends.first().map_or(Offset(0), |end| end.offset);
    let starts = journal.start(&rollup.name).await?;
    let start = starts.first().map_or(0, |start| start.offset.0);
    let (mut from, mut back) = (end.0.saturating_sub(1).max(start), 1_u64);
    while from < end.0 {
        if let Some(record) = last_record(journal, rollup, Offset(from), end).await? {
            let mut decoder = RecordDecoder::new(Arc::clone(rollup));
            let Decoded::Batch(batch) = decoder.decode(&record)? else {
                return Err(RollupError::Rows("the last record holds no row".to_owned()));
            };
            return tip_of(&batch.rows, record.offset.0, end.0);
        }
        if from == start {
            break;
        }
        back = back.saturating_mul(4);
        from = (end.0 - 1).saturating_sub(back).max(start);
    }
    if start == 0 {
        return Ok(Tip {
            end: end.0,
            ..Tip::default()
        });
    }
    match table {
        Some(table) => find_in_lake(table, end).await,
        None => Err(RollupError::NoTip(end.0)),
    }
}

/// The last valid record of a range.
async fn last_record(
    journal: &dyn Journal,
    rollup: &StreamDeclaration,
    from: Offset,
    end: Offset,
) -> Result<Option<Record>, RollupError> {
    let from = Position::new(Partition(0), from);
    let mut reader = journal.reader(&rollup.name, from).await?;
    let mut last = None;
    while reader.position().offset < end {
        for record in reader.next(READ_BYTES).await? {
            if record.offset < end && record.bytes() > 0 {
                last = Some(record);
            }
        }
    }
    Ok(last)
}

async fn find_in_lake(table: &Arc<Table>, end: Offset) -> Result<Tip, RollupError> {
    let mut back = 1_u64;
    loop {
        let stored = table
            .partition_rows(Position::new(Partition(0), end))
            .await?
            .end();
        let from = stored.0.saturating_sub(back);
        let mut rows = table
            .partition_rows(Position::new(Partition(0), Offset(from)))
            .await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut last = None;
            while let Some(batch) = rows.next_rows()? {
                last = Some(batch).filter(|batch| batch.num_rows() > 0).or(last);
            }
            Ok::<_, RollupError>(last)
        });
        let last = read
            .await
            .map_err(|error| RollupError::Thread(error.to_string()))??;
        if let Some(batch) = last {
            let offsets = batch
                .column_by_name(schema::OFFSET)
                .and_then(|column| column.as_primitive_opt::<Int64Type>());
            let offset = offsets.map(|offsets| offsets.value(batch.num_rows() - 1).cast_unsigned());
            let offset = offset.ok_or_else(|| RollupError::Rows("rows have no `_offset`".to_owned()))?;
            return tip_of(&batch, offset, end.0);
        }
        if from == 0 {
            return Err(RollupError::NoTip(end.0));
        }
        back = back.saturating_mul(8);
    }
}

/// What the last row of a record says.
fn tip_of(rows: &RecordBatch, offset: u64, end: u64) -> Result<Tip, RollupError> {
    let missing = |name: &str| RollupError::Rows(format!("the rollup's last record has no `{name}`"));
    let last = rows.num_rows().checked_sub(1).ok_or_else(|| missing("row"))?;
    let text = rows
        .column_by_name(SOURCE)
        .and_then(|column| column.as_string_opt::<i32>())
        .filter(|column| column.is_valid(last))
        .ok_or_else(|| missing(SOURCE))?;
    let ends = rows
        .column_by_name(WINDOW_END)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| missing(WINDOW_END))?;
    let source: SourceRange = serde_json::from_str(text.value(last))
        .map_err(|error| RollupError::Rows(format!("`{SOURCE}` of the rollup's last record: {error}")))?;
    let place = |range: &PartitionRange| {
        let place = Place {
            offset: range.to,
            row: range.to_row,
        };
        (range.partition, place)
    };
    Ok(Tip {
        last: Some(offset),
        end,
        places: source.ranges.iter().map(place).collect(),
        journal: Some(source.journal),
        window_end: ends.value(last),
    })
}
