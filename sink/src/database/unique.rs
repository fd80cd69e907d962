//! Streams whose ids are unique: an id has one row in the table for ever, the first one's in the order of the journal.
//!
//! The id is the table's key, so the database itself keeps the promise, whoever writes. What would break it is left out
//! before: rows of one transaction that repeat an id are found here, in memory; what is in the table already is asked of
//! the database, first when the last transaction had such rows, else when the database has refused the range. So rows
//! that repeat nothing go in by the fastest way, without a question, and no statement hides any other error, as
//! `INSERT IGNORE` would.

use std::collections::HashSet;
use std::sync::Arc;

use event::unique::Ids;

use super::error::DatabaseError;
use super::mapping::{Source, TargetTable};
use super::rows::Rows;
use super::session::Session;

/// Rows that are to be written, without those that repeat an id.
#[derive(Debug)]
pub(super) struct Distinct {
    pub(super) rows: Arc<Rows>,
    /// How many were left out.
    pub(super) duplicates: u64,
    /// How many of them because the table has their id.
    pub(super) present: u64,
    /// Whether the database was asked.
    pub(super) asked: bool,
}

impl Distinct {
    /// The first row of each id. A table whose ids may repeat gets all rows.
    pub(super) async fn of(table: &Arc<TargetTable>, rows: &Arc<Rows>) -> Result<Self, DatabaseError> {
        let mut distinct = Self {
            rows: Arc::clone(rows),
            duplicates: 0,
            present: 0,
            // There is nothing to ask.
            asked: table.unique.is_none(),
        };
        if table.unique.is_some() {
            let (table, rows) = (Arc::clone(table), Arc::clone(rows));
            let (left, duplicates) = on_thread(move || {
                let repeats = repeats(&table, &rows)?;
                Ok((left(&rows, &repeats)?, repeats.len()))
            })
            .await?;
            distinct.rows = left;
            distinct.duplicates = duplicates as u64;
        }
        Ok(distinct)
    }

    /// Asks the database which ids it has, and leaves their rows out.
    pub(super) async fn ask(
        &mut self,
        session: &mut dyn Session,
        table: &Arc<TargetTable>,
    ) -> Result<(), DatabaseError> {
        self.asked = true;
        let present = session.present(table, &self.rows, 0..self.rows.len()).await?;
        self.present += present.len() as u64;
        self.duplicates += present.len() as u64;
        let rows = Arc::clone(&self.rows);
        self.rows = on_thread(move || left(&rows, &present)).await?;
        Ok(())
    }

    /// Whether the table has a row's id now.
    pub(super) async fn is_present(
        &self,
        session: &mut dyn Session,
        table: &Arc<TargetTable>,
        row: usize,
    ) -> Result<bool, DatabaseError> {
        let unique = table.unique.is_some();
        Ok(unique && !session.present(table, &self.rows, row..row + 1).await?.is_empty())
    }
}

/// Runs what takes a thread's time on a thread for such work.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, DatabaseError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(unreadable(&error)))
}

/// The rows without some.
fn left(rows: &Arc<Rows>, numbers: &[usize]) -> Result<Arc<Rows>, DatabaseError> {
    if numbers.is_empty() {
        return Ok(Arc::clone(rows));
    }
    let left = rows.without(numbers).map_err(|error| unreadable(&error))?;
    Ok(Arc::new(left))
}

/// Rows whose id an earlier one of them has.
fn repeats(table: &TargetTable, rows: &Rows) -> Result<Vec<usize>, DatabaseError> {
    let mut repeats = Vec::new();
    let Some(Source::Lake(column)) = table.unique.map(|column| table.columns[column].source) else {
        return Ok(repeats);
    };
    let mut known = HashSet::with_capacity(rows.len());
    for slice in rows.slices(0..rows.len()) {
        let values = slice.batch.columns().get(column);
        let values = values.ok_or_else(|| unreadable(&"a batch lacks the column of the ids"))?;
        let ids = Ids::of(values, &table.stream).map_err(|error| unreadable(&error))?;
        for (number, row) in (slice.first..).zip(slice.range) {
            if !known.insert(ids.get(row)) {
                repeats.push(number);
            }
        }
    }
    Ok(repeats)
}

fn unreadable(message: &dyn std::fmt::Display) -> DatabaseError {
    DatabaseError::Denied {
        operation: "read ids",
        message: message.to_string(),
    }
}

/// Calls `put` with the text of the id of each row of a range that is asked about.
pub(crate) fn for_each_id(
    table: &TargetTable,
    rows: &Rows,
    range: std::ops::Range<usize>,
    mut put: impl FnMut(usize, IdText<'_>),
) {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let Some(Source::Lake(column)) = table.unique.map(|column| table.columns[column].source) else {
        return;
    };
    for slice in rows.slices(range) {
        let Some(values) = slice.batch.columns().get(column) else {
            return;
        };
        for (number, row) in (slice.first..).zip(slice.range) {
            if let Some(texts) = values.as_string_opt::<i32>() {
                put(number, IdText::Text(texts.value(row)));
            } else if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
                put(number, IdText::Int(numbers.value(row)));
            }
        }
    }
}

/// An id as a statement writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IdText<'a> {
    Text(&'a str),
    Int(i64),
}
