//! Those who watch, joined with what destinations have committed: opens [`analytics::live`] with the gates that the
//! configuration names, and tells other processes how far this one's destinations are.
//!
//! | `after` | how this process knows |
//! |---|---|
//! | `journal` | reads it |
//! | a destination, which this process alone writes | the sink's own progress |
//! | a destination, which others write, or a part of it | the bus |
//! | `lake` | the sink's own progress where this process alone writes it, else the tables' newest versions |

mod announcing;
mod gates;

use std::collections::HashMap;
use std::sync::Arc;

use analytics::Kept;
use analytics::live::{Gate, Live, LiveOptions, LiveRoute};
use event::{Catalog, StreamName};
use journal::Journal;
use lake::Table;
use sink::{Bus, DatabaseProgress, DatabaseSink, LakeProgress, LakeSink};
use tokio::task::JoinSet;

pub(super) use announcing::Announcing;
use gates::{BusGate, BusPositions, LakeGate, ProgressGate};

use super::stages::StartError;
use crate::config::{Config, DestinationConfig, JournalKind, LAKE, RouteKind};

/// What this process's destinations have committed.
pub(super) struct Progress {
    pub(super) lake: Option<LakeProgress>,
    pub(super) databases: Vec<DatabaseProgress>,
}

/// Those who watch, and what goes on for them.
pub(super) struct Watching {
    pub(super) live: Live,
    /// Listens to the bus, looks at tables; ends when dropped.
    _tasks: JoinSet<()>,
}

/// Where gates are made, each once.
struct Gates<'a> {
    config: &'a Config,
    journal: &'a Arc<dyn Journal>,
    tables: &'a [Arc<Table>],
    progress: &'a Progress,
    made: HashMap<String, Arc<dyn Gate>>,
    positions: Option<Arc<BusPositions>>,
    tasks: JoinSet<()>,
}

impl Progress {
    /// Of these sinks.
    pub(super) fn of(lake: Option<&LakeSink>, databases: &[DatabaseSink]) -> Self {
        Self {
            lake: lake.map(LakeSink::progress),
            databases: databases.iter().map(DatabaseSink::progress).collect(),
        }
    }
}

/// The bus of the configuration.
fn bus(config: &Config) -> Result<Option<Bus>, StartError> {
    let Some(url) = &config.live.bus else {
        return Ok(None);
    };
    let bus = Bus::new(url.reveal(), &config.live.bus_channel);
    bus.map(Some).map_err(|error| StartError::Live(error.into()))
}

/// Begins to tell the bus, when there is one and this process has something to tell.
pub(super) fn announce(
    config: &Config,
    journal: &Arc<dyn Journal>,
    progress: impl FnOnce() -> Progress,
) -> Result<Option<Announcing>, StartError> {
    let bus = bus(config)?.filter(|_| config.roles.sink);
    Ok(bus.map(|bus| Announcing::start(bus, Arc::clone(journal), progress())))
}

/// Opens what can be watched; nothing in a process that answers no questions.
pub(super) fn open(
    config: &Config,
    catalog: &Catalog,
    journal: &Arc<dyn Journal>,
    tables: &[Arc<Table>],
    progress: &Progress,
    kept: Option<Kept>,
) -> Result<Option<Watching>, StartError> {
    if !config.roles.analytics {
        return Ok(None);
    }
    let mut gates = Gates {
        config,
        journal,
        tables,
        progress,
        made: HashMap::new(),
        positions: None,
        tasks: JoinSet::new(),
    };
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut options = LiveOptions {
        clients_max: count(config.live.clients),
        memory_bytes: count(config.live.memory_bytes),
        kept,
        ..LiveOptions::default()
    };
    for stream in catalog.iter() {
        if let Some(gate) = gates.of(config.live.after.as_deref(), &stream.name)? {
            options.gates.insert(stream.name.clone(), gate);
        }
    }
    let mut routes = Vec::new();
    for route in &config.routes {
        let RouteKind::Ws(ws) = &route.kind else {
            continue;
        };
        routes.push(LiveRoute {
            path: route.path.to_string(),
            stream: ws.stream.clone(),
            shape: ws.shape.clone(),
            gate: gates.of(config.live.after_of(ws.after.as_deref()), &ws.stream)?,
        });
    }
    let live = Live::new(catalog, Arc::clone(journal), tables, routes, options);
    Ok(Some(Watching {
        live: live.map_err(|error| StartError::Live(error.into()))?,
        _tasks: gates.tasks,
    }))
}

impl Gates<'_> {
    /// The gate of a stream, unless the journal is enough: also for a stream that the destination does not get.
    fn of(&mut self, after: Option<&str>, stream: &StreamName) -> Result<Option<Arc<dyn Gate>>, StartError> {
        let Some(after) = after.filter(|after| self.has(after, stream)) else {
            return Ok(None);
        };
        if let Some(made) = self.made.get(after) {
            return Ok(Some(Arc::clone(made)));
        }
        let gate = self.make(after)?;
        self.made.insert(after.to_owned(), Arc::clone(&gate));
        Ok(Some(gate))
    }

    /// Whether a destination gets a stream.
    fn has(&self, after: &str, stream: &StreamName) -> bool {
        let named = |one: &&DestinationConfig| one.name == after;
        after == LAKE
            || !stream.is_built_in()
                && self.config.destinations.iter().find(named).is_some_and(|one| {
                    let streams = one.streams.as_ref();
                    streams.is_none_or(|streams| streams.contains(stream))
                })
    }

    fn make(&mut self, after: &str) -> Result<Arc<dyn Gate>, StartError> {
        let alone = self.config.journal.kind == JournalKind::Embedded;
        if after == LAKE {
            return Ok(match &self.progress.lake {
                Some(lake) if alone => Arc::new(ProgressGate::Lake(lake.clone())),
                _ => {
                    let gate = Arc::new(LakeGate::new(self.tables.to_vec()));
                    self.tasks.spawn(Arc::clone(&gate).follow(self.config.live.poll));
                    gate
                }
            });
        }
        let own = self
            .progress
            .databases
            .iter()
            .find(|one| one.destination() == after);
        if let Some(own) = own.filter(|_| alone) {
            return Ok(Arc::new(ProgressGate::Database(own.clone())));
        }
        let unseen = || {
            let message = format!("this process cannot see how far `{after}` is: set `live.bus`");
            StartError::Live(message.into())
        };
        let positions = match &self.positions {
            Some(positions) => Arc::clone(positions),
            None => {
                let bus = bus(self.config)?.ok_or_else(unseen)?;
                let positions = Arc::new(BusPositions::new());
                self.tasks
                    .spawn(Arc::clone(&positions).follow(bus, self.config.live.poll));
                self.positions = Some(Arc::clone(&positions));
                positions
            }
        };
        Ok(Arc::new(BusGate::new(after, Arc::clone(self.journal), positions)))
    }
}
