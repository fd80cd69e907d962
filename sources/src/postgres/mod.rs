//! An outbox table of PostgreSQL: others write rows, and each becomes an event once its transaction has committed.
//!
//! `options.rs` says what table; `plan.rs` looks at the table and writes the statements; `relay.rs` brings rows into the
//! journal; `responses.rs` brings answers from a queue into the table; `connection.rs` speaks to the server.
//!
//! # Why a state column and row locks
//! The numbers of a sequence are given out before their transactions commit, so `id > last` passes over rows whose
//! transaction takes longer: they are lost. Here a row waits until its state says otherwise: one that commits late is
//! just found later. `FOR UPDATE SKIP LOCKED` deals the rows out to any number of processes, the lock goes with the
//! connection of a process that dies, and the table itself says what was sent, to people too. A horizon of snapshots
//! (`pg_snapshot_xmin` and a column with the transaction's id) would do without writing to the table, but waits for the
//! longest transaction of the whole server, needs a column that such tables do not have, one reader, and a place for
//! its position.
//!
//! ```text
//! BEGIN ─► SELECT … WHERE state = pending … FOR UPDATE SKIP LOCKED ─► decode ─► UPDATE state ─► append, durable ─► COMMIT
//! ```
//!
//! The rows are marked before the append and committed after it: what the table does not let happen is known before
//! anything is in the journal, and a crash before the commit leaves the rows as they were.

mod connection;
mod options;
mod plan;
mod relay;
mod responses;

pub(crate) use connection::{Connection, Server};
pub use options::{OutboxOptions, ResponsesOptions, StateColumn};
pub(crate) use plan::{quoted, quoted_table};
pub(crate) use relay::Relay;
