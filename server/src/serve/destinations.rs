//! Databases and brokers as destinations: from their configuration to running sinks.

use std::sync::Arc;

use event::StreamDeclaration;
use journal::Journal;
use lake::Table;
use sink::{
    DatabaseOptions, DatabaseSink, LoadData, MysqlDatabase, MysqlOptions, PostgresDatabase, PostgresOptions,
    RabbitmqDatabase, RabbitmqOptions, RedisDatabase, RedisOptions, TableMapping,
};
use tokio::runtime::Handle;

use super::stages::StartError;
use crate::config::{Config, DestinationConfig, DestinationKind, OnConflict, TableConfig};

/// Starts every configured destination. That a database is away is no error: it is tried again.
pub(super) fn start(
    config: &Config,
    runtime: &Handle,
    journal: &Arc<dyn Journal>,
    declared: &[Arc<StreamDeclaration>],
    tables: &[Arc<Table>],
) -> Result<Vec<DatabaseSink>, StartError> {
    let started = config.destinations.iter().map(|destination| {
        let started = start_one(
            config,
            destination,
            runtime,
            Arc::clone(journal),
            declared,
            tables,
        );
        started.map_err(|source| StartError::Destination {
            name: destination.name.clone(),
            source,
        })
    });
    started.collect()
}

fn start_one(
    config: &Config,
    destination: &DestinationConfig,
    runtime: &Handle,
    journal: Arc<dyn Journal>,
    declared: &[Arc<StreamDeclaration>],
    tables: &[Arc<Table>],
) -> Result<DatabaseSink, Box<dyn std::error::Error + Send + Sync>> {
    let wanted = |stream: &&Arc<StreamDeclaration>| {
        let names = destination.streams.as_ref();
        names.is_none_or(|names| names.contains(&stream.name))
    };
    let streams: Vec<_> = declared.iter().filter(wanted).cloned().collect();
    let url = destination.url.reveal().to_owned();
    let database: Arc<dyn sink::database::Database> = match destination.kind {
        DestinationKind::Mysql => Arc::new(MysqlDatabase::new(&MysqlOptions {
            url,
            load_data: if destination.load_data {
                LoadData::Auto
            } else {
                LoadData::Off
            },
            ..MysqlOptions::default()
        })?),
        DestinationKind::Postgres => Arc::new(PostgresDatabase::new(&PostgresOptions {
            url,
            ..PostgresOptions::default()
        })?),
        DestinationKind::Rabbitmq => Arc::new(RabbitmqDatabase::new(&RabbitmqOptions {
            url,
            group: destination.group.clone(),
            exchange: destination.messages.exchange.clone(),
            routing_key: destination.messages.routing_key.clone(),
            queue: destination.messages.queue.clone(),
            message_id: destination.messages.message_id.clone(),
        })?),
        DestinationKind::Redis => {
            let options = RedisOptions {
                url,
                group: destination.group.clone(),
                channel: destination.channels.channel.clone(),
                channel_prefix: destination.channels.prefix.clone(),
            };
            Arc::new(RedisDatabase::new(Arc::clone(&journal), options)?)
        }
    };
    let mappings = destination.tables.iter();
    let options = DatabaseOptions {
        name: destination.name.clone(),
        group: destination.group.clone(),
        table_prefix: destination.table_prefix.clone(),
        mappings: mappings
            .map(|(stream, table)| (stream.clone(), mapping(table)))
            .collect(),
        // What the journal does not have any more is taken from here (I-5).
        refill: tables.to_vec(),
        // As for the lake: a third of the time for reading on, the rest for the last transactions.
        drain: config.shutdown_timeout / 3,
        ..DatabaseOptions::default()
    };
    let options = DatabaseOptions {
        commit_every: destination.commit_every.unwrap_or(options.commit_every),
        ..options
    };
    let options = match destination.kind {
        DestinationKind::Rabbitmq => RabbitmqDatabase::bounds(options),
        DestinationKind::Mysql | DestinationKind::Postgres => options,
        DestinationKind::Redis => RedisDatabase::bounds(options),
    };
    Ok(DatabaseSink::start(
        runtime, journal, &streams, database, options,
    )?)
}

fn mapping(table: &TableConfig) -> TableMapping {
    TableMapping {
        table: table.table.clone(),
        columns: table
            .columns
            .as_ref()
            .map(|columns| columns.iter().cloned().collect()),
        key: table.key.clone().unwrap_or_default(),
        event: table.event.clone(),
        on_conflict: match table.on_conflict {
            OnConflict::Refuse => sink::OnConflict::Refuse,
            OnConflict::Ignore => sink::OnConflict::Ignore,
            OnConflict::Update => sink::OnConflict::Update,
        },
        serial: table.serial.clone(),
        inserted_at: table.inserted_at.clone(),
        types: table.types.clone(),
    }
}
