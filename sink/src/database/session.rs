//! What a database must be able to do, as two traits: [`Database`] makes connections, [`Session`] is one of them.
//!
//! A session has primitive steps only; the order of the steps, which is what makes each event be there exactly
//! once, is written once for all databases in [`super::transaction`]:
//!
//! ```text
//! begin (locks the position row) ──► load (all or none of a range) … ──► refuse ──► commit (position, then data count)
//! ```
//!
//! # Cancellation
//! Any future of a session may be dropped. The session is of no use then and is dropped as well; the server rolls
//! back what was open. So an implementation needs no care beyond not giving such a connection to anybody else.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use event::{Offset, Partition};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::DatabaseError;
use super::mapping::{MappingError, TargetTable};
use super::rows::Rows;

/// The table that keeps how far each target table is, one row for each stream, table and partition.
pub const POSITIONS_TABLE: &str = "tidemill_positions";

/// The table of the rows that the database did not take, each with the database's reason.
pub const REFUSED_TABLE: &str = "tidemill_refused";

/// Most bytes of a database's reason for a refusal that are kept.
pub const REASON_BYTES_MAX: usize = 1_000;

/// A database server, of which connections are made.
pub trait Database: Send + Sync + fmt::Debug + 'static {
    /// What it is, for logs and metrics: `mysql`, `postgres`.
    fn kind(&self) -> &'static str;

    /// Whether this kind of database can have such a table: lengths of names, number of columns, types in a key.
    /// Asks nobody.
    ///
    /// # Errors
    /// [`MappingError`] that names what does not fit.
    fn check(&self, table: &TargetTable) -> Result<(), MappingError>;

    /// Opens a connection, with every setting of the session that the rest relies on.
    ///
    /// # Errors
    /// [`DatabaseError`]; never with the password in it.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>>;
}

/// Where a target table is in one partition of one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    /// The journal that the offset is one of, as [`journal::JournalId`] writes it.
    pub journal: String,
    /// The next offset: everything below is in the table or was refused.
    pub offset: Offset,
}

/// Why the database did not take a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The database's own code, `1406` or `22P02`; `tidemill` when the row could not even be written down for it.
    pub code: String,
    /// What the database said, at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

impl Refusal {
    /// A refusal whose reason is cut to the bound.
    #[must_use]
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        reason.truncate(end);
        Self {
            code: code.into(),
            reason,
        }
    }

    /// A row that has no form in the database, found before it was sent.
    #[must_use]
    pub fn unwritable(reason: impl Into<String>) -> Self {
        Self::new("tidemill", reason)
    }
}

/// A row that goes to [`REFUSED_TABLE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its number in the [`Rows`].
    pub row: usize,
    /// Why.
    pub refusal: Refusal,
}

/// How a range of rows is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// For the first time: by the fastest way.
    First,
    /// As a part of a range that was refused: by the way that gives the database's own verdict of each row.
    Part,
}

/// What became of a range of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// They are in the open transaction, save those that have no form in this database.
    Rows {
        /// Rows that were left out; their numbers are those in the [`Rows`].
        unwritable: Vec<RefusedRow>,
    },
    /// None of them is: the database refuses at least one, for this reason.
    Refused(Refusal),
}

/// One connection. At most one transaction is open on it.
pub trait Session: Send {
    /// Creates the tables that are missing ([`POSITIONS_TABLE`] and [`REFUSED_TABLE`] too) and adds the columns
    /// of new optional fields. Safe when several processes do it at once.
    ///
    /// # Errors
    /// [`DatabaseError::Differs`] when an existing table differs in any other way, with the difference named.
    fn prepare<'a>(&'a mut self, table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>>;

    /// The stored position of a partition; stores offset 0 of `journal` when there is none.
    ///
    /// # Errors
    /// [`DatabaseError`] when it cannot be asked.
    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>>;

    /// Begins a transaction, locks the position row of the partition and gives what it says; `None` when it is
    /// not there any more.
    ///
    /// # Errors
    /// [`DatabaseError`]; the session is not used any more then.
    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>>;

    /// Writes a range of rows into the open transaction: all of them that have a form in this database, or none.
    ///
    /// # Errors
    /// [`DatabaseError`] when it is not a row's fault; the session is not used any more then.
    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>>;

    /// Numbers of the rows of a range whose id the table has already, in order; of a table whose ids are unique, in the
    /// open transaction. An id that cannot be looked for is not among them: what the database says to its row counts.
    /// What keeps no rows that could be asked for, as a queue, has none.
    ///
    /// # Errors
    /// [`DatabaseError`]; the session is not used any more then.
    fn present<'a>(
        &'a mut self,
        _table: &'a Arc<TargetTable>,
        _rows: &'a Arc<Rows>,
        _range: Range<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, DatabaseError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    /// Writes refused rows into [`REFUSED_TABLE`], in the open transaction.
    ///
    /// # Errors
    /// [`DatabaseError`]; the session is not used any more then.
    fn refuse<'a>(
        &'a mut self,
        table: &'a TargetTable,
        rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>>;

    /// Stores the position and commits.
    ///
    /// # Errors
    /// [`DatabaseError`]: whether it is committed is unknown, the stored position says so later.
    fn commit<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>>;
}
