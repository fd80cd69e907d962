//! Database destinations: every stream of the journal into a table of a database.
//!
//! What is the same for every database is here, written once; what a database does its own way is behind two traits
//! ([`Database`], [`Session`]), whose implementations are the modules `mysql` and `postgres`.
//!
//! ```text
//! journal ──► gather (rows of whole records) ──► transaction: position compared, rows, refused rows, position
//!                 ▲       one fills while one writes             │
//!                 └──────── position, asked of the database ◄────┘
//! ```
//!
//! # Promises
//! - I-2 rows and position are in one transaction, and the position row is locked and compared before anything is
//!   written; so an event is there exactly once whatever process dies, pauses or is replaced.
//! - I-4 rows in memory, connections, statements and waits have bounds, all in [`DatabaseOptions`].
//! - I-5 a stream has tasks of its own; a database that is away holds neither the journal nor other destinations back.
//!
//! - Of a stream whose ids are unique each id has one row, for ever ([`unique`]).
//!
//! # Refused rows
//! A row that the database does not take (too long for a column that somebody made, a constraint, a moment beyond
//! its calendar) is found by bisection and stored in [`REFUSED_TABLE`] as JSON with the database's reason, in the
//! same transaction. Nothing waits because of it.

mod consumer;
pub mod error;
pub mod event_text;
mod gather;
pub mod mapping;
mod options;
mod pool;
mod refill;
pub mod rows;
pub mod session;
pub mod transaction;
pub(crate) mod unique;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, StreamDeclaration, StreamName};
use futures::FutureExt;
use journal::Journal;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::attempt;
use crate::backoff::Backoff;
use crate::group::Sharing;
use crate::progress::{self, Moves, Shared, StreamProgress};
use consumer::Consumer;
pub use error::DatabaseError;
pub use mapping::{
    Column, ColumnKind, DeclaredType, FilledColumn, MappingError, OnConflict, Source, TableMapping,
    TargetTable,
};
pub use options::DatabaseOptions;
use pool::Pool;
pub use rows::Rows;
pub use session::{
    Attempt, Database, Loaded, POSITIONS_TABLE, REFUSED_TABLE, Refusal, RefusedRow, Session, StoredPosition,
};

/// How often the lag is measured for the metrics, and idle connections are closed.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Longer than draining: for the last transaction of each stream, after which a shutdown does not wait any more.
const LAST_TRANSACTION: Duration = Duration::from_secs(5);

/// A running database destination. Dropping it without [`DatabaseSink::shutdown`] ends it as a crash would: what is
/// not committed is written after the next start.
#[derive(Debug)]
pub struct DatabaseSink {
    stop: watch::Sender<bool>,
    sharing: JoinSet<()>,
    upkeep: JoinSet<()>,
    progress: DatabaseProgress,
    stop_within: Duration,
}

/// A view of how far a database destination is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DatabaseProgress {
    destination: Arc<str>,
    journal: Arc<dyn Journal>,
    streams: Arc<[Arc<Shared>]>,
    moves: Moves,
}

/// The tables of a destination, one for each stream: what a configuration is checked with, without a connection.
///
/// # Errors
/// [`MappingError`] (input) for the first stream that cannot have its table.
pub fn target_tables(
    streams: &[Arc<StreamDeclaration>],
    database: &dyn Database,
    options: &DatabaseOptions,
) -> Result<Vec<Arc<TargetTable>>, MappingError> {
    let mut tables = Vec::with_capacity(streams.len());
    for stream in streams {
        let mapping = options.mappings.get(&stream.name);
        let table = TargetTable::resolve(Arc::clone(stream), &options.table_prefix, mapping)?;
        database.check(&table)?;
        tables.push(Arc::new(table));
    }
    mapping::check_shared(&tables)?;
    Ok(tables)
}

impl DatabaseSink {
    /// Joins the group, and runs a task for each partition that it assigns, on `runtime`. Whether the database is there does not matter:
    /// it is tried again until it is.
    ///
    /// # Errors
    /// [`MappingError`] (input) when a stream cannot have its table; nothing runs then.
    pub fn start(
        runtime: &Handle,
        journal: Arc<dyn Journal>,
        streams: &[Arc<StreamDeclaration>],
        database: Arc<dyn Database>,
        options: DatabaseOptions,
    ) -> Result<Self, MappingError> {
        let tables = target_tables(streams, database.as_ref(), &options)?;
        let options = Arc::new(options);
        let pool = Arc::new(Pool::new(database, options.connections, options.connect_timeout));
        let (stop, stopping) = watch::channel(false);
        let mut work = HashMap::new();
        let moves = Moves::new();
        let mut shares = Vec::new();
        for table in &tables {
            let stream = &table.stream.name;
            for partition in (0..journal.partitions(stream)).map(Partition) {
                let progress = Arc::new(Shared::new(stream.clone(), partition, &moves));
                work.insert(
                    (stream.clone(), partition),
                    (Arc::clone(table), Arc::clone(&progress)),
                );
                shares.push(progress);
            }
        }
        let sharing = Sharing {
            journal: Arc::clone(&journal),
            group: options.group.clone(),
            streams: tables.iter().map(|table| table.stream.name.clone()).collect(),
            stopping: stopping.clone(),
            backoff: Backoff::new(options.retry_first, options.retry_longest),
        };
        let (source, taken, settings) = (Arc::clone(&journal), Arc::clone(&pool), Arc::clone(&options));
        let consume = move |share, phase, member| {
            // The group may have streams that this process does not know: somebody else's newer configuration.
            let Some((table, progress)) = work.get(&share) else {
                return std::future::ready(()).boxed();
            };
            let consumer = Consumer {
                table: Arc::clone(table),
                partition: share.1,
                journal: Arc::clone(&source),
                pool: Arc::clone(&taken),
                options: Arc::clone(&settings),
                progress: Arc::clone(progress),
                phase,
                member,
            };
            attempt::run(consumer).boxed()
        };
        let mut running = JoinSet::new();
        running.spawn_on(sharing.run(consume), runtime);
        let progress = DatabaseProgress {
            destination: options.name.as_str().into(),
            journal,
            streams: shares.into(),
            moves,
        };
        let mut upkeep = JoinSet::new();
        upkeep.spawn_on(measure(progress.clone(), pool, stopping), runtime);
        Ok(Self {
            stop,
            sharing: running,
            upkeep,
            progress,
            stop_within: options.drain + LAST_TRANSACTION,
        })
    }

    /// How far the sink is, now and later.
    #[must_use]
    pub fn progress(&self) -> DatabaseProgress {
        self.progress.clone()
    }

    /// Reads and writes what the journal still has for a bounded time, and ends. What is not written then waits in
    /// the journal.
    pub async fn shutdown(mut self) {
        // An error means that nobody listens any more.
        let _ = self.stop.send(true);
        attempt::ended(&mut self.sharing, &self.progress.destination, self.stop_within).await;
        // An open transaction is rolled back by the server.
        self.sharing.shutdown().await;
        self.upkeep.shutdown().await;
    }
}

impl DatabaseProgress {
    /// The destination's name.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// How far each partition is. A stream whose end the journal cannot tell ends where it was read.
    pub async fn read(&self) -> Vec<StreamProgress> {
        progress::read(self.journal.as_ref(), &self.streams).await
    }

    /// What is committed of one partition, as far as this process knows: it must be its own work.
    #[must_use]
    pub fn committed(&self, stream: &StreamName, partition: Partition) -> Option<Offset> {
        progress::committed(&self.streams, stream, partition)
    }

    /// The same of every partition that is this process's work.
    #[must_use]
    pub fn all_committed(&self) -> Vec<(StreamName, Partition, Offset)> {
        progress::all_committed(&self.streams)
    }

    /// Changes whenever what is committed does.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }
}

/// Feeds the metrics and closes idle connections until the sink ends.
async fn measure(progress: DatabaseProgress, pool: Arc<Pool>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(MEASURE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        pool.close_idle();
        for one in progress.read().await.into_iter().filter(|one| one.assigned) {
            let labels = [
                ("destination", progress.destination().to_owned()),
                ("stream", one.stream.as_str().to_owned()),
                ("partition", one.partition.to_string()),
            ];
            #[expect(
                clippy::cast_precision_loss,
                reason = "gauges are doubles; 2^53 records are exact"
            )]
            {
                metrics::gauge!("tidemill_destination_lag_records", &labels).set(one.lag_records() as f64);
                metrics::gauge!("tidemill_destination_open_rows", &labels).set(one.rows_open as f64);
                metrics::gauge!("tidemill_destination_committed_offset", &labels).set(one.committed.0 as f64);
            }
            let flag = |on: bool| if on { 1.0 } else { 0.0 };
            metrics::gauge!("tidemill_destination_failing", &labels).set(flag(one.failing.is_some()));
            metrics::gauge!("tidemill_destination_stopped", &labels).set(flag(one.stopped.is_some()));
        }
    }
}
