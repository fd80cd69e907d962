//! Cuts the rows of a source into windows.
//!
//! A window begins at a multiple of `every` of `_received_at`, or where the one before was full. It takes every row that
//! is read until its end; a row that arrived earlier and was read later is in the next one, so windows never overlap.
//! It ends when it has its rows, when all partitions have gone beyond its end, or when the clock has and everything
//! that was durable by then is read. What a window is made of is a range of each partition, which its row names.

use std::collections::{BTreeMap, VecDeque};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use event::{Offset, Partition, schema};

use crate::QueryError;
use event::batch::bytes_of_rows;

/// For how long after its end a window waits for what arrived in time and becomes durable a little later.
const GRACE_US: i64 = 200_000;
/// Bytes of columns at which a window ends, if it has not before.
const WINDOW_BYTES_MAX: usize = 64 << 20;

/// A place between two rows of a partition: before this row of the record at this offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) row: u32,
}

/// Rows of whole records of one partition, in the lake's schema; `to` is the offset after the last record.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) rows: Vec<RecordBatch>,
    pub(super) to: Offset,
}

/// The part of one partition that a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) partition: u32,
    pub(super) from: Place,
    pub(super) to: Place,
}

/// A window that has ended.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) count: u64,
    /// In the order of partitions, offsets and rows, so that a recount sees the same order.
    pub(super) rows: Vec<RecordBatch>,
    pub(super) ranges: Vec<Range>,
}

/// One partition that is read.
struct Lane {
    /// Everything before is in a window.
    place: Place,
    /// Where the last window ended.
    cut: Place,
    /// Read, and in no window yet.
    ready: VecDeque<RecordBatch>,
    /// Rows of the first of these that are in a window.
    taken: usize,
    /// Everything below was read.
    read: Offset,
}

/// The window that is being filled.
struct Open {
    start: i64,
    end: i64,
    last_received: i64,
    count: u64,
    bytes: usize,
    rows: BTreeMap<u32, Vec<RecordBatch>>,
}

/// Rows on their way into windows.
pub(super) struct Windows {
    every: i64,
    rows_max: u64,
    lanes: Vec<Lane>,
    open: Option<Open>,
    /// No window begins before: the end of the last one.
    begins: i64,
}

impl Windows {
    /// Windows of at most `rows_max` rows and `every` microseconds, from these places on.
    pub(super) fn new(every: i64, rows_max: u64, places: &[Place], begins: i64) -> Self {
        let lane = |place: &Place| Lane {
            place: *place,
            cut: *place,
            ready: VecDeque::new(),
            taken: 0,
            read: Offset(place.offset),
        };
        Self {
            every: every.max(1),
            rows_max,
            lanes: places.iter().map(lane).collect(),
            open: None,
            begins,
        }
    }

    /// Takes in what was read.
    pub(super) fn push(&mut self, partition: Partition, chunk: Chunk) {
        let Some(lane) = self.lanes.get_mut(partition.0 as usize) else {
            return;
        };
        lane.ready
            .extend(chunk.rows.into_iter().filter(|rows| rows.num_rows() > 0));
        lane.read = chunk.to;
        lane.settle();
    }

    /// Whether a partition has nothing left to take.
    pub(super) fn is_empty(&self, partition: usize) -> bool {
        self.lanes[partition].ready.is_empty()
    }

    /// Whether a partition has nothing left although it was not read up to there.
    pub(super) fn misses(&self, partition: usize, end: Offset) -> bool {
        self.is_empty(partition) && self.lanes[partition].read < end
    }

    /// Records that are in no window yet, if the partition ends there.
    pub(super) fn lag(&self, partition: usize, end: Offset) -> u64 {
        end.0.saturating_sub(self.lanes[partition].cut.offset)
    }

    /// When the open window ends at the latest, microseconds since 1970.
    pub(super) fn due(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.end.saturating_add(GRACE_US))
    }

    /// Goes on until a window has ended. `None` when more must be read, or time must pass. `target` are the ends of the
    /// partitions as they were at the moment `read_until`: what lies below is read before anything behind it is taken.
    pub(super) fn advance(
        &mut self,
        target: &[Offset],
        read_until: i64,
        now: i64,
    ) -> Result<Option<Window>, QueryError> {
        loop {
            if (0..).zip(target).any(|(lane, end)| self.misses(lane, *end)) {
                return Ok(None);
            }
            let end = match &self.open {
                Some(open) => open.end,
                None => match self.begin(now)? {
                    Some(end) => end,
                    None => return Ok(None),
                },
            };
            match self.next_lane(end, now)? {
                Some((lane, until)) => {
                    if self.take(lane, end, until, now)? {
                        return Ok(self.close(None));
                    }
                }
                None => {
                    let beyond = self.lanes.iter().all(|lane| !lane.ready.is_empty());
                    if beyond || read_until >= end.saturating_add(GRACE_US) {
                        return Ok(self.close(Some(end)));
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Ends the open window before its time.
    pub(super) fn flush(&mut self) -> Option<Window> {
        self.close(None)
    }

    /// Begins a window at the earliest row. Gives its end.
    fn begin(&mut self, now: i64) -> Result<Option<i64>, QueryError> {
        let mut first: Option<i64> = None;
        for lane in &self.lanes {
            if let Some(received) = lane.head(now)? {
                first = Some(first.map_or(received, |first| first.min(received)));
            }
        }
        let Some(first) = first else { return Ok(None) };
        let aligned = |moment: i64| moment - moment.rem_euclid(self.every);
        let start = aligned(first).max(self.begins);
        let end = aligned(start).saturating_add(self.every);
        self.open = Some(Open {
            start,
            end,
            last_received: start,
            count: 0,
            bytes: 0,
            rows: BTreeMap::new(),
        });
        Ok(Some(end))
    }

    /// The partition whose next row belongs into the window and is the earliest, and up to which arrival it goes first.
    fn next_lane(&self, end: i64, now: i64) -> Result<Option<(usize, i64)>, QueryError> {
        let mut heads = Vec::new();
        for (number, lane) in self.lanes.iter().enumerate() {
            if let Some(received) = lane.head(now)?.filter(|received| *received < end) {
                heads.push((received, number));
            }
        }
        heads.sort_unstable();
        let until = heads.get(1).map_or(i64::MAX, |(received, _)| *received);
        Ok(heads.first().map(|(_, lane)| (*lane, until)))
    }

    /// Takes rows of a lane's first batch. Says whether the window is full.
    fn take(&mut self, lane: usize, end: i64, until: i64, now: i64) -> Result<bool, QueryError> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let partition = lane as u32;
        let lane = &mut self.lanes[lane];
        let Some(batch) = lane.ready.front() else {
            return Ok(false);
        };
        let received = received(batch)?;
        let room = usize::try_from(self.rows_max - open.count).unwrap_or(usize::MAX);
        let mut stop = lane.taken;
        while stop < received.len() && stop - lane.taken < room {
            let moment = received[stop].min(now);
            if moment >= end || (stop > lane.taken && moment > until) {
                break;
            }
            open.last_received = open.last_received.max(moment);
            stop += 1;
        }
        let rows = batch.slice(lane.taken, stop - lane.taken);
        open.count += rows.num_rows() as u64;
        open.bytes += bytes_of_rows(&rows);
        open.rows.entry(partition).or_default().push(rows);
        lane.taken = stop;
        lane.place = place_behind(batch, stop, lane.ready.get(1))?;
        if stop == batch.num_rows() {
            lane.ready.pop_front();
            lane.taken = 0;
        }
        lane.settle();
        Ok(open.count >= self.rows_max || open.bytes >= WINDOW_BYTES_MAX)
    }

    /// Ends the open window: at `end`, or where its last row arrived.
    fn close(&mut self, end: Option<i64>) -> Option<Window> {
        let open = self.open.take()?;
        let end = end.unwrap_or(open.last_received);
        self.begins = end;
        let mut ranges = Vec::new();
        for (partition, lane) in (0..).zip(&mut self.lanes) {
            let (from, to) = (lane.cut, lane.place);
            lane.cut = to;
            if to > Place::default() {
                ranges.push(Range { partition, from, to });
            }
        }
        Some(Window {
            start: open.start,
            end,
            count: open.count,
            rows: open.rows.into_values().flatten().collect(),
            ranges,
        })
    }
}

impl Lane {
    /// When the next row arrived. A clock that is ahead of ours counts as ours.
    fn head(&self, now: i64) -> Result<Option<i64>, QueryError> {
        let Some(batch) = self.ready.front() else {
            return Ok(None);
        };
        Ok(received(batch)?
            .get(self.taken)
            .map(|received| (*received).min(now)))
    }

    /// What was read and holds no row is behind us.
    fn settle(&mut self) {
        if self.ready.is_empty() {
            let end = Place {
                offset: self.read.0,
                row: 0,
            };
            self.place = self.place.max(end);
        }
    }
}

/// The place behind the first `taken` rows of a batch, of which there is at least one. `next` is the batch behind it,
/// which may go on with the same record.
fn place_behind(batch: &RecordBatch, taken: usize, next: Option<&RecordBatch>) -> Result<Place, QueryError> {
    let (offset, _) = place_of(batch, taken - 1)?;
    let following = match next {
        _ if taken < batch.num_rows() => Some(place_of(batch, taken)?),
        Some(next) => Some(place_of(next, 0)?),
        None => None,
    };
    Ok(match following {
        Some((same, row)) if same == offset => Place { offset, row },
        _ => Place {
            offset: offset + 1,
            row: 0,
        },
    })
}

/// The offset and number of a row.
fn place_of(batch: &RecordBatch, row: usize) -> Result<(u64, u32), QueryError> {
    let offsets = column(batch, schema::OFFSET, |column| {
        column.as_primitive_opt::<Int64Type>()
    })?;
    let rows = column(batch, schema::ROW, |column| {
        column.as_primitive_opt::<Int32Type>()
    })?;
    Ok((
        offsets.value(row).cast_unsigned(),
        rows.value(row).cast_unsigned(),
    ))
}

fn received(batch: &RecordBatch) -> Result<&[i64], QueryError> {
    let column = column(batch, schema::RECEIVED_AT, |column| {
        column.as_primitive_opt::<TimestampMicrosecondType>()
    })?;
    Ok(column.values())
}

fn column<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    of_type: impl Fn(&'a arrow_array::ArrayRef) -> Option<&'a T>,
) -> Result<&'a T, QueryError> {
    let found = batch.column_by_name(name).and_then(of_type);
    found.ok_or_else(|| QueryError::Storage(format!("rows have no column `{name}`")))
}

#[cfg(test)]
mod tests;
