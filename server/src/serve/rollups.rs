//! Rollups of this process: from the configuration to running ones.

use std::sync::Arc;

use analytics::Kept;
use analytics::rollup::{RollupOptions, Rollups};
use event::Catalog;
use journal::Journal;
use lake::Table;

use super::stages::StartError;
use crate::config::{Config, JournalKind};

/// Computes the declared rollups, where the journal takes what comes of it.
pub(super) async fn start(
    config: &Config,
    declared: &Catalog,
    journal: &Arc<dyn Journal>,
    tables: &[Arc<Table>],
    kept: Option<Kept>,
) -> Result<Option<Rollups>, StartError> {
    let streams: Vec<_> = declared.iter().cloned().collect();
    let roles = config.roles;
    if !roles.analytics || streams.iter().all(|stream| stream.rollup.is_none()) {
        return Ok(None);
    }
    if !(roles.ingest || roles.sink) && config.journal.kind == JournalKind::Embedded {
        tracing::warn!(
            "rollups are computed by the process that takes events: this one only reads the journal"
        );
        return Ok(None);
    }
    let options = RollupOptions {
        group: config.analytics.rollup_group.clone(),
        kept,
        ..RollupOptions::default()
    };
    let started = Rollups::start(journal, &streams, tables, &options).await;
    started
        .map(Some)
        .map_err(|message| StartError::Analytics(message.into()))
}

/// Ends them, before the sinks: what they append last goes into the destinations with the rest.
pub(super) async fn stop(rollups: Option<Rollups>) {
    if let Some(rollups) = rollups {
        rollups.shutdown().await;
    }
}
