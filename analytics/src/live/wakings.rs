//! Wakes those who watch a channel, a few at a time.
//!
//! A client that is woken takes a system call and a little more of the threads that also answer whoever posts. A
//! thousand that are woken at once would stand in front of every request (measured: `benches/README.md`). So they are in
//! groups that are woken one after the other, with time between them for everybody else; what comes meanwhile is
//! gathered for the next round.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Groups of clients. Few clients are alone in theirs.
const GROUPS: usize = 32;
/// The time that a round leaves for each client: a thousand of them are woken 20 times a second.
const EACH: Duration = Duration::from_micros(50);
/// Less is not waited for: a timer's step is a millisecond.
const STEP: Duration = Duration::from_millis(1);

/// Clients, and what wakes them.
#[derive(Debug)]
pub(super) struct Wakings {
    /// Counts what came.
    changed: watch::Sender<u64>,
    groups: Vec<watch::Sender<u64>>,
    /// The group of the next client.
    next: AtomicUsize,
}

impl Wakings {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            changed: watch::channel(0).0,
            groups: (0..GROUPS).map(|_| watch::channel(0).0).collect(),
            next: AtomicUsize::new(0),
        })
    }

    /// Changes whenever there is more, soon after it is there.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        let group = self.next.fetch_add(1, Ordering::Relaxed) % GROUPS;
        self.groups[group].subscribe()
    }

    /// Says that there is more.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes round after round, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut changes = self.changed.subscribe();
        // What came before this was first polled has woken nobody yet.
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            let mut due = Instant::now();
            for group in &self.groups {
                let clients = u32::try_from(group.receiver_count()).unwrap_or(u32::MAX);
                group.send_modify(|count| *count = count.wrapping_add(1));
                due += EACH.saturating_mul(clients);
                if due.saturating_duration_since(Instant::now()) >= STEP {
                    sleep_until(due).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_the_first_round_wakes_everybody() {
        let wakings = Wakings::new();
        let mut watching: Vec<_> = (0..2 * GROUPS).map(|_| wakings.subscribe()).collect();
        wakings.wake();
        let mut rounds = tokio::task::JoinSet::new();
        rounds.spawn(Arc::clone(&wakings).run());
        for one in &mut watching {
            let woken = tokio::time::timeout(Duration::from_secs(60), one.changed()).await;
            woken.expect("in time").expect("the groups are there");
        }
    }
}
