//! PostgreSQL, from version 12 on, as a destination, through tokio-postgres.
//!
//! The same anatomy as every database: `session.rs` (one connection, the steps of a transaction), `connection.rs`
//! (limits of time), `table.rs` and `wire.rs` (tables from the declaration), `load.rs` and `encode.rs` (Arrow columns
//! → COPY), `present.rs` (unique ids that are there), `positions.rs` (positions and refused rows), `error.rs` (SQLSTATE → who must act).
//!
//! # Types
//! | stream | column | |
//! |---|---|---|
//! | `bool` | `BOOLEAN` | |
//! | `int` | `BIGINT` | |
//! | `float` | `DOUBLE PRECISION` | |
//! | `string`, `enum` | `TEXT` | an event with U+0000 in it is a refused row: no text of PostgreSQL can have it |
//! | `uuid` | `UUID` | |
//! | `timestamp` | `TIMESTAMPTZ` | 4713 BC to 294276 AD; others are refused rows |
//! | `json`, `_extra`, the whole event | `JSONB` | `\u0000` and numbers beyond `NUMERIC` are refused rows |
//!
//! `JSONB` keeps the value and not the text: the order of keys and the spelling of numbers are lost, which the lake
//! has. A table that somebody else made may have other types, see `wire.rs`.
//!
//! # One way in
//! `COPY … (FORMAT binary)`, in ranges that a savepoint protects. A range that the server refuses is halved by
//! [`crate::database::transaction`] until the bad rows stand alone.

mod connection;
mod encode;
mod error;
mod load;
mod options;
mod positions;
mod present;
mod session;
mod table;
mod wire;

use std::fmt;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::database::{Database, DatabaseError, MappingError, Session, TargetTable};
use options::Settings;
pub use options::{PostgresOptions, PostgresUrlError};
use session::PostgresSession;

/// A PostgreSQL server.
pub struct PostgresDatabase {
    settings: Settings,
}

impl PostgresDatabase {
    /// A server by its settings. Connects to nobody yet.
    ///
    /// # Errors
    /// [`PostgresUrlError`] (input), without any part of the URL.
    pub fn new(options: &PostgresOptions) -> Result<Self, PostgresUrlError> {
        let settings = Settings::parse(options)?;
        Ok(Self { settings })
    }
}

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.settings.config;
        // Host and database only.
        f.debug_struct("PostgresDatabase")
            .field("hosts", &config.get_hosts())
            .field("ports", &config.get_ports())
            .field("database", &config.get_dbname())
            .finish_non_exhaustive()
    }
}

impl Database for PostgresDatabase {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn check(&self, table: &TargetTable) -> Result<(), MappingError> {
        table::check(table)
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>> {
        async {
            let session = PostgresSession::connect(&self.settings).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
