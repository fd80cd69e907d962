//! One connection: the steps of a transaction as statements.

use std::ops::Range;
use std::sync::Arc;

use event::{Offset, Partition};
use futures::FutureExt;
use futures::future::BoxFuture;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

use super::Ways;
use super::compare::missing_columns;
use super::error::{DUPLICATE_COLUMN, ROW_TOO_LARGE, code, failed};
use super::load;
use super::present;
use super::tables::{self, Flavor};
use super::text::literal;
use crate::database::{
    Attempt, DatabaseError, Loaded, POSITIONS_TABLE, REFUSED_TABLE, RefusedRow, Rows, Session,
    StoredPosition, TargetTable, event_text,
};

/// What every session is set to.
///
/// - Strict, so that a value that does not fit is an error; and backslashes escape, whatever the server's default is.
/// - `wait_timeout`, `net_read_timeout`: whoever is paused in the middle of a transaction holds a lock on a position
///   row; the server ends his session after so many seconds. Longer than a connection is idle in the pool.
/// - `innodb_lock_wait_timeout`: for how long somebody else waits for that.
const SETTINGS: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
                        autocommit = 1, wait_timeout = 10, net_read_timeout = 20, innodb_lock_wait_timeout = 10";

/// Bytes of one `INSERT`, unless a single row needs more: larger ones cost the server memory and gain nothing.
const STATEMENT_BYTES: usize = 1 << 20;

/// Bytes of a packet that are not the statement's.
const PACKET_OVERHEAD: usize = 1_024;

/// Bytes of a refused row's statement besides what is in its tuple so far: its head, quotes, the time.
const TUPLE_REST: usize = 512;

/// What the server lets everybody send, if it does not say.
const PACKET_BYTES_DEFAULT: u64 = 1 << 20;

/// A connection.
pub(super) struct MysqlSession {
    pub(super) conn: Conn,
    pub(super) ways: Arc<Ways>,
    /// Most bytes of one statement.
    pub(super) packet_bytes: usize,
    flavor: Flavor,
}

impl MysqlSession {
    pub(super) async fn connect(opts: Opts, ways: Arc<Ways>) -> Result<Self, DatabaseError> {
        let mut conn = Conn::new(opts).await.map_err(|error| failed("connect", &error))?;
        for statement in ["SET NAMES utf8mb4", SETTINGS] {
            conn.query_drop(statement)
                .await
                .map_err(|error| failed("set up the session", &error))?;
        }
        let asked: Option<(Option<u64>, Option<u64>, String)> = conn
            .query_first("SELECT @@max_allowed_packet, @@local_infile, VERSION()")
            .await
            .map_err(|error| failed("ask for the server's settings", &error))?;
        let (packet, local_infile, version) = asked.unwrap_or_default();
        if local_infile == Some(0) {
            ways.turn_to_insert("the server's `local_infile` is off");
        }
        let packet = usize::try_from(packet.unwrap_or(PACKET_BYTES_DEFAULT)).unwrap_or(usize::MAX);
        let flavor = if version.contains("MariaDB") {
            Flavor::MariaDb
        } else if conn.server_version() >= (8, 0, 17) {
            Flavor::Mysql
        } else {
            Flavor::Mysql5
        };
        Ok(Self {
            conn,
            ways,
            packet_bytes: packet.saturating_sub(PACKET_OVERHEAD),
            flavor,
        })
    }

    /// Bytes at which an `INSERT` is sent.
    pub(super) fn statement_bytes(&self) -> usize {
        STATEMENT_BYTES.min(self.packet_bytes)
    }

    pub(super) async fn run(
        &mut self,
        operation: &'static str,
        statement: impl AsRef<[u8]>,
    ) -> Result<(), DatabaseError> {
        let done = self.conn.query_drop(statement.as_ref()).await;
        done.map_err(|error| failed(operation, &error))
    }

    async fn create_tables(&mut self, table: &TargetTable) -> Result<(), DatabaseError> {
        self.run("create the table of positions", tables::create_positions())
            .await?;
        self.run("create the table of refused rows", tables::create_refused())
            .await?;
        let create = tables::create(table, self.flavor);
        match self.conn.query_drop(create.as_str()).await {
            // A table whose widest row would not fit into a page: rows that fit go in, others are refused rows.
            Err(error) if code(&error) == Some(ROW_TOO_LARGE) => {
                self.run("allow wide tables", "SET SESSION innodb_strict_mode = OFF")
                    .await?;
                self.run("create the table", create).await
            }
            done => done.map_err(|error| failed("create the table", &error)),
        }
    }

    async fn add_columns(&mut self, table: &TargetTable, columns: &[usize]) -> Result<(), DatabaseError> {
        let types = tables::column_types(table);
        for index in columns {
            let column = &table.columns[*index];
            let definition = tables::column_definition(column, types[*index], self.flavor);
            let alter = format!("ALTER TABLE `{}` ADD COLUMN {definition}", table.name);
            match self.conn.query_drop(alter).await {
                Ok(()) => tracing::info!(table = table.name, column = column.name, "added a column"),
                // Another process was first.
                Err(error) if code(&error) == Some(DUPLICATE_COLUMN) => {}
                Err(error) => return Err(failed("add a column", &error)),
            }
        }
        Ok(())
    }

    async fn select_position(
        &mut self,
        table: &TargetTable,
        partition: Partition,
        lock: &str,
    ) -> Result<Option<StoredPosition>, DatabaseError> {
        let query = format!(
            "SELECT `journal`, `next_offset` FROM `{POSITIONS_TABLE}` WHERE {}{lock}",
            position_row(table, partition)
        );
        let row: Option<(String, u64)> = self
            .conn
            .query_first(query)
            .await
            .map_err(|error| failed("read the position", &error))?;
        Ok(row.map(|(journal, offset)| StoredPosition {
            journal,
            offset: Offset(offset),
        }))
    }
}

/// The condition that names a position row. Names match their pattern, so they need no escapes.
fn position_row(table: &TargetTable, partition: Partition) -> String {
    let (stream, name) = (&table.stream.name, &table.name);
    format!("`stream` = '{stream}' AND `target` = '{name}' AND `partition_id` = {partition}")
}

impl Session for MysqlSession {
    fn prepare<'a>(&'a mut self, table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            self.create_tables(table).await?;
            let missing = missing_columns(&mut self.conn, table).await?;
            self.add_columns(table, &missing).await
        }
        .boxed()
    }

    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        async move {
            if let Some(stored) = self.select_position(table, partition, "").await? {
                return Ok(stored);
            }
            let mut insert = format!(
                "INSERT IGNORE INTO `{POSITIONS_TABLE}` (`stream`, `target`, `partition_id`, `journal`, \
                 `next_offset`, `updated_at`) VALUES ('{}', '{}', {partition}, ",
                table.stream.name, table.name
            )
            .into_bytes();
            literal(&mut insert, journal);
            insert.extend_from_slice(b", 0, UTC_TIMESTAMP(6))");
            self.run("store the first position", insert).await?;
            let stored = self.select_position(table, partition, "").await?;
            stored.ok_or_else(|| DatabaseError::Outage {
                operation: "store the first position",
                message: "it is not there".to_owned(),
            })
        }
        .boxed()
    }

    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        async move {
            self.run("begin a transaction", "START TRANSACTION").await?;
            self.select_position(table, partition, " FOR UPDATE").await
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
        load::load(self, table, rows, range, attempt).boxed()
    }

    fn present<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, DatabaseError>> {
        present::present(self, table, rows, range).boxed()
    }

    fn refuse<'a>(
        &'a mut self,
        table: &'a TargetTable,
        rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            let head = format!(
                "REPLACE INTO `{REFUSED_TABLE}` (`stream`, `target`, `_partition`, `_offset`, `_row`, `code`, \
                 `reason`, `event`, `refused_at`) VALUES "
            )
            .into_bytes();
            let limit = self.statement_bytes();
            let mut statement = head.clone();
            for one in refused {
                let tuple = refused_tuple(table, rows, one, limit);
                if statement.len() > head.len() {
                    if statement.len() + tuple.len() < limit {
                        statement.push(b',');
                    } else {
                        let full = std::mem::replace(&mut statement, head.clone());
                        self.run("store refused rows", full).await?;
                    }
                }
                statement.extend_from_slice(&tuple);
            }
            if statement.len() > head.len() {
                self.run("store refused rows", statement).await?;
            }
            Ok(())
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
            let mut update = format!("UPDATE `{POSITIONS_TABLE}` SET `journal` = ").into_bytes();
            literal(&mut update, &position.journal);
            let rest = format!(
                ", `next_offset` = {}, `updated_at` = UTC_TIMESTAMP(6) WHERE {}",
                position.offset,
                position_row(table, partition)
            );
            update.extend_from_slice(rest.as_bytes());
            self.run("store the position", update).await?;
            if self.conn.affected_rows() != 1 {
                return Err(DatabaseError::Outage {
                    operation: "store the position",
                    message: format!("{} rows were changed instead of one", self.conn.affected_rows()),
                });
            }
            self.run("commit", "COMMIT").await
        }
        .boxed()
    }
}

/// A refused row as a tuple that fits into a statement of `limit` bytes: an event that does not is cut.
fn refused_tuple(table: &TargetTable, rows: &Rows, refused: &RefusedRow, limit: usize) -> Vec<u8> {
    let (batch, row) = rows.row(refused.row);
    let (offset, number) = rows.place(refused.row);
    let mut event = Vec::new();
    event_text::write_event(&mut event, &table.stream, batch, row);
    let event = String::from_utf8_lossy(&event);
    let partition = rows.partition();
    let place = format!(
        "('{}','{}',{partition},{offset},{number},",
        table.stream.name, table.name
    );
    let mut tuple = place.into_bytes();
    literal(&mut tuple, &refused.refusal.code);
    tuple.push(b',');
    literal(&mut tuple, &refused.refusal.reason);
    tuple.push(b',');
    // Escapes double a byte at most.
    let room = limit.saturating_sub(tuple.len() + TUPLE_REST) / 2;
    literal(&mut tuple, &event[..event.floor_char_boundary(room)]);
    tuple.extend_from_slice(b",UTC_TIMESTAMP(6))");
    tuple
}
