//! What is counted while a replay runs: for the report at its end, and for whoever looks on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::batches::Read;

/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Problems that are described; all are counted.
const PROBLEMS_MAX: usize = 10;

/// What all senders did. One for all of them: a histogram is too large for one in each of 4,096 connections.
#[derive(Debug)]
pub(super) struct Tally {
    /// Microseconds from the intended start to the end of the answer.
    pub(super) latency: Histogram<u64>,
    pub(super) requests: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) failed_events: u64,
    pub(super) unknown_events: u64,
    /// Bytes of bodies that have an answer.
    pub(super) bytes: u64,
    pub(super) retries: u64,
    pub(super) reconnects: u64,
    /// The longest time by which a request began after its intended start.
    pub(super) late: Duration,
    pub(super) untimed: u64,
    pub(super) problems: Vec<String>,
    pub(super) problem_count: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are right"),
            requests: 0,
            accepted: 0,
            rejected: 0,
            failed_events: 0,
            unknown_events: 0,
            bytes: 0,
            retries: 0,
            reconnects: 0,
            late: Duration::ZERO,
            untimed: 0,
            problems: Vec::new(),
            problem_count: 0,
        }
    }
}

impl Tally {
    pub(super) fn started(&mut self, late: Duration) {
        self.requests += 1;
        self.late = self.late.max(late);
    }

    pub(super) fn answered_after(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros.max(1));
    }

    pub(super) fn answered(&mut self, accepted: u64, rejected: u64, bytes: u64) {
        self.accepted += accepted;
        self.rejected += rejected;
        self.bytes += bytes;
    }

    pub(super) fn read(&mut self, read: Read) {
        self.untimed += read.untimed;
    }

    /// Describes a problem, unless it was described already or there are too many.
    pub(super) fn problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// How far a replay is; read it while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    events: AtomicU64,
    rejected: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
}

impl Progress {
    /// Events that have an answer.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events among them that were rejected.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that have an answer.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Requests that were sent again after 429 or 503.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, events: u64, rejected: u64, bytes: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
