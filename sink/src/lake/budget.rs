//! The tail budget: how many bytes of records all open files together may hold back from the lake.
//!
//! What is in open files is read from the journal by every query, so it is bounded over all streams. When the
//! bound is crossed, the stream with most bytes is asked to roll, whoever crossed it: many small files of quiet
//! streams would not free much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The budget and every stream's share.
#[derive(Debug)]
pub(crate) struct TailBudget {
    limit_bytes: u64,
    shares: Vec<Share>,
}

#[derive(Debug, Default)]
struct Share {
    bytes: AtomicU64,
    roll: Notify,
}

impl TailBudget {
    pub(crate) fn new(limit_bytes: u64, consumers: usize) -> Self {
        Self {
            limit_bytes,
            shares: (0..consumers).map(|_| Share::default()).collect(),
        }
    }

    /// Counts bytes that consumer `index` holds back, and asks the largest one to roll when they are too many.
    fn set(&self, index: usize, bytes: u64) {
        self.shares[index].bytes.store(bytes, Ordering::Relaxed);
        let held = |share: &Share| share.bytes.load(Ordering::Relaxed);
        if self.shares.iter().map(held).sum::<u64>() > self.limit_bytes
            && let Some(largest) = self.shares.iter().max_by_key(|share| held(share))
        {
            largest.roll.notify_one();
        }
    }

    /// Waits until consumer `index` is asked to roll.
    async fn asked_to_roll(&self, index: usize) {
        self.shares[index].roll.notified().await;
    }
}

/// What one consumer holds of the budget, given back when its task ends or is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<TailBudget>,
    index: usize,
}

impl Held {
    pub(crate) fn new(budget: &Arc<TailBudget>, index: usize) -> Self {
        let budget = Arc::clone(budget);
        Self { budget, index }
    }

    /// So many bytes are held back now.
    pub(crate) fn set(&self, bytes: u64) {
        self.budget.set(self.index, bytes);
    }

    /// Waits until its consumer is asked to roll.
    pub(crate) async fn asked_to_roll(&self) {
        self.budget.asked_to_roll(self.index).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_largest_stream_is_asked_to_roll_when_all_together_hold_too_much() {
        let budget = TailBudget::new(100, 3);
        budget.set(0, 60);
        budget.set(1, 30);
        assert!(budget.asked_to_roll(0).now_or_never().is_none());
        budget.set(2, 20);
        assert!(budget.asked_to_roll(1).now_or_never().is_none());
        assert!(budget.asked_to_roll(2).now_or_never().is_none());
        assert!(budget.asked_to_roll(0).now_or_never().is_some());
    }
}
