//! Whether this process can do what it is there for, found out when somebody asks.
//!
//! Ready means: the journal takes appends and the disk has more than its reserve free (ingest), the lake answers
//! (sink, analytics) and can be written (sink), what a process needs that only assigns answers, and no shutdown has
//! begun. Lag does not change it, but is in the body;
//! nor does a database that is away, since its rows wait in the journal and nothing else waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assign::{Assign, Health};
use lake::Table;
use serde_json::{Value, json};
use sink::{DatabaseProgress, LakeProgress, StreamProgress};
use sources::SourcesProgress;
use tokio::time::timeout;

use super::event_sources;
use super::open_journal::JournalHealth;

/// A lake that does not tell its version within this time is not reachable.
const LAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// What readiness is found out from.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Whether this process takes events, so whether its journal must.
    pub(super) takes_events: bool,
    pub(super) journal: JournalHealth,
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) sink: Option<LakeProgress>,
    pub(super) databases: Vec<DatabaseProgress>,
    pub(super) sources: Option<SourcesProgress>,
    pub(super) assign: Option<Assign>,
    pub(super) draining: AtomicBool,
}

impl Readiness {
    /// Says that a shutdown has begun.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it is ready, and the body that says why or why not.
    pub(super) async fn look(&self) -> (bool, Value) {
        let draining = self.draining.load(Ordering::Relaxed);
        let journal = self.journal.check(self.takes_events);
        let lake = self.lake().await;
        let assign = match &self.assign {
            Some(assign) => Some(assign.desk().health().await),
            None => None,
        };
        // Whoever does other things as well goes on with them when servers of assigning are away.
        let only_assigns = !self.takes_events && self.tables.is_empty() && self.sink.is_none();
        let assigns = !only_assigns || assign.as_ref().is_none_or(Health::is_good);
        let ready = !draining && journal.is_ok() && lake.is_ok() && assigns;
        let state = |found: &Result<(), String>| match found {
            Ok(()) => json!({ "ok": true }),
            Err(reason) => json!({ "ok": false, "reason": reason }),
        };
        let body = json!({
            "ready": ready,
            "draining": draining,
            "journal": state(&journal),
            "lake": state(&lake),
            "sink": self.sink_lag().await,
            "destinations": self.destinations_lag().await,
            "sources": self.sources.as_ref().map_or(Value::Null, event_sources::state),
            "assign": assign.map(|health| parts(&health, state)),
        });
        (ready, body)
    }

    /// One table stands for all: they lie in one store.
    async fn lake(&self) -> Result<(), String> {
        let Some(table) = self.tables.first() else {
            return Ok(());
        };
        match timeout(LAKE_TIMEOUT, table.snapshot()).await {
            Ok(Ok(_)) => self.sink_failing().await.map_or(Ok(()), Err),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "the lake did not answer within {} s",
                LAKE_TIMEOUT.as_secs()
            )),
        }
    }

    /// Why the sink cannot write to the lake now, if it cannot.
    async fn sink_failing(&self) -> Option<String> {
        let progress = self.sink.as_ref()?.read().await;
        let failing = progress
            .into_iter()
            .find_map(|one| Some((one.stream, one.failing?)));
        failing.map(|(stream, reason)| {
            format!("stream `{stream}` cannot be written, and is tried again: {reason}")
        })
    }

    async fn sink_lag(&self) -> Value {
        let Some(sink) = &self.sink else {
            return Value::Null;
        };
        lags(sink.read().await)
    }

    async fn destinations_lag(&self) -> Value {
        let mut all = serde_json::Map::new();
        for database in &self.databases {
            all.insert(database.destination().to_owned(), lags(database.read().await));
        }
        Value::Object(all)
    }
}

/// How each part of assigning is.
fn parts(health: &Health, state: impl Fn(&Result<(), String>) -> Value) -> Value {
    let parts = health
        .parts
        .iter()
        .map(|(part, found)| ((*part).to_owned(), state(found)));
    Value::Object(parts.collect())
}

/// How far this process's partitions are.
fn lags(progress: Vec<StreamProgress>) -> Value {
    let assigned = progress.into_iter().filter(|one| one.assigned);
    let streams = assigned.map(|one| {
        json!({
            "stream": one.stream.as_str(),
            "partition": one.partition.0,
            "lag_records": one.lag_records(),
            "open_rows": one.rows_open,
            "duplicates": one.duplicates,
            "read": one.read.0,
            "committed": one.committed.0,
            "failing": one.failing,
            "stopped": one.stopped,
        })
    });
    Value::Array(streams.collect())
}
