//! The desk of several processes: PostgreSQL keeps assignments, Redis sessions and counts, RabbitMQ brings events and
//! takes answers.
//!
//! ```text
//!   queue ──► reserve (Redis, one script: there, below the limit, +1) ──► insert (PostgreSQL, one transaction:
//!             count under the row's lock, the event's id once, the answer) ──► count as it is (Redis) ──► ack
//! ```
//!
//! # Which is right
//! The database. What Redis counts is a reservation, so that an assigner need not ask everybody; the transaction counts
//! again under the lock of the person's row, so the limit holds whatever Redis has lost (A-3). Each change of a count in
//! the database has a version; Redis takes a count with its version only forwards, adds what is reserved, and a
//! reservation whose assigner died is given back after [`LEASE`]. A recount at the start, and now and then, brings both
//! together whatever was missed.
//!
//! # What dies
//! A message is acknowledged after the commit: an assigner that dies before leaves it in the queue, one that dies in
//! between gets it again and finds the event's id taken (A-1, A-2). Answers are rows of the same transaction and go when
//! the broker has confirmed them (A-4), at least once.

mod answers;
mod assigner;
mod broker;
mod database;
mod desk;
mod queue;
mod rounds;
mod schema;
mod seats;
mod transactions;

use std::fmt;
use std::time::Duration;

pub use desk::ServersDesk;

/// The SQL that makes the tables.
pub const SCHEMA: &str = include_str!("schema.sql");

/// What is reserved and not used is given back after this time: longer than a transaction may take.
const LEASE: Duration = Duration::from_secs(30);
/// Time between recounts.
const RECOUNT_EVERY: Duration = Duration::from_secs(10);
/// Longest time for one question to a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the servers are.
#[derive(Clone)]
pub struct ServersOptions {
    /// `redis://…`
    pub redis_url: String,
    /// Begins the names of our keys in Redis.
    pub redis_prefix: String,
    /// `postgres://…`
    pub postgres_url: String,
    /// `amqp://…`
    pub amqp_url: String,
    /// The queue that events come from.
    pub queue: String,
    /// The queue that answers go to.
    pub answers: String,
    /// How many events this process assigns at once.
    pub workers: u16,
}

impl fmt::Debug for ServersOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold passwords.
        f.debug_struct("ServersOptions")
            .field("queue", &self.queue)
            .field("answers", &self.answers)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Why a URL does not say how to reach a server. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Redis.
    #[error(
        "not a URL of Redis: expected `redis://user:password@host:port/database`; TLS (`rediss://`) is not built in"
    )]
    Redis,
    /// PostgreSQL.
    #[error(
        "not a URL of PostgreSQL: expected `postgres://user:password@host:port/database?sslmode=require`, with \
         everything but letters, digits and `-._~` percent-encoded"
    )]
    Postgres,
    /// RabbitMQ.
    #[error(
        "not a URL of RabbitMQ: expected `amqp://user:password@host:port/vhost`; TLS (`amqps://`) is not built in"
    )]
    Amqp,
}

impl ServersOptions {
    /// Whether the URLs say how to reach servers.
    ///
    /// # Errors
    /// Every one that does not.
    pub fn check(&self) -> Result<(), Vec<UrlError>> {
        let wrong: Vec<_> = [
            seats::client(&self.redis_url).err(),
            database::settings(&self.postgres_url).err(),
            broker::check(&self.amqp_url).err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
