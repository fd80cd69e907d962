//! How long to wait before the next try: doubling, bounded, and different for each process.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait: whatever was away is used again this soon after it is back.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits between tries of one thing.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    tries: u32,
}

impl Retry {
    /// The wait before the next try: between half of and all of the doubled time.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let random = RandomState::new().build_hasher().finish() % 1_000;
        doubled.mul_f64(0.5 + random as f64 / 2_000.0)
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }

    /// Says that it worked: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// What a mutex holds, whoever panicked with it.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
