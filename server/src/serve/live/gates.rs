//! How far destinations are, from whoever knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use analytics::live::Gate;
use event::{Offset, Partition, StreamName};
use journal::Backoff;
use journal::Journal;
use lake::Table;
use sink::{Bus, BusPosition, DatabaseProgress, LakeProgress};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Waits between tries of the bus.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What this process's own sink has committed.
#[derive(Debug)]
pub(super) enum ProgressGate {
    Lake(LakeProgress),
    Database(DatabaseProgress),
}

impl Gate for ProgressGate {
    fn passed(&self, stream: &StreamName, partition: Partition) -> Option<Offset> {
        match self {
            Self::Lake(lake) => lake.committed(stream, partition),
            Self::Database(database) => database.committed(stream, partition),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::Lake(lake) => lake.moves(),
            Self::Database(database) => database.moves(),
        }
    }
}

/// Counts changes for those who wait.
#[derive(Debug)]
struct Changes(watch::Sender<u64>);

impl Changes {
    fn new() -> Self {
        Self(watch::channel(0).0)
    }

    fn note(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What the lake has, by the newest version of each table. Only tables that somebody has asked for are looked at.
#[derive(Debug)]
pub(super) struct LakeGate {
    tables: Vec<Arc<Table>>,
    /// What was asked for, and what is known of it.
    known: Mutex<BTreeMap<StreamName, Option<BTreeMap<Partition, Offset>>>>,
    changes: Changes,
}

impl LakeGate {
    pub(super) fn new(tables: Vec<Arc<Table>>) -> Self {
        Self {
            tables,
            known: Mutex::default(),
            changes: Changes::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<StreamName, Option<BTreeMap<Partition, Offset>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at tables for ever.
    pub(super) async fn follow(self: Arc<Self>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let asked: Vec<_> = self.known().keys().cloned().collect();
            for stream in asked {
                self.look(&stream).await;
            }
        }
    }

    async fn look(&self, stream: &StreamName) {
        let table = self
            .tables
            .iter()
            .find(|table| table.declaration().name == *stream);
        let Some(table) = table else { return };
        match table.snapshot().await {
            Ok(snapshot) => {
                let positions = snapshot.positions.iter();
                let positions: BTreeMap<_, _> = positions.map(|at| (at.partition, at.offset)).collect();
                let changed = {
                    let mut known = self.known();
                    let before = known.insert(stream.clone(), Some(positions.clone()));
                    before.flatten().as_ref() != Some(&positions)
                };
                if changed {
                    self.changes.note();
                }
            }
            Err(error) => tracing::debug!(%stream, %error, "those who watch wait: the lake cannot be read"),
        }
    }
}

impl Gate for LakeGate {
    fn passed(&self, stream: &StreamName, partition: Partition) -> Option<Offset> {
        let mut known = self.known();
        let positions = known.entry(stream.clone()).or_default().as_ref()?;
        // A partition of which the table has nothing is at its beginning.
        Some(positions.get(&partition).copied().unwrap_or_default())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.0.subscribe()
    }
}

/// Destination, stream, partition, journal.
type BusKey = (String, String, Partition, String);

/// What came over the bus.
#[derive(Debug)]
pub(super) struct BusPositions {
    known: Mutex<HashMap<BusKey, Offset>>,
    changes: Changes,
}

impl BusPositions {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
            changes: Changes::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BusKey, Offset>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for ever.
    pub(super) async fn follow(self: Arc<Self>, bus: Bus, poll: Duration) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let mut heard = false;
            let error = bus
                .listen(poll, |position| {
                    heard = true;
                    self.hear(position);
                })
                .await;
            if heard {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::warn!(%error, wait_ms = wait.as_millis(), "those who watch wait: the bus is away, tries again");
            sleep(wait).await;
        }
    }

    fn hear(&self, position: BusPosition) {
        let key = (
            position.destination,
            position.stream,
            position.partition,
            position.journal,
        );
        let risen = {
            let mut known = self.known();
            let before = known.get(&key).copied();
            let risen = before.is_none_or(|before| before < position.offset);
            if risen {
                known.insert(key, position.offset);
            }
            risen
        };
        if risen {
            self.changes.note();
        }
    }
}

/// One destination as the bus tells of it.
#[derive(Debug)]
pub(super) struct BusGate {
    destination: String,
    journal: Arc<dyn Journal>,
    positions: Arc<BusPositions>,
}

impl BusGate {
    pub(super) fn new(destination: &str, journal: Arc<dyn Journal>, positions: Arc<BusPositions>) -> Self {
        Self {
            destination: destination.to_owned(),
            journal,
            positions,
        }
    }
}

impl Gate for BusGate {
    fn passed(&self, stream: &StreamName, partition: Partition) -> Option<Offset> {
        let key = (
            self.destination.clone(),
            stream.as_str().to_owned(),
            partition,
            self.journal.stream_id(stream).to_string(),
        );
        self.positions.known().get(&key).copied()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.positions.changes.0.subscribe()
    }
}
