//! The two ways in: `LOAD DATA LOCAL INFILE` from a stream, and multi-row `INSERT`.
//!
//! Rows become text on a thread for such work while the server reads what came before, at most two chunks ahead.
//! A range is all or nothing: a savepoint stands before it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, oneshot};

use super::error::{load_data_is_off, refusal};
use super::session::MysqlSession;
use super::text::{Form, RowWriter};
use crate::database::{Attempt, DatabaseError, Loaded, OnConflict, Refusal, RefusedRow, Rows, TargetTable};

/// Bytes of one packet of `LOAD DATA`.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that may wait for the server.
const CHUNKS_WAITING: usize = 2;

/// What the thread that writes text says at its end.
#[derive(Debug, Default)]
struct Report {
    /// Rows that were written.
    rows: u64,
    /// Rows that have no form.
    unwritable: Vec<RefusedRow>,
}

/// What became of `LOAD DATA`.
enum Outcome {
    Done(Loaded),
    /// The server counts other rows than were sent, or has warnings, or does not allow it.
    Doubtful,
}

/// Writes a range of rows, all or none.
pub(super) async fn load(
    session: &mut MysqlSession,
    table: &Arc<TargetTable>,
    rows: &Arc<Rows>,
    range: Range<usize>,
    attempt: Attempt,
) -> Result<Loaded, DatabaseError> {
    session.run("set a savepoint", "SAVEPOINT tidemill").await?;
    // Only INSERT can say what happens to a repeated key.
    let by_stream =
        attempt == Attempt::First && table.on_conflict == OnConflict::Refuse && session.ways.load_data();
    if by_stream {
        match load_data(session, table, rows, range.clone()).await? {
            Outcome::Done(loaded) => return Ok(loaded),
            Outcome::Doubtful => session.run("go back", "ROLLBACK TO SAVEPOINT tidemill").await?,
        }
    }
    let loaded = insert(session, table, rows, range).await?;
    match &loaded {
        Loaded::Refused(_) => session.run("go back", "ROLLBACK TO SAVEPOINT tidemill").await?,
        // The server warns of what is no error: it would every time, and every row would be sent twice.
        Loaded::Rows { .. } if by_stream => session
            .ways
            .turn_to_insert("`LOAD DATA` gives warnings without errors"),
        Loaded::Rows { .. } => {}
    }
    Ok(loaded)
}

async fn load_data(
    session: &mut MysqlSession,
    table: &Arc<TargetTable>,
    rows: &Arc<Rows>,
    range: Range<usize>,
) -> Result<Outcome, DatabaseError> {
    let (report, reported) = oneshot::channel();
    let (lines_table, lines) = (Arc::clone(table), Arc::clone(rows));
    let chunk_bytes = CHUNK_BYTES.min(session.packet_bytes / 2).max(1);
    // It runs only if the server asks for the data, and ends when nobody reads it any more.
    session.conn.set_infile_handler(async move {
        let (chunks, waiting) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
        tokio::task::spawn_blocking(move || {
            let written = write_lines(&lines_table, &lines, range, chunk_bytes, &chunks);
            // Whoever asked may be gone.
            let _ = report.send(written);
        });
        let data = stream::unfold(waiting, async |mut waiting| {
            waiting.recv().await.map(|chunk| (Ok(chunk), waiting))
        });
        Ok(data.boxed())
    });
    match session.conn.query_drop(statement(table)).await {
        Ok(()) => {}
        Err(error) if load_data_is_off(&error) => {
            session
                .ways
                .turn_to_insert("the server does not allow `LOAD DATA LOCAL`");
            return Ok(Outcome::Doubtful);
        }
        // With LOCAL a row's errors are warnings, but not all of them: some end the statement.
        Err(error) => return refusal("load rows", error).map(|_| Outcome::Doubtful),
    }
    let report = reported.await.map_err(|_| DatabaseError::Outage {
        operation: "load rows",
        message: "the thread that writes rows ended".to_owned(),
    })?;
    if session.conn.affected_rows() != report.rows || session.conn.get_warnings() > 0 {
        return Ok(Outcome::Doubtful);
    }
    metrics::counter!("tidemill_mysql_rows_total", "way" => "load_data").increment(report.rows);
    Ok(Outcome::Done(Loaded::Rows {
        unwritable: report.unwritable,
    }))
}

fn statement(table: &TargetTable) -> String {
    format!(
        "LOAD DATA LOCAL INFILE 'tidemill' INTO TABLE `{}` CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' \
         ENCLOSED BY '' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' STARTING BY '' ({})",
        table.name,
        column_names(table)
    )
}

fn column_names(table: &TargetTable) -> String {
    let names: Vec<_> = table
        .columns
        .iter()
        .map(|column| format!("`{}`", column.name))
        .collect();
    names.join(",")
}

/// Writes lines into chunks. Blocks while the server is behind.
fn write_lines(
    table: &Arc<TargetTable>,
    rows: &Rows,
    range: Range<usize>,
    chunk_bytes: usize,
    chunks: &mpsc::Sender<Bytes>,
) -> Report {
    let mut report = Report::default();
    let mut chunk = Vec::with_capacity(chunk_bytes + chunk_bytes / 8);
    for slice in rows.slices(range) {
        let mut writer = RowWriter::new(Form::Line, table, &slice);
        for (index, row) in slice.range.clone().enumerate() {
            match writer.write(&mut chunk, row) {
                Ok(()) => report.rows += 1,
                Err(refusal) => report.unwritable.push(RefusedRow {
                    row: slice.first + index,
                    refusal,
                }),
            }
            // A line that is longer than a packet goes in several: the server reads a stream of bytes.
            while chunk.len() >= chunk_bytes {
                let rest = chunk.split_off(chunk_bytes);
                if chunks
                    .blocking_send(std::mem::replace(&mut chunk, rest).into())
                    .is_err()
                {
                    return report;
                }
                chunk.reserve(chunk_bytes);
            }
        }
    }
    if !chunk.is_empty() {
        // An error means that the connection broke, which its user notices.
        let _ = chunks.blocking_send(chunk.into());
    }
    report
}

/// What the thread that writes tuples sends.
enum Tuples {
    /// A whole statement, and how many rows are in it.
    Statement(Vec<u8>, u64),
    /// A row that has no form, or alone is more than the server takes.
    Unwritable(RefusedRow),
}

async fn insert(
    session: &mut MysqlSession,
    table: &Arc<TargetTable>,
    rows: &Arc<Rows>,
    range: Range<usize>,
) -> Result<Loaded, DatabaseError> {
    let (statements, mut waiting) = mpsc::channel(1);
    let (tuples_table, tuples) = (Arc::clone(table), Arc::clone(rows));
    let (statement_bytes, packet_bytes) = (session.statement_bytes(), session.packet_bytes);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = InsertWriter {
            table: &tuples_table,
            statement_bytes,
            packet_bytes,
            statements,
        };
        writer.write(&tuples, range);
    });
    let mut unwritable = Vec::new();
    while let Some(tuples) = waiting.recv().await {
        let (statement, count) = match tuples {
            Tuples::Statement(statement, count) => (statement, count),
            Tuples::Unwritable(row) => {
                unwritable.push(row);
                continue;
            }
        };
        if let Err(error) = session.conn.query_drop(statement).await {
            return Ok(Loaded::Refused(refusal("insert rows", error)?));
        }
        metrics::counter!("tidemill_mysql_rows_total", "way" => "insert").increment(count);
    }
    writing.await.map_err(|error| DatabaseError::Outage {
        operation: "insert rows",
        message: error.to_string(),
    })?;
    Ok(Loaded::Rows { unwritable })
}

/// Writes tuples into statements. Blocks while the server is behind.
struct InsertWriter<'a> {
    table: &'a Arc<TargetTable>,
    statement_bytes: usize,
    packet_bytes: usize,
    statements: mpsc::Sender<Tuples>,
}

impl InsertWriter<'_> {
    fn write(&mut self, rows: &Rows, range: Range<usize>) {
        let head = format!(
            "INSERT INTO `{}` ({}) VALUES ",
            self.table.name,
            column_names(self.table)
        )
        .into_bytes();
        let tail = on_conflict(self.table).into_bytes();
        let room = self.packet_bytes.saturating_sub(tail.len());
        let mut statement = head.clone();
        let mut count = 0;
        for slice in rows.slices(range) {
            let mut writer = RowWriter::new(Form::Tuple, self.table, &slice);
            for (index, row) in slice.range.clone().enumerate() {
                let begin = statement.len();
                if count > 0 {
                    statement.push(b',');
                }
                let number = slice.first + index;
                if let Err(refusal) = writer.write(&mut statement, row) {
                    statement.truncate(begin);
                    let row = RefusedRow { row: number, refusal };
                    if !self.send(Tuples::Unwritable(row)) {
                        return;
                    }
                    continue;
                }
                let row_bytes = statement.len() - begin;
                if head.len() + row_bytes > room {
                    statement.truncate(begin);
                    if !self.send(Tuples::Unwritable(self.too_large(number, row_bytes))) {
                        return;
                    }
                    continue;
                }
                if count > 0 && statement.len() > self.statement_bytes.min(room) {
                    // What was just written begins the next statement, without its comma.
                    let next: Vec<_> = head.iter().chain(&statement[begin + 1..]).copied().collect();
                    statement.truncate(begin);
                    statement.extend_from_slice(&tail);
                    let full = std::mem::replace(&mut statement, next);
                    if !self.send(Tuples::Statement(full, std::mem::replace(&mut count, 0))) {
                        return;
                    }
                }
                count += 1;
            }
        }
        if count > 0 {
            statement.extend_from_slice(&tail);
            self.send(Tuples::Statement(statement, count));
        }
    }

    fn too_large(&self, row: usize, bytes: usize) -> RefusedRow {
        let limit = self.packet_bytes;
        let reason =
            format!("the row is {bytes} bytes as SQL, the server's max_allowed_packet leaves {limit}");
        RefusedRow {
            row,
            refusal: Refusal::unwritable(reason),
        }
    }

    /// Whether anybody still wants it.
    fn send(&self, tuples: Tuples) -> bool {
        self.statements.blocking_send(tuples).is_ok()
    }
}

/// What `INSERT` does about a repeated key. Never `IGNORE`, which would hide every other error too.
fn on_conflict(table: &TargetTable) -> String {
    let set: Vec<_> = match table.on_conflict {
        OnConflict::Refuse => return String::new(),
        OnConflict::Ignore => table
            .key_columns()
            .take(1)
            .map(|key| format!("`{0}`=`{0}`", key.name))
            .collect(),
        OnConflict::Update => table
            .columns
            .iter()
            .map(|column| format!("`{0}`=VALUES(`{0}`)", column.name))
            .collect(),
    };
    format!(" ON DUPLICATE KEY UPDATE {}", set.join(","))
}
