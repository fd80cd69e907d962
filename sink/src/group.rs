//! One destination's partitions in this process: a task for each one that the group assigns.
//!
//! The group says who should work where, so that nobody works in vain; it is not what makes each event be there
//! once. A destination compares its stored position before it takes anything (I-2), so a task that goes on with a
//! partition that has long been another's, because its process was paused, writes nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use event::{Partition, StreamName};
use futures::future::BoxFuture;
use journal::{Assignment, GroupMember, Journal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;

/// How long a task may take to commit what is open when its partition has gone to somebody else, who waits for
/// nothing meanwhile; then it is dropped, and its rows are written by the other one.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// What a partition's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Works.
    Running,
    /// The partition is somebody else's from now on: commit what is open, and end.
    Released,
    /// The process ends: read on for a bounded time, commit, and end.
    Stopping,
}

/// This process in the group, shared by its tasks.
pub(crate) type Member = Arc<Box<dyn GroupMember>>;

/// A partition of a stream.
type Share = (StreamName, Partition);

/// What a destination shares with other processes.
pub(crate) struct Sharing {
    pub(crate) journal: Arc<dyn Journal>,
    /// The group's name.
    pub(crate) group: String,
    pub(crate) streams: Vec<StreamName>,
    /// Becomes true when everything shall end.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) backoff: Backoff,
}

struct Task {
    phase: watch::Sender<Phase>,
    abort: AbortHandle,
    /// When it is dropped, once it was released.
    until: Option<Instant>,
}

/// The tasks that run.
struct Tasks<S> {
    start: S,
    member: Member,
    running: HashMap<Share, Task>,
    ended: JoinSet<Share>,
}

impl Sharing {
    /// Runs `start`'s tasks until told to stop and all of them have ended. A task that ends by itself is started
    /// again only when its partition comes back after it was somebody else's.
    pub(crate) async fn run<S>(mut self, start: S)
    where
        S: FnMut(Share, watch::Receiver<Phase>, Member) -> BoxFuture<'static, ()>,
    {
        if let Some(member) = self.join().await {
            self.share(member, start).await;
        }
    }

    async fn share<S>(mut self, member: Box<dyn GroupMember>, start: S)
    where
        S: FnMut(Share, watch::Receiver<Phase>, Member) -> BoxFuture<'static, ()>,
    {
        let mut assigned = member.assigned();
        let member = Arc::new(member);
        let mut tasks = Tasks {
            start,
            member: Arc::clone(&member),
            running: HashMap::new(),
            ended: JoinSet::new(),
        };
        let mut wanted: Assignment = Arc::default();
        loop {
            let now = Arc::clone(&assigned.borrow_and_update());
            tasks.start_missing(&wanted, &now);
            tasks.release_others(&now);
            wanted = now;
            let overdue = tasks.overdue();
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => break,
                changed = assigned.changed() => if changed.is_err() {
                    // The membership ended by itself, which only a bug does: nothing is lost, and it shows as lag.
                    tracing::error!(group = self.group, "the group has forgotten this process");
                    break;
                },
                Some(ended) = tasks.ended.join_next(), if !tasks.ended.is_empty() => {
                    tasks.forget(ended.ok(), &mut wanted);
                }
                () = until(overdue) => tasks.drop_overdue(),
            }
        }
        for task in tasks.running.values() {
            task.phase.send_replace(Phase::Stopping);
        }
        while tasks.ended.join_next().await.is_some() {}
        drop(tasks);
        if let Some(member) = Arc::into_inner(member) {
            member.leave().await;
        }
    }

    /// Joins the group, for as long as it takes. `None` when told to stop before.
    async fn join(&mut self) -> Option<Box<dyn GroupMember>> {
        loop {
            let error = match self.journal.join(&self.group, &self.streams).await {
                Ok(member) => return Some(member),
                Err(error) => error,
            };
            let wait = self.backoff.next_wait();
            tracing::warn!(group = self.group, %error, wait_ms = wait.as_millis(), "cannot join the group, tries again");
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.stopping.wait_for(|stop| *stop) => return None,
            }
        }
    }
}

impl<S> Tasks<S>
where
    S: FnMut(Share, watch::Receiver<Phase>, Member) -> BoxFuture<'static, ()>,
{
    /// Starts what is assigned now and was not before. What is still being released comes when it has ended.
    fn start_missing(&mut self, before: &BTreeSet<Share>, now: &BTreeSet<Share>) {
        for share in now.difference(before) {
            if self.running.contains_key(share) {
                continue;
            }
            let (phase, told) = watch::channel(Phase::Running);
            let work = (self.start)(share.clone(), told, Arc::clone(&self.member));
            let ending = share.clone();
            let abort = self.ended.spawn(async move {
                work.await;
                ending
            });
            let task = Task {
                phase,
                abort,
                until: None,
            };
            self.running.insert(share.clone(), task);
        }
    }

    fn release_others(&mut self, assigned: &BTreeSet<Share>) {
        for (share, task) in &mut self.running {
            if task.until.is_none() && !assigned.contains(share) {
                task.phase.send_replace(Phase::Released);
                task.until = Some(Instant::now() + RELEASE_TIMEOUT);
            }
        }
    }

    /// Forgets a task that has ended, or all that have when it is not known which one. One that was released and is
    /// assigned again by now is started again.
    fn forget(&mut self, share: Option<Share>, wanted: &mut Assignment) {
        let ended = |found: &Share, task: &Task| match &share {
            Some(share) => share == found,
            None => task.abort.is_finished(),
        };
        let gone: Vec<_> = self
            .running
            .extract_if(|share, task| ended(share, task))
            .collect();
        for (share, task) in gone {
            if task.until.is_some() && wanted.contains(&share) {
                let mut without = BTreeSet::clone(wanted);
                without.remove(&share);
                *wanted = Arc::new(without);
            }
        }
    }

    /// When the next released task is to be dropped.
    fn overdue(&self) -> Option<Instant> {
        self.running.values().filter_map(|task| task.until).min()
    }

    fn drop_overdue(&mut self) {
        let now = Instant::now();
        for task in self.running.values_mut() {
            if task.until.is_some_and(|until| until <= now) {
                task.abort.abort();
                // It is forgotten when it has ended.
                task.until = Some(now + RELEASE_TIMEOUT);
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
