//! Lines → bodies of requests, each with its intended start.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::options::{BATCH_WINDOW, BatchSize, Options, Pace};
use super::source::{Lines, SourceError};

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
    lines: Lines,
    schedule: Schedule,
    events_max: u64,
    bytes_max: usize,
    /// Whether events that are due soon after the first one travel with it.
    window: bool,
    /// A line that did not fit into the batch before, and when it is due.
    carry: Vec<u8>,
    carry_due: Option<Duration>,
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
        Ok(Self {
            lines: Lines::open(&options.source)?,
            schedule: Schedule::new(&options.pace),
            events_max,
            bytes_max: options.batch_bytes_max(),
            window: options.batch.is_none() && options.pace != Pace::FullSpeed,
            carry: Vec::new(),
            carry_due: None,
            event: 0,
            batch: 0,
        })
    }

    /// Sends every batch to the queue; ends early when nobody takes them any more.
    pub(super) fn send_to(&mut self, queue: &mpsc::Sender<Batch>) -> Result<Read, SourceError> {
        while let Some(batch) = self.next()? {
            if queue.blocking_send(batch).is_err() {
                break;
            }
        }
        Ok(Read {
            untimed: self.schedule.untimed,
        })
    }

    fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        let mut body = Vec::with_capacity(self.bytes_max.min(1 << 20) + 1_024);
        let (mut events, mut due) = (0, None);
        while events < self.events_max {
            let from = body.len();
            let line_due = if self.carry.is_empty() {
                let Some(line) = self.lines.append(&mut body)? else {
                    break;
                };
                self.schedule.due(&body[from..], line.micros)
            } else {
                body.append(&mut self.carry);
                self.carry_due.take()
            };
            if events == 0 {
                due = line_due;
            } else if body.len() > self.bytes_max || self.is_later(due, line_due) {
                self.carry.extend_from_slice(&body[from..]);
                self.carry_due = line_due;
                body.truncate(from);
                break;
            }
            events += 1;
        }
        if events == 0 {
            return Ok(None);
        }
        let batch = Batch {
            id: self.batch,
            first_event: self.event,
            events,
            body: body.into(),
            due,
        };
        self.batch += 1;
        self.event += events;
        Ok(Some(batch))
    }

    fn is_later(&self, first: Option<Duration>, this: Option<Duration>) -> bool {
        self.window && matches!((first, this), (Some(first), Some(this)) if this > first + BATCH_WINDOW)
    }
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
