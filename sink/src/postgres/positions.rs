//! The tables of Tidemill's own: how far each target table is, and the rows that were refused.
//!
//! A partition's position is locked twice: its row, so that two transactions cannot both believe in it, and an
//! advisory lock of the same name, by which a transaction that does not end can be found and ended. It belongs to a
//! process that is paused, or to a machine that vanished: the server would wait for the rest of its COPY for ever,
//! for no limit of the server is looked at while it waits for a client in the middle of one. Ending it loses nothing
//! (I-2): its process finds its position moved, or its connection gone, and begins again.

use event::{Offset, Partition};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::connection::{Connection, Parameter};
use super::error::failure;
use super::table::get;
use crate::database::event_text::write_event;
use crate::database::{
    DatabaseError, POSITIONS_TABLE, REFUSED_TABLE, RefusedRow, Rows, StoredPosition, TargetTable,
};

const CREATE_POSITIONS: &str = "
    CREATE TABLE IF NOT EXISTS tidemill_positions (
        stream TEXT NOT NULL, target TEXT NOT NULL, partition_id INTEGER NOT NULL,
        journal TEXT NOT NULL, next_offset BIGINT NOT NULL, updated_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (stream, target, partition_id))";

const CREATE_REFUSED: &str = "
    CREATE TABLE IF NOT EXISTS tidemill_refused (
        stream TEXT NOT NULL, target TEXT NOT NULL, _partition INTEGER NOT NULL, _offset BIGINT NOT NULL,
        _row INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, event TEXT NOT NULL,
        refused_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (stream, target, _partition, _offset, _row))";

const FIND: &str = "
    SELECT journal, next_offset FROM tidemill_positions
    WHERE stream = $1 AND target = $2 AND partition_id = $3";

const FIND_LOCKED: &str = "
    SELECT journal, next_offset FROM tidemill_positions
    WHERE stream = $1 AND target = $2 AND partition_id = $3 FOR UPDATE";

const BEGIN_AT_ZERO: &str = "
    INSERT INTO tidemill_positions (stream, target, partition_id, journal, next_offset, updated_at)
    VALUES ($1, $2, $3, $4, 0, now()) ON CONFLICT DO NOTHING";

const MOVE: &str = "
    UPDATE tidemill_positions SET journal = $4, next_offset = $5, updated_at = now()
    WHERE stream = $1 AND target = $2 AND partition_id = $3";

const REFUSE: &str = "
    INSERT INTO tidemill_refused (stream, target, _partition, _offset, _row, code, reason, event, refused_at)
    SELECT $1, $2, $3, r.record_offset, r.row_number, r.code, r.reason, r.event, now()
    FROM unnest($4, $5, $6, $7, $8) AS r(record_offset, row_number, code, reason, event)
    ON CONFLICT (stream, target, _partition, _offset, _row)
    DO UPDATE SET code = EXCLUDED.code, reason = EXCLUDED.reason, event = EXCLUDED.event,
                  refused_at = EXCLUDED.refused_at";

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// Ends every other transaction that has the lock. `pg_locks` shows the halves of the number.
const END_HOLDERS: &str = "
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
    FROM pg_locks, hashtextextended($1, 0) AS number
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = (number >> 32) & 4294967295 AND objid::bigint = number & 4294967295";

/// Most refused rows in one statement.
const REFUSED_ROWS_MAX: usize = 1_000;

/// Most bytes of refused events in one statement, save for the last one's.
const REFUSED_BYTES_MAX: usize = 4 << 20;

/// The statements that create what is missing of our own tables.
pub(super) async fn missing(connection: &Connection) -> Result<Vec<&'static str>, DatabaseError> {
    let sql = "SELECT to_regclass($1) IS NULL, to_regclass($2) IS NULL";
    let names = [POSITIONS_TABLE.to_owned(), REFUSED_TABLE.to_owned()];
    let parameters = [(&names[0] as _, Type::TEXT), (&names[1] as _, Type::TEXT)];
    let mut statements = Vec::new();
    for row in connection.query("look for tables", sql, &parameters).await? {
        if get(&row, 0)? {
            statements.push(CREATE_POSITIONS);
        }
        if get(&row, 1)? {
            statements.push(CREATE_REFUSED);
        }
    }
    Ok(statements)
}

/// Whose position: the stream, the table and the partition, as the columns of both tables have them.
pub(super) struct Place {
    stream: String,
    table: String,
    partition: i32,
}

impl Place {
    pub(super) fn of(table: &TargetTable, partition: Partition) -> Result<Self, DatabaseError> {
        Ok(Self {
            stream: table.stream.name.to_string(),
            table: table.name.clone(),
            partition: i32::try_from(partition.0)
                .map_err(|_| beyond(format!("partition {partition}, the limit is {}", i32::MAX)))?,
        })
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [
            (&self.stream, Type::TEXT),
            (&self.table, Type::TEXT),
            (&self.partition, Type::INT4),
        ]
    }

    fn lock_name(&self) -> String {
        format!("tidemill {} {} {}", self.stream, self.table, self.partition)
    }

    /// The stored position; that of a beginner is stored first.
    pub(super) async fn stored(
        &self,
        connection: &Connection,
        journal: &str,
    ) -> Result<StoredPosition, DatabaseError> {
        const OPERATION: &str = "ask for the position";
        if let Some(stored) = self.find(connection, OPERATION, FIND).await? {
            return Ok(stored);
        }
        let journal = journal.to_owned();
        let mut parameters = self.parameters().to_vec();
        parameters.push((&journal, Type::TEXT));
        connection.execute(OPERATION, BEGIN_AT_ZERO, &parameters).await?;
        let stored = self.find(connection, OPERATION, FIND).await?;
        stored.ok_or_else(|| DatabaseError::Outage {
            operation: OPERATION,
            message: "the position was deleted in the same moment".to_owned(),
        })
    }

    /// Locks the position in the open transaction, and gives it.
    pub(super) async fn lock(
        &self,
        connection: &Connection,
    ) -> Result<Option<StoredPosition>, DatabaseError> {
        const OPERATION: &str = "lock the position";
        let name = self.lock_name();
        let parameters = [(&name as _, Type::TEXT)];
        let locking = connection.client().query_typed(LOCK, &parameters);
        match connection.answer(OPERATION, locking).await? {
            Ok(_) => self.find(connection, OPERATION, FIND_LOCKED).await,
            Err(error) => {
                if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
                    self.end_holders(connection, &name).await?;
                }
                Err(failure(OPERATION, &error))
            }
        }
    }

    /// Ends the transactions of others that have the lock; whoever is ended begins again, as this process does.
    async fn end_holders(&self, connection: &Connection, name: &String) -> Result<(), DatabaseError> {
        const OPERATION: &str = "end a transaction that holds the position";
        connection.run(OPERATION, "ROLLBACK").await?;
        let rows = connection
            .query(OPERATION, END_HOLDERS, &[(name, Type::TEXT)])
            .await?;
        let ended: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        tracing::warn!(
            stream = self.stream,
            table = self.table,
            partition = self.partition,
            ended,
            "another transaction held the position for too long"
        );
        Ok(())
    }

    /// Stores a new position in the open transaction.
    pub(super) async fn store(
        &self,
        connection: &Connection,
        position: &StoredPosition,
    ) -> Result<(), DatabaseError> {
        const OPERATION: &str = "store the position";
        let offset = column_offset(position.offset)?;
        let mut parameters = self.parameters().to_vec();
        parameters.push((&position.journal, Type::TEXT));
        parameters.push((&offset, Type::INT8));
        match connection.execute(OPERATION, MOVE, &parameters).await? {
            1 => Ok(()),
            rows => Err(DatabaseError::Outage {
                operation: OPERATION,
                message: format!("{rows} rows were changed where 1 is locked"),
            }),
        }
    }

    /// Writes refused rows in the open transaction.
    pub(super) async fn refuse(
        &self,
        connection: &Connection,
        table: &TargetTable,
        rows: &Rows,
        refused: &[RefusedRow],
    ) -> Result<(), DatabaseError> {
        let mut chunk = RefusedChunk::default();
        for refused in refused {
            chunk.push(table, rows, refused)?;
            if chunk.events.len() >= REFUSED_ROWS_MAX || chunk.bytes >= REFUSED_BYTES_MAX {
                self.refuse_chunk(connection, &std::mem::take(&mut chunk)).await?;
            }
        }
        self.refuse_chunk(connection, &chunk).await
    }

    async fn refuse_chunk(&self, connection: &Connection, chunk: &RefusedChunk) -> Result<(), DatabaseError> {
        if chunk.events.is_empty() {
            return Ok(());
        }
        let mut parameters = self.parameters().to_vec();
        parameters.extend::<[Parameter<'_>; 5]>([
            (&chunk.offsets, Type::INT8_ARRAY),
            (&chunk.numbers, Type::INT4_ARRAY),
            (&chunk.codes, Type::TEXT_ARRAY),
            (&chunk.reasons, Type::TEXT_ARRAY),
            (&chunk.events, Type::TEXT_ARRAY),
        ]);
        connection
            .execute("store refused rows", REFUSE, &parameters)
            .await?;
        Ok(())
    }

    async fn find(
        &self,
        connection: &Connection,
        operation: &'static str,
        sql: &str,
    ) -> Result<Option<StoredPosition>, DatabaseError> {
        let rows = connection.query(operation, sql, &self.parameters()).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let offset: i64 = get(row, 1)?;
        let offset = u64::try_from(offset).map_err(|_| {
            beyond(format!(
                "offset {offset} in `{POSITIONS_TABLE}`, which begin at 0"
            ))
        })?;
        Ok(Some(StoredPosition {
            journal: get(row, 0)?,
            offset: Offset(offset),
        }))
    }
}

/// Refused rows by columns.
#[derive(Default)]
struct RefusedChunk {
    offsets: Vec<i64>,
    numbers: Vec<i32>,
    codes: Vec<String>,
    reasons: Vec<String>,
    events: Vec<String>,
    bytes: usize,
}

impl RefusedChunk {
    fn push(&mut self, table: &TargetTable, rows: &Rows, refused: &RefusedRow) -> Result<(), DatabaseError> {
        let (offset, number) = rows.place(refused.row);
        let (batch, row) = rows.row(refused.row);
        let mut event = Vec::new();
        write_event(&mut event, &table.stream, batch, row);
        self.bytes += event.len();
        self.offsets.push(column_offset(offset)?);
        self.numbers.push(
            i32::try_from(number).map_err(|_| beyond(format!("row {number}, the limit is {}", i32::MAX)))?,
        );
        self.codes.push(refused.refusal.code.clone());
        self.reasons.push(refused.refusal.reason.clone());
        // JSON of texts that are UTF-8 is UTF-8, and has its control characters escaped.
        self.events.push(String::from_utf8_lossy(&event).into_owned());
        Ok(())
    }
}

fn column_offset(offset: Offset) -> Result<i64, DatabaseError> {
    i64::try_from(offset.0).map_err(|_| beyond(format!("offset {offset}, the limit is {}", i64::MAX)))
}

fn beyond(message: String) -> DatabaseError {
    DatabaseError::Denied {
        operation: "store a position",
        message,
    }
}
