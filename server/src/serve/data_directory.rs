//! Opens a data directory for whoever does one thing with it and serves nobody: `sql`, `lake`, and the processes that
//! run SQL for a server. Only `lake adopt` writes.

use std::sync::Arc;

use analytics::{Analytics, SqlPlace};
use event::StreamName;
use lake::Table;
use tokio::runtime::Handle;

use super::open_journal::OpenJournal;
use super::stages::{StartError, open_catalog, open_lake, open_questions, streams_of, tables_of};
use crate::config::Config;

/// A router that answers questions about a data directory without writing anything in it.
pub(crate) async fn read_only_router(config: Config) -> Result<axum::Router, StartError> {
    Ok(open_read_only(&config, SqlPlace::Here).await?.router())
}

/// What a worker process of a server runs SQL with.
pub(crate) async fn open_sql_worker(config: &Config) -> Result<Analytics, StartError> {
    open_read_only(config, SqlPlace::OnlyHere).await
}

async fn open_read_only(config: &Config, sql: SqlPlace) -> Result<Analytics, StartError> {
    let catalog = open_catalog(config, false)?;
    let journal = OpenJournal::open(config, &streams_of(&catalog), false, &Handle::current())
        .await?
        .journal();
    let lake = open_lake(config, journal.as_ref(), true).await?;
    open_questions(config, &catalog, &journal, &lake, sql).await
}

/// Every table of a data directory.
pub(crate) async fn open_tables(config: &Config, read_only: bool) -> Result<Vec<Arc<Table>>, StartError> {
    let catalog = open_catalog(config, false)?;
    let journal = OpenJournal::open(config, &streams_of(&catalog), false, &Handle::current())
        .await?
        .journal();
    let lake = open_lake(config, journal.as_ref(), read_only).await?;
    tables_of(&lake, &*journal, &catalog).await
}

/// Lets the journal of a data directory fill the tables of these streams (of all, when none is named) from its
/// oldest record on. Gives their names.
pub(crate) async fn adopt_tables(config: &Config, streams: &[String]) -> Result<Vec<StreamName>, StartError> {
    let catalog = open_catalog(config, false)?;
    // For writing: it may be a new one, and nobody else may be at work.
    let open_journal = OpenJournal::open(config, &streams_of(&catalog), true, &Handle::current()).await?;
    let journal = open_journal.journal();
    let lake = open_lake(config, journal.as_ref(), false).await?;
    let mut adopted = Vec::new();
    for stream in catalog.iter() {
        if !streams.is_empty() && !streams.iter().any(|name| name == stream.name.as_str()) {
            continue;
        }
        let start = journal.start(&stream.name).await;
        let start = start.map_err(|error| StartError::Journal(error.into()))?;
        let filled_by = journal.stream_id(&stream.name).to_string();
        lake.adopt_of(Arc::clone(stream), &filled_by, &start).await?;
        adopted.push(stream.name.clone());
    }
    open_journal.close().await;
    Ok(adopted)
}
