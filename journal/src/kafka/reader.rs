//! Reads one partition forward, from a position and nothing else (K-3).
//!
//! Opening one costs nothing: a query opens a reader for every partition and often reads none of them, so a place on
//! a lane is taken with the first record that is asked for.
//!
//! # Offsets without a message
//! Kafka keeps some offsets for itself, where transactions end. Between two messages they show as a jump. At a
//! partition's end they do not show at all: so a reader that hears nothing although more is known to be there begins
//! again at its position, and when librdkafka then says that the end is reached, there is nothing in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Offset, Position, RecordFormat};
use futures::future::{BoxFuture, FutureExt};
use rdkafka::Message as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::error::read_error;
use super::lane::Place;
use super::topic::Topic;
use super::{Inner, message, watermarks};
use crate::{JournalReader, Payload, ReadError, Record};

/// How long a reader sleeps before it looks around, when nobody wakes it.
const LOOK: Duration = Duration::from_millis(250);
/// For how long it hears nothing, although more is known to be there, until it begins again at its position.
const SILENCE: Duration = Duration::from_millis(500);
/// The longest that this becomes, for links that are slow.
const SILENCE_MAX: Duration = Duration::from_secs(16);
/// How often an empty queue is asked before it counts as empty: what librdkafka serves by itself looks like nothing.
const EMPTY_TRIES: u32 = 4;
/// Most records that one call gives.
const RECORDS_MAX: usize = 65_536;

/// A reader of one partition.
pub(super) struct KafkaReader {
    inner: Arc<Inner>,
    topic: Arc<Topic>,
    position: Position,
    place: Option<Place>,
    /// What came together with records and is not yet looked into.
    trouble: Option<KafkaError>,
    /// Offsets that hold nothing, up to and without this one.
    nothing_up_to: Option<Offset>,
    /// The place was taken anew while the journal was known to end here.
    end_at_begin: Option<Offset>,
    /// The message beyond the newest gap.
    gap: Option<Offset>,
    /// Others fill this topic, and it was seen to have gaps.
    gaps_here: bool,
    /// For how long it hears nothing until it begins again; twice as long each time.
    silence: Duration,
}

/// What a look into the queue showed, when there were no records.
enum Look {
    Nothing,
    /// librdkafka has read everything that there is.
    End,
    Trouble(KafkaError),
}

/// Why no more is taken from the queue.
enum Cut {
    /// An error follows the records.
    Trouble(KafkaError),
    /// A message lies beyond a gap. That is believed only when it shows again from the beginning, until a topic that
    /// others fill has shown that it has gaps: in our own there are none.
    Doubted(Offset),
    /// A gap is too long for one answer.
    Long(Offset),
}

impl KafkaReader {
    pub(super) fn new(inner: Arc<Inner>, topic: Arc<Topic>, position: Position) -> Self {
        Self {
            inner,
            topic,
            position,
            place: None,
            trouble: None,
            nothing_up_to: None,
            end_at_begin: None,
            gap: None,
            gaps_here: false,
            silence: SILENCE,
        }
    }

    async fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let mut heard = Instant::now();
        loop {
            self.topic.check().map_err(ReadError::Replaced)?;
            if self.place.is_none() {
                let partition = self.position.partition;
                let place = self
                    .inner
                    .lanes
                    .take(&self.topic, partition, self.position.offset);
                self.place = Some(place.await?);
                heard = Instant::now();
            }
            let mut records = Vec::new();
            match self.take_ready(bytes_max, &mut records) {
                _ if !records.is_empty() => {
                    self.silence = SILENCE;
                    return Ok(records);
                }
                Look::Nothing => {}
                Look::End => {
                    if let Some(end) = self.end_at_begin.take().filter(|end| *end > self.position.offset) {
                        self.nothing_up_to = Some(end);
                        continue;
                    }
                }
                Look::Trouble(error) => self.look_into(&error).await?,
            }
            self.wait().await;
            if let Some(message) = self
                .inner
                .health
                .borrow()
                .unreachable_for(self.inner.options.timeout)
            {
                return Err(ReadError::Unavailable { message });
            }
            let known = self.topic.known_end(self.position.partition);
            if known > self.position.offset && heard.elapsed() > self.silence {
                self.silence = (self.silence * 2).min(SILENCE_MAX);
                // Taken before it begins again, so that the end which is then reached is not an older one.
                self.begin_again(Some(known));
            }
        }
    }

    /// Takes what is there, without waiting.
    fn take_ready(&mut self, bytes_max: usize, records: &mut Vec<Record>) -> Look {
        if let Some(end) = self.nothing_up_to {
            let mut taken = Taken::new(&self.topic, &mut self.position, bytes_max, records);
            if taken.nothing_before(end) {
                self.nothing_up_to = None;
            }
            return Look::Nothing;
        }
        if let Some(error) = self.trouble.take() {
            return Look::Trouble(error);
        }
        let (look, cut) = self.take_from_queue(bytes_max, records);
        match cut {
            None => {}
            Some(Cut::Trouble(error)) => self.trouble = Some(error),
            Some(Cut::Doubted(offset)) => {
                self.begin_again(None);
                self.gap = Some(offset);
            }
            Some(Cut::Long(offset)) => {
                self.begin_again(None);
                self.nothing_up_to = Some(offset);
            }
        }
        look
    }

    fn take_from_queue(&mut self, bytes_max: usize, records: &mut Vec<Record>) -> (Look, Option<Cut>) {
        let Some(queue) = self.place.as_ref().and_then(Place::queue) else {
            return (Look::Nothing, None);
        };
        let mut taken = Taken::new(&self.topic, &mut self.position, bytes_max, records);
        let (mut empty, mut look) = (0, Look::Nothing);
        while empty < EMPTY_TRIES && !taken.is_full() {
            let message = match queue.poll(Duration::ZERO) {
                None => {
                    empty += 1;
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    look = Look::End;
                    continue;
                }
                Some(Err(error)) if taken.records.is_empty() => return (Look::Trouble(error), None),
                Some(Err(error)) => return (look, Some(Cut::Trouble(error))),
                Some(Ok(message)) => message,
            };
            (self.end_at_begin, look) = (None, Look::Nothing);
            let offset = u64::try_from(message.offset()).map_or(Offset(0), Offset);
            let at = taken.position.offset;
            if offset < at {
                continue;
            }
            if offset > at && !self.gaps_here && self.gap != Some(offset) {
                return (look, Some(Cut::Doubted(offset)));
            }
            self.gaps_here |= offset > at && self.topic.format == RecordFormat::Json;
            if !taken.nothing_before(offset) {
                return (look, Some(Cut::Long(offset)));
            }
            let partition = taken.position.partition;
            taken.push(message::record(&self.topic, &message, offset, partition));
        }
        (look, None)
    }

    async fn wait(&self) {
        let filled = self.place.as_ref().map(|place| Arc::clone(&place.filled));
        match filled {
            Some(filled) => drop(tokio::time::timeout(LOOK, filled.notified()).await),
            None => tokio::task::yield_now().await,
        }
    }

    /// Finds out what an error means. Most are over soon, and librdkafka goes on by itself.
    async fn look_into(&mut self, error: &KafkaError) -> Result<(), ReadError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.inner.voice.ask_to_look();
                self.begin_again(None);
                watermarks::explain(&self.inner, &self.topic, self.position).await
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopicId
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                self.inner.voice.ask_to_look();
                self.begin_again(None);
                tokio::time::sleep(LOOK).await;
                Ok(())
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::Fatal) => {
                self.begin_again(None);
                Err(read_error(error))
            }
            _ => {
                tracing::debug!(%error, topic = self.topic.name, "reading");
                Ok(())
            }
        }
    }

    /// Gives its place back; the next look takes one at the position.
    fn begin_again(&mut self, end: Option<Offset>) {
        self.place = None;
        self.trouble = None;
        self.end_at_begin = end;
    }
}

impl JournalReader for KafkaReader {
    fn position(&self) -> Position {
        self.position
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.read(bytes_max).boxed()
    }
}

/// Records that are given out by one call; the position moves with them.
struct Taken<'a> {
    topic: &'a Topic,
    position: &'a mut Position,
    bytes_left: usize,
    records: &'a mut Vec<Record>,
}

impl<'a> Taken<'a> {
    fn new(
        topic: &'a Topic,
        position: &'a mut Position,
        bytes_max: usize,
        records: &'a mut Vec<Record>,
    ) -> Self {
        Self {
            topic,
            position,
            bytes_left: bytes_max.max(1),
            records,
        }
    }

    fn is_full(&self) -> bool {
        self.bytes_left == 0 || self.records.len() >= RECORDS_MAX
    }

    fn push(&mut self, record: Record) {
        self.bytes_left = self.bytes_left.saturating_sub(record.bytes());
        self.position.offset = record.offset.next();
        self.topic.learn_end(record.partition, self.position.offset);
        self.records.push(record);
    }

    /// Fills up to an offset with records of nothing; gives whether it got there.
    fn nothing_before(&mut self, offset: Offset) -> bool {
        while self.position.offset < offset && self.records.len() < RECORDS_MAX {
            let nothing = Record {
                partition: self.position.partition,
                offset: self.position.offset,
                payload: Payload::Nothing,
            };
            self.position.offset = nothing.offset.next();
            self.records.push(nothing);
        }
        self.position.offset >= offset
    }
}
