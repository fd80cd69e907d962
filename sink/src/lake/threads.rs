//! Where the lake sink's work runs: before everybody else while it is behind, after everybody else while it is not.
//!
//! A sink that is behind makes the tail grow, and every question about it slower, so its encoding must not wait for
//! ingest. One that has caught up has nothing to hurry for, and a row group of a million rows keeps a processor busy for
//! tens of milliseconds, which requests would wait for. Who goes last gets next to nothing of a busy machine (with Linux's
//! idle class some thousandths of a processor), so what has not begun there in time is taken away, and what has begun
//! ends there with the record that it is at: [`Pace`]. The longest that cannot be divided is the end of a row group, or
//! of a file: some milliseconds of a processor, which take a second or two at the worst, once, since everything hurries
//! after that. Whoever wants a sink to stop may have to wait for as long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lake::EncodingThreads;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};

use crate::SinkError;

/// For how long all work hurries after some of it did not get on in time. Then it is tried again.
const HURRY: Duration = Duration::from_secs(2);

/// The threads of a lake sink. Made of one handle, both runtimes are that one, and nobody helps.
#[derive(Clone, Debug)]
pub struct SinkThreads {
    /// Runs the consumers, commits, the upkeep of the tables (it takes locks that commits wait for), and what is behind.
    pub first: Handle,
    /// Encodes the events of a stream that is not behind. It may have to wait for everybody else.
    pub last: Handle,
    /// Help `first` to encode what is behind.
    pub encoding: EncodingThreads,
}

impl From<&Handle> for SinkThreads {
    fn from(handle: &Handle) -> Self {
        Self {
            first: handle.clone(),
            last: handle.clone(),
            encoding: EncodingThreads::default(),
        }
    }
}

/// Which of its threads a consumer uses: those that go last, unless it is behind, or they did not get on.
#[derive(Debug)]
pub(super) struct Pace {
    threads: SinkThreads,
    patience: Duration,
    behind: bool,
    hurries_until: Option<Instant>,
}

/// What is said to work that begins.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When it shall stop half-way, if it can.
    pub(super) until: Option<std::time::Instant>,
    /// Who helps. Only what is behind has help: whoever is not would stop requests on several processors at once.
    pub(super) threads: EncodingThreads,
}

impl Pace {
    /// That of a consumer that has not read anything yet, and may have a lot to read. Work may take as long as its
    /// `patience` on the threads that go last, with all its waiting; what is left of it hurries.
    pub(super) fn new(threads: SinkThreads, patience: Duration) -> Self {
        Self {
            threads,
            patience,
            behind: true,
            hurries_until: None,
        }
    }

    /// Whether there is more to read than one look at the journal brings.
    pub(super) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    fn hurries(&self) -> bool {
        self.behind || self.hurries_until.is_some_and(|until| Instant::now() < until)
    }

    /// Does what takes processor time, or waits for a disk, on a thread for such work. It is told when to stop half-way,
    /// if it can: the rest of it hurries then.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Turn) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        if self.hurries() {
            let turn = Turn {
                until: None,
                threads: match self.behind {
                    true => self.threads.encoding.clone(),
                    false => EncodingThreads::default(),
                },
            };
            return on_thread(&self.threads.first, move || work(turn)).await;
        }
        let until = Instant::now() + self.patience;
        let waiting = Arc::new(Mutex::new(Some(work)));
        let begun = Arc::clone(&waiting);
        let mut running = self.threads.last.spawn_blocking(move || {
            let work = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
            let work = work.ok_or_else(|| SinkError::Thread {
                message: "its work was taken away".to_owned(),
            })?;
            work(Turn {
                until: Some(until.into_std()),
                threads: EncodingThreads::default(),
            })
        });
        let in_time = timeout_at(until, &mut running).await;
        if Instant::now() >= until {
            self.hurries_until = Some(Instant::now() + HURRY);
        }
        if let Ok(ended) = in_time {
            return joined(ended);
        }
        // Who holds it is beginning just now, and may stand still there: nobody waits for that.
        let not_begun = waiting.try_lock().ok().and_then(|mut waiting| waiting.take());
        match not_begun {
            Some(work) => on_thread(&self.threads.first, move || work(Turn::default())).await,
            None => joined(running.await),
        }
    }
}

/// Does what takes processor time, or waits for a disk, on a thread for such work.
pub(super) async fn on_thread<T: Send + 'static>(
    threads: &Handle,
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    joined(threads.spawn_blocking(work).await)
}

/// What came of work on a thread, which may have ended early.
fn joined<T>(ended: Result<Result<T, SinkError>, JoinError>) -> Result<T, SinkError> {
    ended.unwrap_or_else(|error| {
        Err(SinkError::Thread {
            message: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use lake::EncodingThreads;
    use tokio::runtime::{Builder, Runtime};

    use super::{Pace, SinkThreads};

    const PATIENCE: Duration = Duration::from_millis(250);

    fn runtime(name: &str) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(1).enable_all();
        builder.thread_name(name).build().unwrap()
    }

    fn pace(first: &Runtime, last: &Runtime) -> Pace {
        let threads = SinkThreads {
            first: first.handle().clone(),
            last: last.handle().clone(),
            encoding: EncodingThreads::start(1).unwrap(),
        };
        Pace::new(threads, PATIENCE)
    }

    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn work_goes_last_unless_it_is_behind_and_hurries_when_nothing_of_it_is_begun() {
        let (first, last) = (runtime("first"), runtime("last"));
        let mut pace = pace(&first, &last);
        let where_it_runs = |pace: &mut Pace| {
            let work = pace.run(|turn| Ok((name(), turn.until.is_some())));
            first.block_on(work).unwrap()
        };
        assert_eq!(where_it_runs(&mut pace), ("first".to_owned(), false));
        pace.set_behind(false);
        assert_eq!(where_it_runs(&mut pace), ("last".to_owned(), true));

        // The only thread that goes last does not get on.
        let (go_on, told) = mpsc::channel::<()>();
        let blocked = last.spawn_blocking(move || told.recv());
        assert_eq!(where_it_runs(&mut pace), ("first".to_owned(), false));
        go_on.send(()).unwrap();
        first.block_on(blocked).unwrap().unwrap();
        assert_eq!(
            where_it_runs(&mut pace),
            ("first".to_owned(), false),
            "it hurries for a while"
        );
        pace.hurries_until = pace.hurries_until.map(|until| until - Duration::from_secs(60));
        assert_eq!(where_it_runs(&mut pace), ("last".to_owned(), true));
    }

    #[test]
    fn only_what_is_behind_is_helped() {
        let (first, last) = (runtime("first"), runtime("last"));
        let mut pace = pace(&first, &last);
        let is_helped = |pace: &mut Pace| {
            let work = pace.run(|turn| Ok((name(), turn.threads.are_several())));
            first.block_on(work).unwrap()
        };
        assert_eq!(is_helped(&mut pace), ("first".to_owned(), true));
        pace.set_behind(false);
        assert_eq!(is_helped(&mut pace), ("last".to_owned(), false));
        pace.hurries_until = Some(tokio::time::Instant::now() + Duration::from_secs(60));
        assert_eq!(is_helped(&mut pace), ("first".to_owned(), false));
    }

    #[test]
    fn what_is_left_of_work_that_stopped_in_time_hurries() {
        let (first, last) = (runtime("first"), runtime("last"));
        let mut pace = pace(&first, &last);
        pace.set_behind(false);
        let work = pace.run(|turn| {
            while turn.until.is_some_and(|until| std::time::Instant::now() < until) {
                std::thread::yield_now();
            }
            Ok(name())
        });
        assert_eq!(first.block_on(work).unwrap(), "last");
        assert!(pace.hurries());
    }

    #[test]
    fn work_that_was_begun_is_waited_for_however_long_it_takes() {
        let (first, last) = (runtime("first"), runtime("last"));
        let mut pace = pace(&first, &last);
        pace.set_behind(false);
        let (go_on, told) = mpsc::channel::<()>();
        let late = first.spawn(async move {
            tokio::time::sleep(PATIENCE * 2).await;
            go_on.send(()).unwrap();
        });
        let work = pace.run(move |_| {
            told.recv().unwrap();
            Ok(name())
        });
        assert_eq!(first.block_on(work).unwrap(), "last");
        assert!(pace.hurries());
        first.block_on(late).unwrap();
    }
}
