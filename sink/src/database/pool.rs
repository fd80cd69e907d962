//! The connections of one destination: bounded, shared by its streams, given up when nobody needs them.
//!
//! A stream takes one for a transaction and gives it back. What is not given back, because something failed or a
//! task ended, is closed, which also rolls back what was open on it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::error::DatabaseError;
use super::session::{Database, Session};

/// How long a connection that nobody uses stays open: sessions ask the server for longer, so that it is not the
/// server that closes it in the moment in which it is taken.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(5);

/// Connections to one database.
pub(super) struct Pool {
    database: Arc<dyn Database>,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<(Box<dyn Session>, Instant)>>,
    connect_timeout: Duration,
}

/// A connection that is taken. Dropping it closes it.
pub(super) struct Lease {
    pub(super) session: Box<dyn Session>,
    pool: Arc<Pool>,
    _turn: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(database: Arc<dyn Database>, connections: usize, connect_timeout: Duration) -> Self {
        Self {
            database,
            turns: Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            connect_timeout,
        }
    }

    /// Waits for a turn and gives a connection: one that is open, or a new one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Lease, DatabaseError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.expect("the pool never closes its semaphore");
        let idle = self.idle().pop();
        let session = match idle {
            Some((session, since)) if since.elapsed() < IDLE_MAX => session,
            _ => self.connect().await?,
        };
        Ok(Lease {
            session,
            pool: Arc::clone(self),
            _turn: turn,
        })
    }

    /// Closes what nobody used for a while.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|(_, since)| since.elapsed() < IDLE_MAX);
    }

    async fn connect(&self) -> Result<Box<dyn Session>, DatabaseError> {
        let connected = timeout(self.connect_timeout, self.database.connect()).await;
        connected.unwrap_or_else(|_| {
            Err(DatabaseError::Timeout {
                operation: "connect",
                waited_ms: self.connect_timeout.as_millis(),
            })
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Box<dyn Session>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Gives a connection back on which nothing is open.
    pub(super) fn give_back(self) {
        // The turn ends after this, so there are never more connections than turns.
        self.pool.idle().push((self.session, Instant::now()));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}
