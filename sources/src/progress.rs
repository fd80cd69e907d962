//! How a source is, for readiness and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What waits at a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Rows that wait, counted up to a bound.
    pub rows: u64,
    /// Age of the oldest, in seconds, where the table says when a row was made.
    pub oldest_s: Option<f64>,
}

/// How one part of a source is.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceProgress {
    /// The source's name.
    pub source: String,
    /// `relay`, `responses` or `queue`.
    pub part: &'static str,
    /// Events that were taken, or responses that were applied, since the start.
    pub taken: u64,
    /// Events and responses that were set aside since the start.
    pub refused: u64,
    /// What waits, when it was last asked.
    pub backlog: Option<Backlog>,
    /// Why the last try failed, while it is tried again.
    pub failing: Option<String>,
    /// Why it does not go on before a restart.
    pub stopped: Option<String>,
}

/// What a part tells about itself, behind a lock that is held for a copy only.
#[derive(Debug)]
pub(crate) struct Shared {
    progress: Mutex<SourceProgress>,
}

impl Shared {
    pub(crate) fn new(source: &str, part: &'static str) -> Self {
        let progress = SourceProgress {
            source: source.to_owned(),
            part,
            taken: 0,
            refused: 0,
            backlog: None,
            failing: None,
            stopped: None,
        };
        let shared = Self {
            progress: Mutex::new(progress),
        };
        shared.tell_failing(false);
        shared
    }

    pub(crate) fn get(&self) -> SourceProgress {
        self.lock().clone()
    }

    /// Grows with everything that worked.
    pub(crate) fn worked(&self) -> u64 {
        let progress = self.lock();
        progress.taken + progress.refused
    }

    /// Says that what was being tried works.
    pub(crate) fn works(&self) {
        let was_failing = self.lock().failing.take().is_some();
        if was_failing {
            let SourceProgress { source, part, .. } = self.get();
            tracing::info!(source, part, "the source works again");
            self.tell_failing(false);
        }
    }

    /// Counts what is durable now.
    pub(crate) fn took(&self, taken: u64, refused: u64) {
        {
            let mut progress = self.lock();
            progress.taken += taken;
            progress.refused += refused;
        }
        self.works();
        let labels = self.labels();
        metrics::counter!("tidemill_source_events_total", &labels).increment(taken);
        metrics::counter!("tidemill_source_refused_total", &labels).increment(refused);
    }

    /// Says what waits.
    pub(crate) fn waits(&self, backlog: Backlog) {
        self.lock().backlog = Some(backlog);
        let labels = self.labels();
        #[expect(
            clippy::cast_precision_loss,
            reason = "gauges are doubles; 2^53 rows are exact"
        )]
        metrics::gauge!("tidemill_source_backlog_rows", &labels).set(backlog.rows as f64);
        metrics::gauge!("tidemill_source_backlog_oldest_seconds", &labels)
            .set(backlog.oldest_s.unwrap_or(0.0));
    }

    pub(crate) fn failed(&self, error: &str, tries: u32, wait: Duration) {
        let SourceProgress { source, part, .. } = self.get();
        tracing::warn!(
            source,
            part,
            tries,
            wait_ms = wait.as_millis(),
            error,
            "the source failed, tries again"
        );
        self.lock().failing = Some(error.to_owned());
        metrics::counter!("tidemill_source_retries_total", &self.labels()).increment(1);
        self.tell_failing(true);
    }

    pub(crate) fn stopped(&self, reason: &str) {
        let SourceProgress { source, part, .. } = self.get();
        tracing::error!(source, part, reason, "the source stopped; somebody must look");
        self.lock().stopped = Some(reason.to_owned());
        self.tell_failing(true);
    }

    fn tell_failing(&self, failing: bool) {
        let value = if failing { 1.0 } else { 0.0 };
        metrics::gauge!("tidemill_source_failing", &self.labels()).set(value);
    }

    fn labels(&self) -> [(&'static str, String); 2] {
        let progress = self.lock();
        [
            ("source", progress.source.clone()),
            ("part", progress.part.to_owned()),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, SourceProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
