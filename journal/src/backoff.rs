//! How long to wait before the next try: exponential, with full jitter, bounded.
//!
//! The jitter comes from the standard library's hasher, which is seeded at random: it only has to differ between
//! streams and processes, so that they do not all come back in the same moment.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Waits between tries of one thing.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
    jitter: RandomState,
}

impl Backoff {
    /// Waits of about `first`, doubling up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            tries: 0,
            jitter: RandomState::new(),
        }
    }

    /// The wait before the next try: between half of and all of the doubled time.
    pub fn next_wait(&mut self) -> Duration {
        // 2^20 times any wait is above every bound; more would only overflow.
        let doubled = self.first.saturating_mul(1 << self.tries.min(20));
        let wait = doubled.min(self.longest);
        self.tries = self.tries.saturating_add(1);
        wait.mul_f64(0.5 + 0.5 * self.random())
    }

    /// How many tries failed since the last success.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Says that it worked: the next wait is the first again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// From 0 to 1, another one for each try and each process.
    fn random(&self) -> f64 {
        let mut hasher = self.jitter.build_hasher();
        hasher.write_u32(self.tries);
        f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_again_after_a_success() {
        let first = Duration::from_millis(100);
        let longest = Duration::from_secs(5);
        let mut backoff = Backoff::new(first, longest);
        for doubling in 0..40 {
            let whole = first.saturating_mul(1 << doubling.min(20)).min(longest);
            let wait = backoff.next_wait();
            assert!(
                wait >= whole / 2 && wait <= whole,
                "try {doubling}: {wait:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
