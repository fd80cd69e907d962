//! The events that were received last, whatever their place in the stream.
//!
//! Journal order is nearly the order of arrival, but not quite: a large body arrives before it is durable, and
//! partitions are read one after the other. So the order is exact by comparison, and nearly free by where it looks
//! first: the tail from its end, then the files from the last one. As soon as enough events are found, files and pages
//! whose bounds say that they hold nothing newer are passed by.

use std::cmp::Reverse;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use event::{Offset, schema};
use futures::StreamExt;
use lake::DataFile;

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::parameters::{Filter, column};
use crate::pin::{Pin, TailRange};
use crate::stats::projected;
use event::batch::bytes_of_rows;

/// Records of the tail that are read at once, from its end.
const RECORDS_AT_ONCE: u64 = 64;
/// Rows of a file that are read at once, from its end; twice as many each time, since who finds nothing there looks
/// for something rare.
const ROWS_AT_ONCE: u64 = 8_192;
/// Most rows that are read at once.
const ROWS_AT_ONCE_MAX: u64 = 1 << 17;
/// Bytes of events that are kept until all are known.
const BYTES_MAX: usize = 256 << 20;
/// The row after the tail's last one; rows before it count down. No index is as high.
const TAIL_END: u64 = 1 << 62;

/// Chosen events.
pub(super) struct Chosen {
    pub(super) batches: Vec<RecordBatch>,
    /// The events in their order.
    pub(super) places: Vec<Place>,
}

/// Where a chosen event is.
pub(super) struct Place {
    pub(super) batch: usize,
    pub(super) row: usize,
    /// `None` where it is not final yet.
    pub(super) index: Option<u64>,
}

/// The events `skip` to `skip + take` of those that pass, the newest first.
pub(super) async fn choose(
    shared: &Shared,
    pin: &Pin,
    columns: &[String],
    filter: &Filter,
    skip: usize,
    take: usize,
) -> Result<Chosen, QueryError> {
    let mut columns = columns.to_vec();
    columns.push(schema::RECEIVED_AT.to_owned());
    columns.sort_unstable();
    columns.dedup();
    let schema = projected(pin, &columns);
    let mut newest = Newest::new(skip.saturating_add(take), filter, pin.declaration.time_column());
    let mut before = TAIL_END;
    if newest.wanted > 0 {
        for range in pin.tail.iter().rev() {
            before = tail(shared, pin, *range, &schema, before, &mut newest).await?;
        }
        for file in pin.snapshot.files.iter().rev() {
            from_file(shared, pin, file, &columns, &schema, &mut newest).await?;
        }
    }
    let tail_rows = TAIL_END - before;
    let index = |sequence: u64| {
        if sequence < before {
            return Some(sequence);
        }
        Some(pin.tail_index()? + (tail_rows - (TAIL_END - sequence)))
    };
    newest.sort();
    let kept = newest.keys.iter().skip(skip).take(take);
    let places = kept.map(|key| Place {
        batch: key.batch,
        row: key.row,
        index: index(key.sequence),
    });
    let places = places.collect();
    Ok(Chosen {
        batches: newest.batches,
        places,
    })
}

/// Looks at one partition's tail from its end; gives the number before its first row.
async fn tail(
    shared: &Shared,
    pin: &Pin,
    range: TailRange,
    schema: &SchemaRef,
    mut before: u64,
    newest: &mut Newest<'_>,
) -> Result<u64, QueryError> {
    let mut to = range.to;
    while to > range.from {
        let from = Offset(to.0.saturating_sub(RECORDS_AT_ONCE).max(range.from.0));
        let part = TailRange { from, to, ..range };
        let mut records = Vec::new();
        let mut found = shared.pinner.tail.read(&pin.declaration, part);
        while let Some(rows) = found.next().await {
            records.push(rows?);
        }
        for rows in records.iter().rev() {
            before -= rows.num_rows() as u64;
            newest.add(&schema::conform(&narrowed(rows, schema)?, schema)?, before)?;
        }
        to = from;
        // Lets a cancelled question end here.
        tokio::task::yield_now().await;
    }
    Ok(before)
}

/// The columns of a schema alone.
fn narrowed(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let all = rows.schema();
    let places = schema
        .fields()
        .iter()
        .filter_map(|field| all.index_of(field.name()).ok());
    Ok(rows.project(&places.collect::<Vec<_>>())?)
}

/// Looks at one file from its end, unless it holds nothing that is newer than what is found.
async fn from_file(
    shared: &Shared,
    pin: &Pin,
    file: &DataFile,
    columns: &[String],
    schema: &SchemaRef,
    newest: &mut Newest<'_>,
) -> Result<(), QueryError> {
    if newest.beats(file.received_max) || !newest.filter.overlaps(file.time_min, file.time_max) {
        return Ok(());
    }
    let path = pin.snapshot.directory.join(&file.path);
    let pages = shared.files.pages(&path, file.bytes, schema::RECEIVED_AT).await?;
    let (mut end, mut at_once) = (pages.len(), ROWS_AT_ONCE);
    while end > 0 {
        let (mut begin, mut rows, mut received) = (end, 0, Some(i64::MIN));
        while begin > 0 && (rows == 0 || rows < at_once) {
            begin -= 1;
            rows += pages[begin].rows;
            received = received.zip(pages[begin].max).map(|(a, b)| a.max(b));
        }
        let first = pages[begin].first;
        end = begin;
        if newest.beats(received) {
            continue;
        }
        at_once = (at_once * 2).min(ROWS_AT_ONCE_MAX);
        let wanted = Wanted {
            from: first,
            take: usize::try_from(rows).ok(),
            columns,
        };
        let mut found = shared.files.read(&path, file.bytes, wanted).await?;
        let mut sequence = file.first_index + first;
        while let Some(rows) = found.next().await {
            let rows = schema::conform(&rows?, schema)?;
            newest.add(&rows, sequence)?;
            sequence += rows.num_rows() as u64;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The newest events so far.
struct Newest<'a> {
    wanted: usize,
    filter: &'a Filter,
    time: &'a str,
    batches: Vec<RecordBatch>,
    keys: Vec<Key>,
    /// What must be beaten, once there are enough.
    floor: Option<(i64, u64)>,
    bytes: usize,
}

/// An event, by what decides its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    received: i64,
    sequence: u64,
    batch: usize,
    row: usize,
}

impl Key {
    fn order(&self) -> (i64, u64) {
        (self.received, self.sequence)
    }
}

impl<'a> Newest<'a> {
    fn new(wanted: usize, filter: &'a Filter, time: &'a str) -> Self {
        Self {
            wanted,
            filter,
            time,
            batches: Vec::new(),
            keys: Vec::new(),
            floor: None,
            bytes: 0,
        }
    }

    /// Whether everything that was received at this moment or before is older than what is found: it comes from
    /// before, so among equals it loses.
    fn beats(&self, received_max: Option<i64>) -> bool {
        matches!((self.floor, received_max), (Some((floor, _)), Some(max)) if max <= floor)
    }

    /// Takes what is new enough of rows whose numbers rise from `first` on.
    fn add(&mut self, rows: &RecordBatch, first: u64) -> Result<(), QueryError> {
        let received = column(rows, schema::RECEIVED_AT)?.as_primitive::<TimestampMicrosecondType>();
        let mask = self.filter.mask(rows, self.time)?;
        let passes =
            |mask: &Option<BooleanArray>, row: usize| mask.as_ref().is_none_or(|mask| mask.value(row));
        let mut found = Vec::new();
        for (row, received) in received.values().iter().enumerate() {
            let order = (*received, first + row as u64);
            if self.floor.is_none_or(|floor| order > floor) && passes(&mask, row) {
                found.push((order, row));
            }
        }
        if found.len() > self.wanted {
            found.select_nth_unstable_by_key(self.wanted - 1, |(order, _)| Reverse(*order));
            found.truncate(self.wanted);
        }
        if found.is_empty() {
            return Ok(());
        }
        let rows_found = found
            .iter()
            .map(|(_, row)| u32::try_from(*row).unwrap_or(u32::MAX));
        let taken = take_record_batch(rows, &UInt32Array::from_iter_values(rows_found))?;
        self.bytes += bytes_of_rows(&taken);
        let batch = self.batches.len();
        self.batches.push(taken);
        self.keys
            .extend(found.iter().enumerate().map(|(row, (order, _))| Key {
                received: order.0,
                sequence: order.1,
                batch,
                row,
            }));
        if self.keys.len() >= self.wanted {
            let nth = self.wanted - 1;
            let (_, floor, _) = self
                .keys
                .select_nth_unstable_by_key(nth, |key| Reverse(key.order()));
            self.floor = Some(floor.order());
        }
        if self.bytes > BYTES_MAX || self.keys.len() > 2 * self.wanted + ROWS_AT_ONCE as usize {
            self.compact()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.keys.sort_unstable_by_key(|key| Reverse(key.order()));
        self.keys.truncate(self.wanted);
    }

    /// Lets go of what was overtaken.
    fn compact(&mut self) -> Result<(), QueryError> {
        self.sort();
        let places: Vec<_> = self.keys.iter().map(|key| (key.batch, key.row)).collect();
        let batches: Vec<_> = self.batches.iter().collect();
        let kept = interleave_record_batch(&batches, &places)?;
        self.bytes = bytes_of_rows(&kept);
        if self.bytes > BYTES_MAX {
            return Err(QueryError::TooLarge(format!(
                "the newest events that are asked for have more than {BYTES_MAX} bytes: ask for fewer"
            )));
        }
        self.batches = vec![kept];
        for (row, key) in self.keys.iter_mut().enumerate() {
            (key.batch, key.row) = (0, row);
        }
        Ok(())
    }
}
