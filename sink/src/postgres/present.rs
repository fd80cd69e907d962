//! Which ids a table has already, of a stream whose ids are unique.
//!
//! The ids go as one array, and the table's own index of its key answers. They are compared as values of the column's
//! own type, which may be another one in a table that somebody else made.

use std::ops::Range;

use tokio_postgres::types::Type;

use super::connection::Connection;
use super::error::Verdict;
use super::table::{get, quoted};
use crate::database::unique::{IdText, for_each_id};
use crate::database::{DatabaseError, Rows, TargetTable};

/// Most ids of one question.
const IDS_MAX: usize = 10_000;

const OPERATION: &str = "look for ids";

/// The type of a column, without the length that a cast would cut to.
const FIND_TYPE: &str = "
    SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
    WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped";

/// The question about the ids of a table, whose parameter is an array of texts; `None` when they may repeat.
pub(super) async fn question(
    connection: &Connection,
    table: &TargetTable,
) -> Result<Option<String>, DatabaseError> {
    let Some(column) = table.unique.map(|index| &table.columns[index]) else {
        return Ok(None);
    };
    let target = quoted(&table.name);
    let parameters = [(&target as _, Type::TEXT), (&column.name as _, Type::TEXT)];
    let found = connection.query(OPERATION, FIND_TYPE, &parameters).await?;
    let Some(row) = found.first() else {
        return Err(DatabaseError::Outage {
            operation: OPERATION,
            message: format!("table `{}` was changed meanwhile", table.name),
        });
    };
    let found: String = get(row, 0)?;
    Ok(Some(format!(
        "SELECT asked.number FROM unnest($1) WITH ORDINALITY AS asked (id, number) \
         WHERE EXISTS (SELECT 1 FROM {target} AS t WHERE t.{} = asked.id::{found}) ORDER BY asked.number",
        quoted(&column.name)
    )))
}

/// Numbers of the rows of a range whose id is in the table, in order.
///
/// # Errors
/// [`Verdict::Row`] when an id is no value of the column's type.
pub(super) async fn present(
    connection: &Connection,
    question: &str,
    table: &TargetTable,
    rows: &Rows,
    range: Range<usize>,
) -> Result<Vec<usize>, Verdict> {
    let mut asked: Vec<(usize, String)> = Vec::with_capacity(range.len());
    for_each_id(table, rows, range, |number, id| match id {
        // No text of PostgreSQL has this character, so no row of the table has this id.
        IdText::Text(text) if text.contains('\0') => {}
        IdText::Text(text) => asked.push((number, text.to_owned())),
        IdText::Int(id) => asked.push((number, id.to_string())),
    });
    let mut present = Vec::new();
    for part in asked.chunks(IDS_MAX) {
        let ids: Vec<&str> = part.iter().map(|(_, id)| id.as_str()).collect();
        let parameters = [(&ids as _, Type::TEXT_ARRAY)];
        let asking = connection.client().query_typed(question, &parameters);
        for row in connection.judged(OPERATION, asking).await? {
            let number: i64 = get(&row, 0).map_err(Verdict::Failed)?;
            let place = usize::try_from(number - 1).ok();
            present.extend(place.and_then(|place| part.get(place)).map(|(number, _)| *number));
        }
    }
    Ok(present)
}
