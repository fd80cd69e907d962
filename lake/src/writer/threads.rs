//! Columns on several threads.
//!
//! A stream has one file that grows, and one thread that fills it: a machine with many processors would take events in
//! faster than it stores them, and be behind for as long as they come. The columns of a file know nothing of each
//! other, so whoever is free encodes the next one.

use std::sync::{Arc, Mutex, PoisonError};

use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::Semaphore;

/// Threads that help those that call a [`FileWriter`](super::FileWriter), however many there are of these.
#[derive(Clone, Debug, Default)]
pub struct EncodingThreads {
    /// None where each caller is alone.
    pool: Option<Arc<Pool>>,
}

#[derive(Debug)]
struct Pool {
    threads: ThreadPool,
    /// How many of them help nobody. Who waited for one that helps somebody else would be slower than alone.
    free: Semaphore,
}

impl EncodingThreads {
    /// So many threads; they are as nice as who calls this.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let name = |number| format!("tidemill-encode-{number}");
        let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(name);
        // Without threads it would take as many as there are processors.
        let threads = (count > 0).then(|| builder.build()).transpose()?;
        let pool = threads.map(|threads| Pool {
            threads,
            free: Semaphore::new(count),
        });
        Ok(Self {
            pool: pool.map(Arc::new),
        })
    }

    /// Whether there are any beside the caller.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.pool.is_some()
    }

    /// Does the same to each item, on this thread and on those that are free. All is done when it returns.
    ///
    /// # Errors
    /// One of those that items brought.
    pub(crate) fn each<T: Send, E: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let Some(pool) = &self.pool else {
            let mut items = items;
            return items.try_for_each(work);
        };
        let others = items.size_hint().0.saturating_sub(1);
        let free = std::iter::from_fn(|| pool.free.try_acquire().ok());
        let helpers: Vec<_> = free.take(others).collect();
        let (items, failed) = (Mutex::new(items), Mutex::new(None));
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || {
            while let Some(item) = next() {
                if let Err(error) = work(item) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        };
        pool.threads.in_place_scope(|scope| {
            helpers.iter().for_each(|_| scope.spawn(|_| run()));
            run();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::panic::AssertUnwindSafe;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::EncodingThreads;

    #[test]
    fn each_item_is_done_once_by_the_caller_and_those_who_are_free() {
        for count in [0, 1, 3] {
            let threads = EncodingThreads::start(count).unwrap();
            // All have one item each, at the same time.
            let together = Barrier::new(count + 1);
            let (mut done, who) = (vec![0; count + 1], Mutex::new(HashSet::new()));
            let all = threads.each(done.iter_mut(), |item| {
                together.wait();
                *item += 1;
                who.lock().unwrap().insert(thread::current().id());
                Ok::<_, ()>(())
            });
            assert_eq!((all, done), (Ok(()), vec![1; count + 1]));
            let who = who.into_inner().unwrap();
            assert_eq!(who.len(), count + 1);
            assert!(who.contains(&thread::current().id()));
        }
    }

    #[test]
    fn what_fails_or_panics_on_another_thread_fails_or_panics_here() {
        let threads = EncodingThreads::start(1).unwrap();
        let together = Barrier::new(2);
        let here = thread::current().id();
        let on_another = |what: fn() -> Result<(), &'static str>| {
            threads.each([(), ()].into_iter(), |()| {
                together.wait();
                if thread::current().id() == here {
                    Ok(())
                } else {
                    what()
                }
            })
        };
        assert_eq!(on_another(|| Err("no room")), Err("no room"));
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| on_another(|| panic!("a fault"))));
        assert!(panicked.is_err());
        assert_eq!(on_another(|| Ok(())), Ok(()), "and they go on");
    }
}
