//! When a source looks: at an interval, or by a cron expression.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use croner::Cron;

/// The longest wait at once: a clock that was set in between is noticed within it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// When a source looks.
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Every(Duration),
    Cron(Box<Cron>),
}

/// Why a text is no cron expression, or one that never comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}` is not a cron expression: {message}")]
pub struct ScheduleError {
    expression: String,
    message: String,
}

impl Schedule {
    /// Every so often, at once for the first time.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self(Kind::Every(interval))
    }

    /// By a cron expression of five fields, or of six whose first one is the second; in UTC.
    ///
    /// # Errors
    /// [`ScheduleError`] when it is none, or when its time never comes.
    pub fn cron(expression: &str) -> Result<Self, ScheduleError> {
        let wrong = |message: String| ScheduleError {
            expression: expression.to_owned(),
            message,
        };
        let cron = Cron::from_str(expression).map_err(|error| wrong(error.to_string()))?;
        cron.find_next_occurrence(&utc(SystemTime::now()), false)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self(Kind::Cron(Box::new(cron))))
    }

    /// How long to wait from `now` on. `last` is the moment that the last wait aimed at: turns that were missed while
    /// work took longer are left out.
    fn wait(&self, now: SystemTime, last: Option<SystemTime>) -> (Duration, SystemTime) {
        let due = match (&self.0, last) {
            (Kind::Every(_), None) => now,
            (Kind::Every(interval), Some(last)) => {
                let due = last + *interval;
                if due < now { now } else { due }
            }
            (Kind::Cron(cron), _) => {
                let next = cron.find_next_occurrence(&utc(now), false);
                // That its time comes at all was checked; far in the future it is looked again.
                next.map_or(now + WAIT_MAX, SystemTime::from)
            }
        };
        (due.duration_since(now).unwrap_or_default(), due)
    }
}

fn utc(moment: SystemTime) -> DateTime<Utc> {
    moment.into()
}

/// The turns of one source.
#[derive(Debug)]
pub(crate) struct Turns {
    schedule: Schedule,
    last: Option<SystemTime>,
}

impl Turns {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, last: None }
    }

    /// Waits for the next turn.
    pub(crate) async fn next(&mut self) {
        loop {
            let now = SystemTime::now();
            let (wait, due) = self.schedule.wait(now, self.last);
            if wait <= WAIT_MAX {
                tokio::time::sleep(wait).await;
                self.last = Some(due);
                return;
            }
            tokio::time::sleep(WAIT_MAX).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_interval_begins_at_once_and_leaves_missed_turns_out() {
        let schedule = Schedule::every(Duration::from_secs(5));
        assert_eq!(schedule.wait(at(100), None), (Duration::ZERO, at(100)));
        assert_eq!(
            schedule.wait(at(101), Some(at(100))),
            (Duration::from_secs(4), at(105))
        );
        assert_eq!(schedule.wait(at(130), Some(at(100))), (Duration::ZERO, at(130)));
    }

    #[test]
    fn a_cron_expression_has_seconds_or_none_and_is_in_utc() {
        let wait = |expression: &str, now: u64| {
            let schedule = Schedule::cron(expression).expect("an expression");
            schedule.wait(at(now), None).0.as_secs()
        };
        // 1970-01-01 was a Thursday.
        assert_eq!(wait("*/10 * * * * *", 3), 7);
        assert_eq!(wait("*/10 * * * * *", 10), 10, "never twice in one moment");
        assert_eq!(wait("*/5 * * * *", 1), 299);
        assert_eq!(wait("0 0 12 * * *", 0), 12 * 3_600);
        assert_eq!(wait("0 0 * * FRI", 0), 24 * 3_600);
    }

    #[test]
    fn what_is_no_expression_or_never_comes_is_refused() {
        for wrong in ["", "hello", "* * *", "61 * * * * *", "0 0 30 2 *"] {
            let error = Schedule::cron(wrong).expect_err(wrong).to_string();
            assert!(error.contains("cron expression"), "{error}");
        }
    }
}
