//! One transaction, the same for every database: position compared, rows in, refused rows aside, position stored.
//!
//! The position row is locked first and must say exactly where this process stands. So a process that was paused,
//! cut off or replaced and comes back can never write twice: its position is not the stored one (I-2).
//!
//! Rows that repeat a unique id are left out before ([`super::unique`]).
//!
//! A range that the database refuses is halved until the rows that it refuses stand alone. Those go to
//! `tidemill_refused`, the rest goes on; both are in this same transaction.

use std::ops::Range;
use std::sync::Arc;

use super::error::DatabaseError;
use super::mapping::TargetTable;
use super::rows::Rows;
use super::session::{Attempt, Loaded, RefusedRow, Session, StoredPosition};
use super::unique::Distinct;

/// What a transaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows in the target table.
    pub inserted: u64,
    /// Rows in `tidemill_refused`.
    pub refused: u64,
    /// Rows that were left out because they repeat a unique id.
    pub duplicates: u64,
    /// Whether the table had some of those ids before, so that the next transaction had better ask first.
    pub repeated: bool,
}

/// Writes rows, and the position after them, in one transaction.
///
/// # Errors
/// [`DatabaseError::Moved`] when the stored position is not `from`; else what the session says. Whatever it is, the
/// session must be dropped: a transaction may be open on it.
pub async fn write(
    session: &mut dyn Session,
    table: &Arc<TargetTable>,
    rows: &Arc<Rows>,
    journal: &str,
) -> Result<Written, DatabaseError> {
    write_knowing(session, table, rows, journal, false).await
}

/// The same; `repeated` says that the last transaction had unique ids that were in the table already, so that this one
/// may well have some.
///
/// # Errors
/// As [`write`].
pub async fn write_knowing(
    session: &mut dyn Session,
    table: &Arc<TargetTable>,
    rows: &Arc<Rows>,
    journal: &str,
    repeated: bool,
) -> Result<Written, DatabaseError> {
    let mut distinct = Distinct::of(table, rows).await?;
    let partition = rows.partition();
    let stored = session.begin(table, partition).await?;
    let here = |stored: &StoredPosition| stored.journal == journal && stored.offset == rows.from();
    if !stored.as_ref().is_some_and(here) {
        return Err(DatabaseError::Moved {
            found: stored.map_or_else(
                || "nothing".to_owned(),
                |stored| format!("{} of journal `{}`", stored.offset, stored.journal),
            ),
            expected: rows.from(),
        });
    }
    if repeated && !distinct.asked {
        distinct.ask(session, table).await?;
    }
    let refused = load(session, table, &mut distinct).await?;
    if !refused.is_empty() {
        session.refuse(table, &distinct.rows, &refused).await?;
    }
    let position = StoredPosition {
        journal: journal.to_owned(),
        offset: rows.to(),
    };
    session.commit(table, partition, &position).await?;
    Ok(Written {
        inserted: rows.len() as u64 - refused.len() as u64 - distinct.duplicates,
        refused: refused.len() as u64,
        duplicates: distinct.duplicates,
        repeated: distinct.present > 0,
    })
}

/// Loads every row that the database takes, and gives the others in order.
async fn load(
    session: &mut dyn Session,
    table: &Arc<TargetTable>,
    distinct: &mut Distinct,
) -> Result<Vec<RefusedRow>, DatabaseError> {
    let mut refused = Vec::new();
    // At most one range for each halving of the rows is waiting here.
    let mut waiting: Vec<(Range<usize>, Attempt)> = vec![(0..distinct.rows.len(), Attempt::First)];
    while let Some((range, attempt)) = waiting.pop() {
        if range.is_empty() {
            continue;
        }
        let rows = Arc::clone(&distinct.rows);
        let loaded = session.load(table, &rows, range.clone(), attempt).await?;
        match loaded {
            Loaded::Rows { unwritable } => refused.extend(unwritable),
            // It was all of them: nothing is loaded, so they may be numbered anew.
            Loaded::Refused(_) if !distinct.asked => {
                distinct.ask(session, table).await?;
                let attempt = if distinct.present > 0 {
                    Attempt::First
                } else {
                    Attempt::Part
                };
                waiting.push((0..distinct.rows.len(), attempt));
            }
            Loaded::Refused(refusal) if range.len() == 1 => {
                let row = range.start;
                // Somebody else may have written the id meanwhile.
                if distinct.is_present(session, table, row).await? {
                    distinct.duplicates += 1;
                    distinct.present += 1;
                } else {
                    refused.push(RefusedRow { row, refusal });
                }
            }
            Loaded::Refused(_) => {
                let middle = range.start + range.len() / 2;
                // The first half goes first, so that of two rows with one key the earlier one stays.
                waiting.push((middle..range.end, Attempt::Part));
                waiting.push((range.start..middle, Attempt::Part));
            }
        }
    }
    refused.sort_by_key(|refused| refused.row);
    Ok(refused)
}

#[cfg(test)]
mod tests;
