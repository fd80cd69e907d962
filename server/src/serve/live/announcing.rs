//! Tells the bus what this process's destinations have committed.
//!
//! Everything is told when the bus is reached, then whatever moves, and everything again now and then, so that a Redis
//! that forgot it is told. What cannot be told now is told later; nothing waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, StreamName};
use futures::future::select_all;
use journal::Backoff;
use journal::Journal;
use sink::database::DatabaseError;
use sink::{Bus, BusPosition};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Progress;
use crate::config::LAKE;

/// Moves within this time are told together.
const GATHER: Duration = Duration::from_millis(5);
/// How often everything is told again.
const REPEAT: Duration = Duration::from_secs(10);
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Waits between tries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// A task that tells, until it is finished.
pub(in crate::serve) struct Announcing {
    stop: watch::Sender<bool>,
    task: JoinSet<()>,
}

struct Teller {
    bus: Bus,
    journal: Arc<dyn Journal>,
    progress: Progress,
    stopping: watch::Receiver<bool>,
}

impl Announcing {
    /// Begins to tell.
    pub(in crate::serve) fn start(bus: Bus, journal: Arc<dyn Journal>, progress: Progress) -> Self {
        let (stop, stopping) = watch::channel(false);
        let teller = Teller {
            bus,
            journal,
            progress,
            stopping,
        };
        let mut task = JoinSet::new();
        task.spawn(teller.run());
        Self { stop, task }
    }

    /// Tells the last commits, once the sinks have ended.
    pub(in crate::serve) async fn finish(mut self) {
        self.stop.send_replace(true);
        // What is not told by then is told after the next start.
        if timeout(LAST_WORD, self.task.join_next()).await.is_err() {
            self.task.shutdown().await;
        }
    }
}

impl Teller {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        while let Err(error) = self.tell(&mut backoff).await {
            let wait = backoff.next_wait();
            tracing::warn!(%error, wait_ms = wait.as_millis(), "the bus is away, tries again");
            let mut stopping = self.stopping.clone();
            tokio::select! {
                () = sleep(wait) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Tells until it is to stop.
    async fn tell(&self, backoff: &mut Backoff) -> Result<(), DatabaseError> {
        let mut announcer = self.bus.announcer().await?;
        let mut moves: Vec<_> = self.progress.databases.iter().map(|one| one.moves()).collect();
        moves.extend(self.progress.lake.as_ref().map(|lake| lake.moves()));
        let mut stopping = self.stopping.clone();
        let mut told: HashMap<(String, StreamName, Partition), Offset> = HashMap::new();
        loop {
            let stop = *stopping.borrow_and_update();
            moves.iter_mut().for_each(|moves| drop(moves.borrow_and_update()));
            let mut news = self.committed();
            news.retain(|(destination, stream, partition, offset)| {
                let key = (destination.clone(), stream.clone(), *partition);
                told.insert(key, *offset) != Some(*offset)
            });
            let news: Vec<_> = news.into_iter().map(|one| self.position(one)).collect();
            announcer.announce(&news).await?;
            backoff.reset();
            if stop {
                return Ok(());
            }
            // There is the lake's at least, which every process that writes has.
            let moved = select_all(moves.iter_mut().map(|moves| Box::pin(moves.changed())));
            tokio::select! {
                _ = moved => sleep(GATHER).await,
                () = sleep(REPEAT) => told.clear(),
                _ = stopping.changed() => {}
            }
        }
    }

    /// What every destination has committed of the partitions that are this process's work.
    fn committed(&self) -> Vec<(String, StreamName, Partition, Offset)> {
        let lake = self.progress.lake.iter();
        let lake = lake.map(|lake| (LAKE.to_owned(), lake.all_committed()));
        let databases = self.progress.databases.iter();
        let databases = databases.map(|one| (one.destination().to_owned(), one.all_committed()));
        let all = lake.chain(databases).flat_map(|(destination, all)| {
            all.into_iter()
                .map(move |(stream, partition, offset)| (destination.clone(), stream, partition, offset))
        });
        all.collect()
    }

    fn position(&self, committed: (String, StreamName, Partition, Offset)) -> BusPosition {
        let (destination, stream, partition, offset) = committed;
        BusPosition {
            journal: self.journal.stream_id(&stream).to_string(),
            stream: stream.as_str().to_owned(),
            destination,
            partition,
            offset,
        }
    }
}
