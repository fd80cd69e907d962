//! When a worker of SQL makes way for everybody else.
//!
//! A question that takes some milliseconds shall not wait for as long as ingest keeps the processors busy, and one that
//! takes seconds shall not slow ingest down. Only time tells which of them it is. So a worker has a credit of processor
//! time that grows while it waits: as long as it lasts, its threads are as good as the server's own; when it is used up,
//! the worker makes way, until it has all of it again.
//!
//! Going back needs the right to be less nice (root, `CAP_SYS_NICE`, or `RLIMIT_NICE`). A worker that does not have it
//! stays where it is after its first long question, as warm as before; a fresh one still begins with its credit. Each
//! worker has a credit of its own, so all of them together may take a quarter of a processor each for ever.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpriority_process, setpriority_process};
use tokio::sync::watch;
use tokio::time::sleep;

use super::priority::NICEST;

/// What a worker may use at once: some questions like "what does this user have", not one over all events.
const CREDIT_MAX: Duration = Duration::from_millis(100);
/// How much of the time that passes is added.
const SHARE: f64 = 0.25;
/// How often it is looked at while a question runs.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much nicer a worker becomes: with 1.25 a step, one of the server's threads weighs about five times as much as
/// one of a worker then.
const NICER_BY: i32 = 7;

/// Processor time that a worker may use.
#[derive(Debug)]
struct Credit {
    left: Duration,
    /// When it was looked at, and what had been used by then.
    seen: (Instant, Duration),
    used_up: bool,
}

impl Credit {
    fn new(now: Instant, used: Duration) -> Self {
        Self {
            left: CREDIT_MAX,
            seen: (now, used),
            used_up: false,
        }
    }

    /// Takes what was used since the last look, adds for the time that passed, and says whether the worker makes way.
    fn look(&mut self, now: Instant, used: Duration) -> bool {
        let (then, before) = std::mem::replace(&mut self.seen, (now, used));
        let added = now.saturating_duration_since(then).mul_f64(SHARE);
        let taken = used.saturating_sub(before);
        self.left = (self.left + added).saturating_sub(taken).min(CREDIT_MAX);
        if self.left.is_zero() {
            self.used_up = true;
        } else if self.left == CREDIT_MAX {
            self.used_up = false;
        }
        self.used_up
    }
}

/// Makes way and goes back for as long as the process lives; `busy` says whether a question runs. Where the system does
/// not tell what a process has used, it makes way at once, for good.
pub(crate) async fn watch_credit(mut busy: watch::Receiver<bool>) {
    let given = getpriority_process(None).unwrap_or(0);
    let nicer = given.saturating_add(NICER_BY).min(NICEST);
    let Ok(used) = processor_time() else {
        set_all(nicer);
        return;
    };
    let mut credit = Credit::new(Instant::now(), used);
    let mut makes_way = false;
    loop {
        if *busy.borrow_and_update() {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                changed = busy.changed() => if changed.is_err() { return },
            }
        } else if busy.changed().await.is_err() {
            return;
        }
        let Ok(used) = processor_time() else { continue };
        let must = credit.look(Instant::now(), used);
        if must != makes_way {
            makes_way = must;
            set_all(if must { nicer } else { given });
        }
    }
}

/// Sets how nice each thread of this process is.
fn set_all(nice: i32) {
    if let Err(error) = try_set_all(nice) {
        tracing::debug!(%error, nice, "the priority of a worker stays as it is");
    }
}

fn try_set_all(nice: i32) -> io::Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = thread?.file_name();
        let id = name
            .to_str()
            .and_then(|id| id.parse().ok())
            .and_then(Pid::from_raw);
        if let Some(thread) = id {
            match setpriority_process(Some(thread), nice) {
                // It ended meanwhile.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Processor time of all threads of this process.
fn processor_time() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    of_stat(&text).ok_or_else(|| io::Error::other("`/proc/self/stat` does not say what was used"))
}

/// Linux counts them in hundredths of a second for every architecture (`USER_HZ`).
fn of_stat(text: &str) -> Option<Duration> {
    // The name before the last parenthesis may have spaces; user and system time are the 14th and 15th of all fields.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn short_questions_never_use_the_credit_up_and_a_long_one_does() {
        let begun = Instant::now();
        let mut credit = Credit::new(begun, Duration::ZERO);
        // A fifth of the time, for ten seconds.
        for tick in 1..=100 {
            assert!(!credit.look(begun + MS * 100 * tick, MS * 20 * tick), "at {tick}");
        }
        let (now, used) = (begun + MS * 10_000, MS * 2_000);
        let makes_way: Vec<bool> = (1..=20)
            .map(|tick| credit.look(now + MS * 10 * tick, used + MS * 10 * tick))
            .collect();
        assert!(!makes_way[0] && makes_way[19]);
    }

    #[test]
    fn who_made_way_goes_back_when_all_of_the_credit_is_there_again() {
        let begun = Instant::now();
        let mut credit = Credit::new(begun, Duration::ZERO);
        assert!(credit.look(begun, MS * 500));
        assert!(credit.look(begun + MS * 100, MS * 500), "a quarter is there");
        assert!(!credit.look(begun + MS * 500, MS * 500));
    }

    #[test]
    fn what_a_process_used_is_read_whatever_its_name_is() {
        let text = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1";
        assert_eq!(of_stat(text), Some(MS * 1_750));
        assert_eq!(of_stat("12 (a"), None);
        assert!(processor_time().is_ok());
    }
}
