//! One client's way through a channel: from the rings, or from journal and lake when it is behind them.
//!
//! A client behind the ring reads the journal for itself, and the lake where the journal has let go of records, in
//! turns that few have at once and for a short time; so it gets every event that there is, and costs little. What
//! retention has removed is named to it, and it goes on behind that. Nobody waits for a client: what a slow one holds is bounded, and rings do not wait.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow_array::BooleanArray;
use event::{Offset, Partition, Position};
use journal::ReadError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::block::Block;
use super::channel::{Channel, READ_BYTES, decode};
use super::place::{Begin, Place};
use super::ring::Look;
use super::stored::{Stored, stored};
use super::turn::Turn;
use crate::QueryError;
use crate::parameters::Filter;

/// Events of one partition until the next one has its turn.
const EVENTS_EACH: u64 = 256;
/// How long the journal may take to give what it has.
const READ_TIME: Duration = Duration::from_secs(10);

/// One client's places in all partitions.
#[derive(Debug)]
pub(super) struct Cursor {
    channel: Arc<Channel>,
    changes: watch::Receiver<u64>,
    filter: Filter,
    readings: Vec<Reading>,
    /// The partition whose turn it is.
    turn: usize,
    /// Events that were given out.
    given: u64,
}

/// A place in one partition.
#[derive(Debug)]
struct Reading {
    partition: Partition,
    next: Place,
    open: Option<Open>,
    own: Option<Turn>,
}

/// The block that is being gone through.
#[derive(Debug)]
struct Open {
    /// The ring's: whoever is slow must not keep what the ring has let go.
    block: Weak<Block>,
    /// The rows that pass; all when absent.
    mask: Option<BooleanArray>,
    row: usize,
}

/// What a client gets next. The number is its partition's, which is where the cursor's id then begins.
#[derive(Debug)]
pub(super) enum Item {
    /// An event as JSON, appended to what was given.
    Event(usize),
    /// Events [from, to) that are nowhere any more.
    Missed { from: String, to: String, number: usize },
}

impl Cursor {
    /// A cursor that begins there.
    pub(super) async fn new(
        channel: Arc<Channel>,
        begin: &Begin,
        filter: Filter,
    ) -> Result<Self, QueryError> {
        let changes = channel.changes();
        let places = beginnings(&channel, begin).await?;
        let readings = (0..).map(Partition).zip(places).map(|(partition, next)| Reading {
            partition,
            next,
            open: None,
            own: None,
        });
        Ok(Self {
            readings: readings.collect(),
            channel,
            changes,
            filter,
            turn: 0,
            given: 0,
        })
    }

    pub(super) fn stream(&self) -> &str {
        self.channel.stream.name.as_str()
    }

    /// Waits for the next item; the text of an event is appended to `out`.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn next(&mut self, out: &mut Vec<u8>) -> Result<Item, QueryError> {
        loop {
            // First, so that what comes while this looks wakes it.
            self.changes.borrow_and_update();
            if let Some(item) = self.take(out)? {
                return Ok(item);
            }
            match self.behind() {
                Some((number, first)) => {
                    if let Some(missed) = self.catch_up(number, first).await? {
                        return Ok(missed);
                    }
                }
                // The channel lives as long as this does.
                None => drop(self.changes.changed().await),
            }
        }
    }

    /// The next item, if it is there without waiting.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) -> Result<Option<Item>, QueryError> {
        for _ in 0..self.readings.len() {
            let number = self.turn;
            let reading = &mut self.readings[number];
            if reading.take(&self.channel, number, &self.filter, out)? {
                self.given += 1;
                if self.given.is_multiple_of(EVENTS_EACH) {
                    self.turn = (self.turn + 1) % self.readings.len();
                }
                return Ok(Some(Item::Event(number)));
            }
            self.turn = (self.turn + 1) % self.readings.len();
        }
        Ok(None)
    }

    /// The first partition in which this is behind the ring, and where the ring begins.
    fn behind(&self) -> Option<(usize, Offset)> {
        self.readings.iter().enumerate().find_map(|(number, reading)| {
            match self.channel.rings.get(number)?.look(reading.next) {
                Look::Behind(first) => Some((number, first)),
                Look::Block(_) | Look::Nothing => None,
            }
        })
    }

    /// Reads the journal below `first`, or the lake; gives what neither has any more.
    async fn catch_up(&mut self, number: usize, first: Offset) -> Result<Option<Item>, QueryError> {
        let (channel, next) = (Arc::clone(&self.channel), self.readings[number].next);
        let partition = self.readings[number].partition;
        let turn = Arc::clone(&channel.pool.turns).acquire_owned().await;
        let turn = turn.map_err(|_| QueryError::Storage("there are no turns any more".to_owned()))?;
        let found = read_journal(&channel, partition, next, first).await?;
        let (blocks, from) = if let Found::Blocks(blocks) = found {
            (blocks, "journal")
        } else {
            match (read_lake(&channel, partition, next, first).await?, found) {
                (Stored::Blocks(blocks), _) => (blocks, "lake"),
                (Stored::From(begin), _) => return Ok(Some(self.missed(number, begin))),
                (Stored::Nothing, Found::Gone(start)) => return Ok(Some(self.missed(number, start))),
                (Stored::Nothing, Found::Stored | Found::Blocks(_)) => {
                    let message = "the lake has less than its newest version";
                    return Err(QueryError::Storage(message.to_owned()));
                }
            }
        };
        let labels = [
            ("stream", channel.stream.name.as_str().to_owned()),
            ("from", from.to_owned()),
        ];
        metrics::counter!("tidemill_live_catch_up_reads_total", &labels).increment(1);
        self.readings[number].own = Some(Turn::new(blocks, turn, channel.pool.turn_time));
        Ok(None)
    }

    /// Goes on where there is something, and says what lies before.
    fn missed(&mut self, number: usize, start: Offset) -> Item {
        let reading = &mut self.readings[number];
        let to = Place::record(start);
        let (mut from_text, mut to_text) = (String::new(), String::new());
        reading.next.write(reading.partition, &mut from_text);
        to.write(reading.partition, &mut to_text);
        let records = start.0.saturating_sub(reading.next.offset.0);
        metrics::counter!("tidemill_live_missed_records_total", "stream" => self.channel.stream.name.as_str().to_owned())
            .increment(records);
        (reading.next, reading.open, reading.own) = (to, None, None);
        Item::Missed {
            from: from_text,
            to: to_text,
            number,
        }
    }

    /// Appends the id that says where this is, in all partitions, with one of them first.
    pub(super) fn write_id(&self, first: usize, out: &mut String) {
        let others = self
            .readings
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != first);
        for reading in self
            .readings
            .get(first)
            .into_iter()
            .chain(others.map(|(_, reading)| reading))
        {
            if !out.is_empty() {
                out.push(',');
            }
            reading.next.write(reading.partition, out);
        }
    }
}

impl Reading {
    /// Appends the next event that passes, when it is there without waiting.
    fn take(
        &mut self,
        channel: &Channel,
        number: usize,
        filter: &Filter,
        out: &mut Vec<u8>,
    ) -> Result<bool, QueryError> {
        loop {
            if let Some(open) = &mut self.open
                && let Some(block) = open.block.upgrade()
            {
                while open.row < block.len() {
                    let row = open.row;
                    open.row += 1;
                    if open.mask.as_ref().is_none_or(|mask| mask.value(row)) {
                        let (place, text) = block.row(row);
                        out.extend_from_slice(text);
                        self.next = Place::behind(place.offset, place.row);
                        return Ok(true);
                    }
                }
                self.next = Place::record(block.to);
            }
            self.open = None;
            let block = match self.own_block() {
                Some(block) => block,
                None => match channel.rings.get(number).map(|ring| ring.look(self.next)) {
                    Some(Look::Block(block)) => block,
                    Some(Look::Behind(_) | Look::Nothing) | None => return Ok(false),
                },
            };
            self.open = Some(Open {
                mask: filter.mask(&block.rows, channel.stream.time_column())?,
                row: block.row_at(self.next),
                block: Arc::downgrade(&block),
            });
        }
    }

    /// The block of what was read for this client that the place lies in, as long as its turn lasts.
    fn own_block(&mut self) -> Option<Arc<Block>> {
        let block = self.own.as_ref()?.block_at(self.next);
        if block.is_none() {
            self.own = None;
        }
        block
    }
}

/// What the journal has.
enum Found {
    Blocks(Vec<Arc<Block>>),
    /// More than is kept, of what the lake has.
    Stored,
    /// It begins with this record.
    Gone(Offset),
}

/// The next events of the journal from a place on, of records below an offset.
async fn read_journal(
    channel: &Channel,
    partition: Partition,
    next: Place,
    below: Offset,
) -> Result<Found, QueryError> {
    if let Some(kept) = &channel.kept
        && kept.stored(&channel.stream, partition).await? > next.offset
    {
        return Ok(Found::Stored);
    }
    let from = Position::new(partition, next.offset);
    let mut reader = match channel.pool.journal.reader(&channel.stream.name, from).await {
        Ok(reader) => reader,
        Err(ReadError::Gone { start, .. }) => return Ok(Found::Gone(start)),
        Err(error) => return Err(error.into()),
    };
    let read = timeout(READ_TIME, reader.next(READ_BYTES)).await;
    // Whoever is slow must not keep the journal from letting go of records.
    drop(reader);
    let mut records = match read {
        Ok(Ok(records)) => records,
        Ok(Err(ReadError::Gone { start, .. })) => return Ok(Found::Gone(start)),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            return Err(QueryError::NotNow(
                "the journal did not answer in time".to_owned(),
            ));
        }
    };
    records.retain(|record| record.offset < below);
    let what = (&channel.stream, &channel.shape, channel.kept.as_ref());
    let decoded = decode(what, next.offset, records).await?;
    Ok(decoded.map_or(Found::Stored, Found::Blocks))
}

/// The same of the lake.
async fn read_lake(
    channel: &Channel,
    partition: Partition,
    next: Place,
    below: Offset,
) -> Result<Stored, QueryError> {
    let what = (&channel.stream, &channel.shape);
    match &channel.table {
        Some(table) => stored(table, what, partition, next, below).await,
        None => Ok(Stored::Nothing),
    }
}

/// Where each partition begins.
async fn beginnings(channel: &Channel, begin: &Begin) -> Result<Vec<Place>, QueryError> {
    let (journal, name) = (&channel.pool.journal, &channel.stream.name);
    let mut places: Vec<_> = channel
        .rings
        .iter()
        .map(|ring| Place::record(ring.next()))
        .collect();
    match begin {
        Begin::End => {}
        Begin::Start => {
            for start in journal.start(name).await? {
                if let Some(place) = places.get_mut(start.partition.0 as usize) {
                    // The ring may end before: nothing is shown that may not be.
                    *place = Place::record(start.offset);
                }
            }
        }
        Begin::At(asked) => {
            let ends = journal.end(name).await?;
            for (partition, place) in asked {
                let end = ends.iter().find(|end| end.partition == *partition);
                let Some((end, found)) = end.zip(places.get_mut(partition.0 as usize)) else {
                    let count = ends.len();
                    let message = format!("there is no partition {partition}, `{name}` has {count}");
                    return Err(QueryError::Invalid(message));
                };
                let beyond = place.offset > end.offset || (place.offset == end.offset && place.row > 0);
                if beyond {
                    return Err(QueryError::Invalid(format!(
                        "position `{partition}:{}` is past the journal's end at offset {}",
                        place.offset, end.offset
                    )));
                }
                *found = *place;
            }
        }
    }
    Ok(places)
}
