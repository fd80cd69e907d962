//! Rollups as a chain: readers get the valid records of a rollup's stream only.
//!
//! For everybody who reads: the lake, databases, questions, live clients and the process that computes the rollup.
//! Around the journal, so that none of them can forget it.
//!
//! A record of a rollup names the record that it follows ([`event::stream::rollup::FOLLOWS`]). The first one in journal
//! order that follows the last valid one is the next valid one; whatever else is there was computed by a process that
//! did not know what another one had appended, and a reader gets [`Payload::Nothing`] in its place. What is valid
//! depends on the records before it alone, so it never changes.
//!
//! # Beginning in the middle
//! Whoever wrote a record had read that the one which it follows is valid. So a reader that begins at p looks at the
//! records just before p: from the newest of those that they name the chain is followed up to p. That is one or two
//! records, and more only where processes raced each other.
//!
//! When the journal has none of them any more, the first record that follows an earlier one is taken. Nothing is kept
//! to avoid that: an idle rollup would hold back the segments of every other stream. It could only err if a process
//! appended what it had computed before everything up to p expired: an embedded journal has one process that appends,
//! in order, and a broker keeps records for much longer than a producer keeps trying.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use event::stream::rollup::follows;
use event::{Batch, Offset, Partition, Position, StreamDeclaration, StreamName, record};
use futures::future::{BoxFuture, FutureExt};

use crate::{
    AppendError, Durability, GroupMember, Journal, JournalId, JournalReader, Payload, ReadError, Record,
};

/// Bytes of records that are read at once on the way back.
const READ_BYTES: usize = 1 << 20;

/// Places of a stream at which it is remembered what lies before: where readers were last, and where the lake ends.
const PLACES_MAX: usize = 64;

/// The newest valid record below some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// This one, or none.
    Known(Option<u64>),
    /// The journal has no record of that time any more; whatever follows one of that time is the next valid one.
    Gone,
}

/// Follows a chain, record by record.
#[derive(Clone, Copy, Debug)]
struct Chain {
    last: Last,
}

impl Chain {
    /// Whether the record at `offset`, which says what it follows, is the next valid one.
    fn takes(&mut self, offset: Offset, follows: Option<u64>) -> bool {
        let takes = match self.last {
            Last::Known(last) => follows == last,
            Last::Gone => follows.is_none_or(|before| before < offset.0),
        };
        if takes {
            self.last = Last::Known(Some(offset.0));
        }
        takes
    }
}

/// A journal whose rollups are read as chains.
pub struct ChainedJournal {
    inner: Arc<dyn Journal>,
    rollups: BTreeSet<StreamName>,
    places: Arc<Places>,
}

/// What lies before some offsets, by stream.
#[derive(Default)]
struct Places(Mutex<HashMap<StreamName, BTreeMap<u64, Option<u64>>>>);

impl ChainedJournal {
    /// The journal as readers of these streams shall see it: itself when none of them is a rollup.
    #[must_use]
    pub fn over(inner: Arc<dyn Journal>, streams: &[Arc<StreamDeclaration>]) -> Arc<dyn Journal> {
        let rollups: BTreeSet<_> = streams
            .iter()
            .filter(|stream| stream.rollup.is_some())
            .map(|stream| stream.name.clone())
            .collect();
        if rollups.is_empty() {
            return inner;
        }
        Arc::new(Self {
            inner,
            rollups,
            places: Arc::default(),
        })
    }

    /// The newest valid record below `offset`.
    async fn last_before(&self, stream: &StreamName, offset: Offset) -> Result<Last, ReadError> {
        if offset == Offset(0) {
            return Ok(Last::Known(None));
        }
        if let Some(known) = self.places.get(stream, offset) {
            return Ok(Last::Known(known));
        }
        let starts = self.inner.start(stream).await?;
        let start = starts.first().map_or(0, |start| start.offset.0);
        let mut from = (offset.0 - 1).max(start);
        let mut back = 1_u64;
        while from < offset.0 {
            let records = self.read_links(stream, Offset(from), offset).await?;
            let named = |(_, follows): &(u64, Option<u64>)| *follows;
            let newest = records.iter().filter_map(named).max();
            // The first record of all, or one that somebody had seen to be valid.
            let begin = if from == 0 { Some(Last::Known(None)) } else { None };
            let begin = match newest {
                Some(newest) if newest >= from => Some(Last::Known(Some(newest))),
                _ => begin,
            };
            if let Some(begin) = begin {
                return Ok(self.walk(stream, begin, &records, offset));
            }
            if from == start {
                return Ok(self.walk(stream, Last::Gone, &records, offset));
            }
            back = back.saturating_mul(4);
            let further = (offset.0 - 1).saturating_sub(back).max(start);
            // What a record names is where to look, unless that is gone.
            from = newest.unwrap_or(further).min(from - 1).max(start);
        }
        Ok(Last::Gone)
    }

    fn walk(&self, stream: &StreamName, begin: Last, records: &[(u64, Option<u64>)], offset: Offset) -> Last {
        let mut chain = Chain { last: begin };
        for (at, follows) in records {
            let behind = match begin {
                Last::Known(Some(newest)) => *at > newest,
                Last::Known(None) | Last::Gone => true,
            };
            if behind {
                chain.takes(Offset(*at), *follows);
            }
        }
        self.places.keep(stream, offset, chain.last);
        chain.last
    }

    /// The offsets of the records in a range, and what each follows.
    async fn read_links(
        &self,
        stream: &StreamName,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<(u64, Option<u64>)>, ReadError> {
        let mut reader = self
            .inner
            .reader(stream, Position::new(Partition(0), from))
            .await?;
        let mut links = Vec::new();
        while reader.position().offset < to {
            for record in reader.next(READ_BYTES).await? {
                if record.offset < to
                    && let Link::Follows(before) = link(&record)
                {
                    links.push((record.offset.0, before));
                }
            }
        }
        Ok(links)
    }
}

impl Places {
    fn get(&self, stream: &StreamName, offset: Offset) -> Option<Option<u64>> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(stream)?.get(&offset.0).copied()
    }

    fn keep(&self, stream: &StreamName, offset: Offset, last: Last) {
        let Last::Known(last) = last else { return };
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_stream = places.entry(stream.clone()).or_default();
        of_stream.insert(offset.0, last);
        if of_stream.len() > PLACES_MAX {
            of_stream.pop_first();
        }
    }
}

/// What a record says about the chain.
enum Link {
    /// It follows this record, or is the first one.
    Follows(Option<u64>),
    /// It holds nothing.
    Nothing,
    /// It cannot be read, or is none of a rollup.
    Unreadable,
}

fn link(found: &Record) -> Link {
    let batch = match &found.payload {
        Payload::Record(bytes) => record::decode(found.partition, bytes),
        Payload::Json(_) => return Link::Unreadable,
        Payload::Nothing => return Link::Nothing,
    };
    let before = batch.ok().and_then(|batch| follows(&batch.rows));
    before.map_or(Link::Unreadable, Link::Follows)
}

/// Gives the valid records of one rollup.
struct ChainedReader {
    inner: Box<dyn JournalReader>,
    stream: StreamName,
    chain: Chain,
    places: Arc<Places>,
}

impl ChainedReader {
    /// Takes the content of what is not valid away. What cannot be read stays: its reader says what is wrong with it.
    fn filter(&mut self, records: &mut [Record]) {
        for record in records {
            match link(record) {
                Link::Follows(before) if !self.chain.takes(record.offset, before) => {
                    let stream = self.stream.as_str().to_owned();
                    metrics::counter!("tidemill_rollup_ignored_records_total", "stream" => stream)
                        .increment(1);
                    tracing::debug!(stream = self.stream.as_str(), offset = %record.offset, "not in the chain");
                    record.payload = Payload::Nothing;
                }
                Link::Follows(_) | Link::Nothing | Link::Unreadable => {}
            }
        }
    }
}

impl JournalReader for ChainedReader {
    fn position(&self) -> Position {
        self.inner.position()
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        async move {
            // Nothing is awaited once records were given out, so a dropped future loses none of them.
            let mut records = self.inner.next(bytes_max).await?;
            self.filter(&mut records);
            self.places
                .keep(&self.stream, self.inner.position().offset, self.chain.last);
            Ok(records)
        }
        .boxed()
    }
}

impl fmt::Debug for ChainedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainedJournal")
            .field("inner", &self.inner)
            .field("rollups", &self.rollups)
            .finish_non_exhaustive()
    }
}

impl Journal for ChainedJournal {
    fn id(&self) -> JournalId {
        self.inner.id()
    }

    fn stream_id(&self, stream: &StreamName) -> JournalId {
        self.inner.stream_id(stream)
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn partitions(&self, stream: &StreamName) -> u32 {
        self.inner.partitions(stream)
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        self.inner.append(group)
    }

    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.end(stream)
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.start(stream)
    }

    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        if !self.rollups.contains(stream) {
            return self.inner.reader(stream, from);
        }
        async move {
            let inner = self.inner.reader(stream, from).await?;
            let last = self.last_before(stream, from.offset).await?;
            Ok(Box::new(ChainedReader {
                inner,
                stream: stream.clone(),
                chain: Chain { last },
                places: Arc::clone(&self.places),
            }) as Box<dyn JournalReader>)
        }
        .boxed()
    }

    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        self.inner.retain(stream, stored)
    }

    fn group_positions<'a>(
        &'a self,
        group: &'a str,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.inner.group_positions(group, stream)
    }

    fn join<'a>(
        &'a self,
        group: &'a str,
        streams: &'a [StreamName],
    ) -> BoxFuture<'a, Result<Box<dyn GroupMember>, ReadError>> {
        self.inner.join(group, streams)
    }
}

#[cfg(test)]
mod tests;
