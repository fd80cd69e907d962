//! What came of a replay, for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{Options, Pace};
use super::tally::Tally;

/// What came of a replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether latency counts from intended starts; in a closed loop it counts from when the request began.
    pub open_loop: bool,
    /// Connections that sent at once.
    pub connections: usize,
    /// Batches that were sent; a retry is not counted again.
    pub requests: u64,
    /// Events that the server stored.
    pub accepted: u64,
    /// Events that it did not accept.
    pub rejected: u64,
    /// Events that were refused for good.
    pub failed: u64,
    /// Events whose outcome only the server knows.
    pub unknown: u64,
    /// Requests that were sent again after 429 or 503.
    pub retries: u64,
    /// How often a server that was gone was asked again.
    pub reconnects: u64,
    /// Events whose recorded time could not be read.
    pub untimed: u64,
    /// Bytes of bodies that have an answer.
    pub bytes: u64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Events with an answer, a second.
    pub events_per_second: f64,
    /// Millions of bytes of bodies with an answer, a second.
    pub megabytes_per_second: f64,
    /// How long answers took.
    pub latency: Latency,
    /// The longest time by which a request began after its intended start, in milliseconds.
    pub late_ms_max: f64,
    /// Whether it ended before source and duration did: by a signal, or a refusal of everything.
    pub stopped: bool,
    /// What went wrong, the first few; empty when all is well.
    pub problems: Vec<String>,
    /// How many problems there were.
    pub problem_count: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// 99 of a hundred.
    pub p99_ms: f64,
    /// 999 of a thousand.
    pub p99_9_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Report {
    pub(super) fn new(options: &Options, tally: Tally, elapsed: Duration, stopped: bool) -> Self {
        let seconds = elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let quantile = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            open_loop: options.pace != Pace::FullSpeed,
            connections: options.connections,
            requests: tally.requests,
            accepted: tally.accepted,
            rejected: tally.rejected,
            failed: tally.failed_events,
            unknown: tally.unknown_events,
            retries: tally.retries,
            reconnects: tally.reconnects,
            untimed: tally.untimed,
            bytes: tally.bytes,
            seconds,
            events_per_second: per_second(tally.accepted + tally.rejected),
            megabytes_per_second: per_second(tally.bytes) / 1e6,
            latency: Latency {
                p50_ms: quantile(0.5),
                p90_ms: quantile(0.9),
                p99_ms: quantile(0.99),
                p99_9_ms: quantile(0.999),
                max_ms: tally.latency.max() as f64 / 1e3,
            },
            late_ms_max: tally.late.as_secs_f64() * 1e3,
            stopped,
            problems: tally.problems,
            problem_count: tally.problem_count,
        }
    }

    /// Whether every event that was sent has an answer. Rejected events have one.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.problem_count == 0 && self.failed == 0 && self.unknown == 0
    }
}

/// A table, for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.accepted + self.rejected;
        writeln!(
            f,
            "{} events in {} requests over {} connections in {:.2} s{}\n",
            grouped(answered),
            grouped(self.requests),
            self.connections,
            self.seconds,
            if self.stopped {
                ", stopped before the end"
            } else {
                ""
            }
        )?;
        writeln!(f, "  accepted      {:>16}", grouped(self.accepted))?;
        writeln!(f, "  rejected      {:>16}", grouped(self.rejected))?;
        writeln!(f, "  unknown       {:>16}", grouped(self.unknown))?;
        for (count, what) in [
            (self.failed, "refused"),
            (self.retries, "retries"),
            (self.reconnects, "reconnects"),
            (self.untimed, "without time"),
        ] {
            if count > 0 {
                writeln!(f, "  {what:<13} {:>16}", grouped(count))?;
            }
        }
        writeln!(
            f,
            "  events/s      {:>16}",
            grouped(self.events_per_second as u64)
        )?;
        writeln!(f, "  MB/s          {:>16.1}\n", self.megabytes_per_second)?;
        self.fmt_latency(f)?;
        if self.problem_count > 0 {
            writeln!(f, "\n{} problems:", self.problem_count)?;
            for problem in &self.problems {
                writeln!(f, "  {problem}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn fmt_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<12}{:>9} {:>9} {:>9} {:>9} {:>9}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let latency = &self.latency;
        writeln!(
            f,
            "  {:<12}{:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}\n",
            "ms", latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms
        )?;
        if self.open_loop {
            writeln!(
                f,
                "  open loop: latency counts from the intended start; the latest request began {:.2} ms after its own",
                self.late_ms_max
            )
        } else {
            writeln!(
                f,
                "  closed loop: every connection waits for its answer before it sends again, so these are service\n  \
                 times; use --rate for the latency that a client with a schedule of its own would see"
            )
        }
    }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
