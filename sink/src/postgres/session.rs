//! One connection as the anatomy of databases wants it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use event::{Partition, StreamName};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::connection::Connection;
use super::encode::Sent;
use super::error::Verdict;
use super::load::Way;
use super::options::Settings;
use super::positions::Place;
use super::table;
use crate::database::{
    Attempt, DatabaseError, Loaded, RefusedRow, Rows, Session, StoredPosition, TargetTable,
};

/// What a range of rows goes back to when one of them is refused.
const SAVEPOINT: &str = "SAVEPOINT tidemill_load";
const KEEP: &str = "RELEASE SAVEPOINT tidemill_load";
const UNDO: &str = "ROLLBACK TO SAVEPOINT tidemill_load; RELEASE SAVEPOINT tidemill_load";

/// Checks of constraints that may wait are made with the row that breaks them, not in the commit, where nobody could
/// say which row it was.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE";

/// One connection.
pub(super) struct PostgresSession {
    connection: Connection,
    /// The ways into the tables that were written on it.
    ways: HashMap<(StreamName, String), Way>,
    /// How many ways were opened.
    opened: u64,
}

impl PostgresSession {
    pub(super) async fn connect(settings: &Settings) -> Result<Self, DatabaseError> {
        Ok(Self {
            connection: Connection::open(settings).await?,
            ways: HashMap::new(),
            opened: 0,
        })
    }

    /// Compares a table with the declaration, and opens the way into it.
    async fn prepare_table(&mut self, table: &TargetTable) -> Result<(), DatabaseError> {
        let columns = table::prepare(&self.connection, table).await?;
        self.open_way(table, columns).await
    }

    async fn open_way(&mut self, table: &TargetTable, columns: Vec<Sent>) -> Result<(), DatabaseError> {
        let name = way_name(table);
        if let Some(old) = self.ways.remove(&name) {
            old.close(&self.connection).await?;
        }
        self.opened += 1;
        let way = Way::open(&self.connection, table, columns, self.opened).await?;
        self.ways.insert(name, way);
        Ok(())
    }

    /// The way into a table, which may have been prepared on another connection.
    async fn way(&mut self, table: &TargetTable) -> Result<(&Connection, &Way), DatabaseError> {
        let name = way_name(table);
        if !self.ways.contains_key(&name) {
            let columns = table::columns_of(&self.connection, table).await?;
            self.open_way(table, columns).await?;
        }
        Ok((&self.connection, &self.ways[&name]))
    }

    async fn present_range(
        &mut self,
        table: &Arc<TargetTable>,
        rows: &Arc<Rows>,
        range: Range<usize>,
    ) -> Result<Vec<usize>, DatabaseError> {
        const OPERATION: &str = "look for ids";
        let (connection, way) = self.way(table).await?;
        connection.run(OPERATION, SAVEPOINT).await?;
        match way.present(connection, table, rows, range).await {
            Ok(present) => {
                connection.run(OPERATION, KEEP).await?;
                Ok(present)
            }
            Err(Verdict::Row(_)) => {
                connection.run(OPERATION, UNDO).await?;
                Ok(Vec::new())
            }
            Err(Verdict::Failed(error)) => Err(error),
        }
    }

    async fn load_range(
        &mut self,
        table: &Arc<TargetTable>,
        rows: &Arc<Rows>,
        range: Range<usize>,
        attempt: Attempt,
    ) -> Result<Loaded, DatabaseError> {
        const OPERATION: &str = "load rows";
        let (connection, way) = self.way(table).await?;
        connection.run(OPERATION, SAVEPOINT).await?;
        match way.load(connection, table, rows, range, attempt).await {
            Ok(unwritable) => {
                connection.run(OPERATION, KEEP).await?;
                Ok(Loaded::Rows { unwritable })
            }
            Err(Verdict::Row(refusal)) => {
                connection.run(OPERATION, UNDO).await?;
                Ok(Loaded::Refused(refusal))
            }
            Err(Verdict::Failed(error)) => Err(error),
        }
    }
}

/// Two streams may go into one table, with other columns each.
fn way_name(table: &TargetTable) -> (StreamName, String) {
    (table.stream.name.clone(), table.name.clone())
}

impl Session for PostgresSession {
    fn prepare<'a>(&'a mut self, table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        self.prepare_table(table).boxed()
    }

    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        async move {
            let place = Place::of(table, partition)?;
            place.stored(&self.connection, journal).await
        }
        .boxed()
    }

    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        async move {
            let place = Place::of(table, partition)?;
            self.connection.run("begin a transaction", BEGIN).await?;
            place.lock(&self.connection).await
        }
        .boxed()
    }

    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        self.load_range(table, rows, range, attempt).boxed()
    }

    fn present<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, DatabaseError>> {
        self.present_range(table, rows, range).boxed()
    }

    fn refuse<'a>(
        &'a mut self,
        table: &'a TargetTable,
        rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            let place = Place::of(table, rows.partition())?;
            place.refuse(&self.connection, table, rows, refused).await
        }
        .boxed()
    }

    fn commit<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            let place = Place::of(table, partition)?;
            place.store(&self.connection, position).await?;
            // The statement before it would have failed in a transaction that cannot be committed, which COMMIT
            // itself would roll back without an error.
            self.connection.run("commit", "COMMIT").await
        }
        .boxed()
    }
}
