//! Rows of one range into a table, by COPY.
//!
//! Threads encode the next pieces while one is being sent, so neither the server nor the encoder waits for the other.
//! A table that has a key of its own with something to do about repeated keys is written through a temporary table
//! of the same columns, since COPY itself knows no `ON CONFLICT`.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::{CopyInSink, Statement};

use super::connection::Connection;
use super::encode::{Encoder, HEADER, Screen, Sent, TRAILER, Tuples};
use super::error::Verdict;
use super::present;
use super::table::{quoted, quoted_list};
use crate::database::{Attempt, Column, DatabaseError, OnConflict, RefusedRow, Rows, TargetTable};

/// Rows that one piece of a COPY has: enough that a thread's turn costs little beside them.
const PIECE_ROWS: usize = 4_096;

/// Pieces that are encoded, or being encoded, while one is sent.
const PIECES_AHEAD: usize = 2;

/// The column of a temporary table that numbers the rows.
const NUMBER: &str = "tidemill_row_number";

const OPERATION: &str = "load rows";

/// How rows get into one table on one connection.
pub(super) struct Way {
    columns: Arc<[Sent]>,
    copy: Statement,
    staging: Option<Staging>,
    /// What asks for ids that are there.
    present: Option<String>,
}

/// A temporary table in between.
struct Staging {
    name: String,
    /// From there into the table.
    insert: String,
}

impl Way {
    /// Finds the way into a table whose columns take those forms. `number` tells temporary tables apart.
    pub(super) async fn open(
        connection: &Connection,
        table: &TargetTable,
        columns: Vec<Sent>,
        number: u64,
    ) -> Result<Self, DatabaseError> {
        let names = quoted_list(table.columns.iter());
        let staging = (table.own_key && table.on_conflict != OnConflict::Refuse).then(|| Staging {
            name: format!("pg_temp.tidemill_staging_{number}"),
            insert: insert(table, &format!("pg_temp.tidemill_staging_{number}")),
        });
        let copy = match &staging {
            None => format!(
                "COPY {} ({names}) FROM STDIN (FORMAT binary)",
                quoted(&table.name)
            ),
            Some(Staging { name, .. }) => {
                let target = quoted(&table.name);
                let create = format!(
                    "CREATE TEMPORARY TABLE {bare} ON COMMIT DELETE ROWS AS \
                     SELECT {names}, 0::bigint AS {NUMBER} FROM {target} WITH NO DATA",
                    bare = name.trim_start_matches("pg_temp."),
                );
                connection.run("create a temporary table", &create).await?;
                format!("COPY {name} ({names}, {NUMBER}) FROM STDIN (FORMAT binary)")
            }
        };
        let copy = connection
            .within(OPERATION, connection.client().prepare(&copy))
            .await?;
        Ok(Self {
            columns: columns.into(),
            copy,
            staging,
            present: present::question(connection, table).await?,
        })
    }

    /// Gives back what [`Self::open`] made.
    pub(super) async fn close(&self, connection: &Connection) -> Result<(), DatabaseError> {
        match &self.staging {
            Some(Staging { name, .. }) => {
                let drop = format!("DROP TABLE IF EXISTS {name}");
                connection.run("drop a temporary table", &drop).await
            }
            None => Ok(()),
        }
    }

    /// Loads a range in the open transaction, and gives the rows that have no form in this table.
    pub(super) async fn load(
        &self,
        connection: &Connection,
        table: &Arc<TargetTable>,
        rows: &Arc<Rows>,
        range: Range<usize>,
        attempt: Attempt,
    ) -> Result<Vec<RefusedRow>, Verdict> {
        if let Some(Staging { name, .. }) = &self.staging {
            let truncate = format!("TRUNCATE {name}");
            connection
                .run(OPERATION, &truncate)
                .await
                .map_err(Verdict::Failed)?;
        }
        let screen = match attempt {
            Attempt::First => Screen::Nothing,
            Attempt::Part => Screen::Zeros,
        };
        let refused = self.copy(connection, table, rows, range, screen).await?;
        if let Some(Staging { insert, .. }) = &self.staging {
            let inserting = connection.client().batch_execute(insert);
            connection.judged(OPERATION, inserting).await?;
        }
        Ok(refused)
    }

    /// Numbers of the rows of a range whose id is in the table.
    pub(super) async fn present(
        &self,
        connection: &Connection,
        table: &TargetTable,
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<Vec<usize>, Verdict> {
        match &self.present {
            Some(question) => present::present(connection, question, table, rows, range).await,
            None => Ok(Vec::new()),
        }
    }

    async fn copy(
        &self,
        connection: &Connection,
        table: &Arc<TargetTable>,
        rows: &Arc<Rows>,
        range: Range<usize>,
        screen: Screen,
    ) -> Result<Vec<RefusedRow>, Verdict> {
        let count = range.len();
        let starts = range.clone().step_by(PIECE_ROWS);
        let mut pieces = pin!(
            futures::stream::iter(starts)
                .map(|start| {
                    let piece = start..(start + PIECE_ROWS).min(range.end);
                    self.encode(table, rows, piece, screen)
                })
                .buffered(PIECES_AHEAD)
        );
        let opening = connection.client().copy_in(&self.copy);
        let mut sink = pin!(connection.judged(OPERATION, opening).await?);
        send(connection, sink.as_mut(), Bytes::from_static(HEADER)).await?;
        let mut refused = Vec::new();
        while let Some(piece) = pieces.next().await {
            let Tuples { bytes, unwritable } = piece.map_err(Verdict::Failed)?;
            refused.extend(unwritable);
            send(connection, sink.as_mut(), bytes.into()).await?;
        }
        send(connection, sink.as_mut(), Bytes::from_static(TRAILER)).await?;
        let taken = connection.judged(OPERATION, sink.finish()).await?;
        let expected = (count - refused.len()) as u64;
        // A trigger may swallow rows, which is its owner's wish; nothing may add any.
        if taken > expected {
            return Err(Verdict::Failed(DatabaseError::Denied {
                operation: OPERATION,
                message: format!("the server counts {taken} rows of {expected}"),
            }));
        }
        Ok(refused)
    }

    /// Encodes some rows on a thread for such work.
    fn encode(
        &self,
        table: &Arc<TargetTable>,
        rows: &Arc<Rows>,
        range: Range<usize>,
        screen: Screen,
    ) -> impl Future<Output = Result<Tuples, DatabaseError>> + use<> {
        let (table, rows, columns) = (Arc::clone(table), Arc::clone(rows), Arc::clone(&self.columns));
        let numbered = self.staging.is_some();
        let encoding = tokio::task::spawn_blocking(move || {
            let encoder = Encoder {
                stream: &table.stream,
                columns: &columns,
                numbered,
                screen,
            };
            encoder.encode(&rows, range).map_err(|error| error.to_string())
        });
        async {
            let encoded = encoding.await.unwrap_or_else(|error| Err(error.to_string()));
            encoded.map_err(|message| DatabaseError::Denied {
                operation: "encode rows",
                message,
            })
        }
    }
}

async fn send(
    connection: &Connection,
    mut sink: std::pin::Pin<&mut CopyInSink<Bytes>>,
    bytes: Bytes,
) -> Result<(), Verdict> {
    connection.judged(OPERATION, sink.send(bytes)).await
}

/// From the temporary table into the real one. Of rows that repeat a key, the first stays or the last one counts.
fn insert(table: &TargetTable, staging: &str) -> String {
    let target = quoted(&table.name);
    let names = quoted_list(table.columns.iter());
    let key = quoted_list(table.key_columns());
    let is_key = |column: &Column| table.key_columns().any(|key| key.name == column.name);
    let updates: Vec<String> = table
        .columns
        .iter()
        .filter(|column| !is_key(column))
        .map(|column| format!("{0} = EXCLUDED.{0}", quoted(&column.name)))
        .collect();
    if table.on_conflict == OnConflict::Ignore || updates.is_empty() {
        return format!(
            "INSERT INTO {target} ({names}) SELECT {names} FROM {staging} ORDER BY {NUMBER} \
             ON CONFLICT ({key}) DO NOTHING"
        );
    }
    format!(
        "INSERT INTO {target} ({names}) SELECT {names} FROM \
         (SELECT DISTINCT ON ({key}) * FROM {staging} ORDER BY {key}, {NUMBER} DESC) AS latest \
         ON CONFLICT ({key}) DO UPDATE SET {}",
        updates.join(", ")
    )
}
