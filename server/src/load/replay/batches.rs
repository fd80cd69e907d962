//! Lines → bodies of requests, each with its intended start, handed out when they are due.
//!
//! All of it happens on one thread that may block: it reads, cuts and sleeps. A thread wakes within some tens
//! of microseconds, the runtime's own timers within a millisecond, which would show in every latency.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::options::{BATCH_WINDOW, BatchSize, Options, Pace};
use super::source::{Chunk, Chunks, SourceError};

/// Bytes of a chunk; batches that are at least a quarter of it have chunks of their own size.
const CHUNK_BYTES: usize = 1 << 20;

/// The same where small batches have an intended start: the first batch of a chunk is late for as long as the chunk
/// takes to make, and a MiB of generated events takes a millisecond.
const PACED_CHUNK_BYTES: usize = 64 << 10;

/// Most batches that are handed over at once: waking a task for each of them would cost more than they do.
const GROUP_BATCHES: usize = 256;

/// Longest sleep after which it is looked whether anybody still wants batches.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// One request's worth.
#[derive(Debug)]
pub(super) struct Batch {
    /// From 0, in the order of the source.
    pub(super) id: u64,
    /// The number of its first event in the source, from 0; blank lines do not count.
    pub(super) first_event: u64,
    pub(super) events: u64,
    pub(super) body: Bytes,
    /// When it should begin, after the start of the replay. None in a closed loop.
    pub(super) due: Option<Duration>,
}

/// What the reader did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    /// Events whose time could not be read, sent together with the one before.
    pub(super) untimed: u64,
}

/// Makes batches of a source, on a thread that may block.
pub(super) struct Batches {
    source: Chunks,
    schedule: Schedule,
    events_max: u64,
    bytes_max: usize,
    chunk_bytes: usize,
    /// Whether events that are due soon after the first one travel with it.
    window: bool,
    chunk: Chunk,
    /// Where the current batch begins in the chunk, and the next line.
    start: usize,
    at: usize,
    /// When the next line is due, if it was looked at for the batch before.
    looked_at: Option<Option<Duration>>,
    /// Number of the next event and batch.
    event: u64,
    batch: u64,
}

impl Batches {
    pub(super) fn new(options: &Options) -> Result<Self, SourceError> {
        let events_max = match options.batch {
            Some(BatchSize::Events(events)) => events,
            _ => u64::MAX,
        };
        let bytes_max = options.batch_bytes_max();
        let by_bytes = events_max == u64::MAX && bytes_max >= CHUNK_BYTES / 4;
        let recorded = matches!(options.pace, Pace::Recorded { .. });
        let chunk_bytes = match options.pace {
            _ if by_bytes => bytes_max,
            Pace::FullSpeed => CHUNK_BYTES,
            Pace::Rate(_) | Pace::Recorded { .. } => PACED_CHUNK_BYTES,
        };
        Ok(Self {
            source: Chunks::open(&options.source, recorded)?,
            schedule: Schedule::new(&options.pace),
            events_max,
            bytes_max,
            chunk_bytes,
            window: options.batch.is_none() && options.pace != Pace::FullSpeed,
            chunk: Chunk::default(),
            start: 0,
            at: 0,
            looked_at: None,
            event: 0,
            batch: 0,
        })
    }

    /// Sends every batch to the queue once it is due; ends early when nobody takes them any more.
    pub(super) fn send_to(
        mut self,
        queue: &mpsc::Sender<Vec<Batch>>,
        begun: Instant,
    ) -> Result<Read, SourceError> {
        let mut group: Vec<Batch> = Vec::new();
        loop {
            // What is ready does not wait for a source that may block, nor large batches for more of them.
            let bytes: usize = group.iter().map(|batch| batch.body.len()).sum();
            let full = group.len() >= GROUP_BATCHES || bytes >= CHUNK_BYTES;
            let hand_over = full || self.needs_reading();
            if hand_over && !group.is_empty() && queue.blocking_send(std::mem::take(&mut group)).is_err() {
                break;
            }
            let Some(batch) = self.next()? else { break };
            if let Some(due) = batch.due
                && due > begun.elapsed()
            {
                if !group.is_empty() && queue.blocking_send(std::mem::take(&mut group)).is_err() {
                    break;
                }
                if !sleep_until(begun + due, queue) {
                    break;
                }
            }
            group.push(batch);
        }
        if !group.is_empty() {
            // Nobody is there when the replay was stopped.
            let _ = queue.blocking_send(group);
        }
        Ok(Read {
            untimed: self.schedule.untimed,
        })
    }

    fn needs_reading(&self) -> bool {
        self.at == self.chunk.bytes.len() && !self.chunk.last
    }

    fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        let (mut events, mut due) = (0, None);
        while events < self.events_max {
            if self.at == self.chunk.bytes.len() && !self.refill(events)? {
                break;
            }
            let rest = &self.chunk.bytes[self.at..];
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let line = &rest[..length];
            let blank = is_blank(line);
            if events == 0 && blank {
                // The server passes over such lines and counts nothing for them.
                self.at += length;
                self.start = self.at;
                continue;
            }
            let too_long = events > 0 && self.at + length - self.start > self.bytes_max;
            if !blank {
                let line_due = match self.looked_at.take() {
                    Some(due) => due,
                    None => self.schedule.due(line, self.chunk.micros.pop_front()),
                };
                if too_long || (events > 0 && self.is_later(due, line_due)) {
                    self.looked_at = Some(line_due);
                    break;
                }
                due = due.or(line_due);
                events += 1;
            } else if too_long {
                break;
            }
            self.at += length;
        }
        if events == 0 {
            return Ok(None);
        }
        let batch = Batch {
            id: self.batch,
            first_event: self.event,
            events,
            body: self.chunk.bytes.slice(self.start..self.at),
            due,
        };
        self.start = self.at;
        self.batch += 1;
        self.event += events;
        Ok(Some(batch))
    }

    /// Gets the next chunk, with what the current batch has so far. Gives false when the batch ends here.
    fn refill(&mut self, events: u64) -> Result<bool, SourceError> {
        let carry = self.at - self.start;
        // A chunk of a batch's size ends because the next line did not fit.
        let full = events > 0 && self.start == 0 && self.chunk_bytes == self.bytes_max;
        if self.chunk.last || (full && self.events_max == u64::MAX) {
            return Ok(false);
        }
        if carry > self.chunk_bytes / 2 {
            self.chunk_bytes = (self.chunk_bytes * 2).min(self.bytes_max.max(CHUNK_BYTES));
        }
        // Something new must fit as well, or a batch of the largest size would ask for nothing for ever.
        let size = self.chunk_bytes.max(carry + PACED_CHUNK_BYTES / 4);
        let taken = self.chunk.bytes.slice(self.start..self.at);
        self.chunk = self.source.next(&taken, size)?;
        self.start = 0;
        self.at = carry;
        Ok(self.at < self.chunk.bytes.len())
    }

    fn is_later(&self, first: Option<Duration>, this: Option<Duration>) -> bool {
        self.window && matches!((first, this), (Some(first), Some(this)) if this > first + BATCH_WINDOW)
    }
}

/// Sleeps, and gives whether somebody still wants batches then.
fn sleep_until(due: Instant, queue: &mpsc::Sender<Vec<Batch>>) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        if queue.is_closed() {
            return false;
        }
        std::thread::sleep(left.min(SLEEP_MAX));
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Says when each event is due.
struct Schedule {
    pace: Pace,
    /// Events that were asked for.
    asked: u64,
    /// The time of the first event, in microseconds since 1970.
    origin: Option<i64>,
    /// The latest due time so far: an event out of order does not go back.
    latest: Duration,
    untimed: u64,
}

impl Schedule {
    fn new(pace: &Pace) -> Self {
        Self {
            pace: pace.clone(),
            asked: 0,
            origin: None,
            latest: Duration::ZERO,
            untimed: 0,
        }
    }

    fn due(&mut self, line: &[u8], micros: Option<i64>) -> Option<Duration> {
        let seconds = match &self.pace {
            Pace::FullSpeed => return None,
            Pace::Rate(rate) => self.asked as f64 / rate,
            Pace::Recorded { field, speed } => {
                let Some(micros) = micros.or_else(|| time_of(line, field)) else {
                    self.untimed += 1;
                    return Some(self.latest);
                };
                let origin = *self.origin.get_or_insert(micros);
                micros.saturating_sub(origin) as f64 / 1e6 / speed
            }
        };
        self.asked += 1;
        // Not a number, negative or beyond what a duration holds: due at once, or never before others.
        let due = Duration::try_from_secs_f64(seconds).unwrap_or(self.latest);
        self.latest = self.latest.max(due);
        Some(self.latest)
    }
}

/// The time that a line's field has, in microseconds since 1970. An integer's unit is told by its size: seconds
/// have ten digits in this century, milliseconds thirteen, microseconds sixteen.
fn time_of(line: &[u8], field: &str) -> Option<i64> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let mut value = &event;
    for key in field.split('.') {
        value = value.get(key)?;
    }
    match value {
        Value::String(text) => event::decode::parse_rfc3339(text.as_bytes()),
        Value::Number(number) => {
            let number = number.as_i64()?;
            let unit = match number.unsigned_abs() {
                0..100_000_000_000 => 1_000_000,
                100_000_000_000..100_000_000_000_000 => 1_000,
                _ => 1,
            };
            number.checked_mul(unit)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
