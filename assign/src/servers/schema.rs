//! The tables: made when they are not there.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::SCHEMA;
use super::database::{failed, within};
use crate::AssignError;

/// The one who makes tables at a time; any number that nobody else uses.
const LOCK: i64 = 0x7469_6465_6173_6e01;

/// Makes the tables unless they are there, and gives the database's id.
///
/// # Errors
/// [`AssignError::Unavailable`] with what the server said.
pub(super) async fn prepare(client: &Client) -> Result<String, AssignError> {
    const OPERATION: &str = "make the tables of assignments";
    let id = "SELECT id FROM assignment_database";
    let there = "SELECT to_regclass('assignment_database') IS NOT NULL";
    let found = within(OPERATION, client.query_typed_one(there, &[])).await?;
    let found: bool = found
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed(OPERATION, &error))?;
    if !found {
        // Several processes may start at once, and `IF NOT EXISTS` alone does not keep them apart.
        let make = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {SCHEMA}; COMMIT");
        let made = within(OPERATION, client.batch_execute(&make)).await?;
        made.map_err(|error| not_made(OPERATION, &error))?;
    }
    let row = within(OPERATION, client.query_typed_one(id, &[])).await?;
    row.and_then(|row| row.try_get(0))
        .map_err(|error| failed(OPERATION, &error))
}

/// A table of another program with one of our names stays as it is, and its columns are others.
fn not_made(operation: &'static str, error: &tokio_postgres::Error) -> AssignError {
    let foreign = [
        SqlState::UNDEFINED_COLUMN,
        SqlState::DATATYPE_MISMATCH,
        SqlState::WRONG_OBJECT_TYPE,
    ];
    let mut failure = failed(operation, error);
    let is_foreign = error.code().is_some_and(|code| foreign.contains(code));
    if let (true, AssignError::Unavailable { message, .. }) = (is_foreign, &mut failure) {
        message.push_str(
            "; another program has a table of that name here: give ours a schema of their own, \
             `CREATE SCHEMA tidemill` and `?options=-csearch_path%3Dtidemill` in `postgres_url`",
        );
    }
    failure
}
