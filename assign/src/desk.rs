//! What both desks do for those who ask over HTTP, and the running service.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use crate::{AssignError, Settled, Settlement};

/// A person's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whether there was none before.
    pub begun: bool,
    /// When it ends unless it is begun again, microseconds since 1970 UTC.
    pub until: i64,
}

/// Whether a desk can do its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Each thing that it needs, and why it cannot be used when it cannot.
    pub parts: Vec<(&'static str, Result<(), String>)>,
}

impl Health {
    /// Whether everything can be used.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.parts.iter().all(|(_, state)| state.is_ok())
    }
}

/// Where people come, go, and say what became of their events.
pub trait Desk: Send + Sync + 'static {
    /// Begins or renews a person's session.
    ///
    /// # Errors
    /// [`AssignError`] when there is no room or what keeps sessions is away.
    fn begin<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Session, AssignError>>;

    /// Ends a person's session; what is open goes to others as they have room. Says whether there was one.
    ///
    /// # Errors
    /// [`AssignError`] when what keeps sessions is away.
    fn end<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<bool, AssignError>>;

    /// Ends an assignment, which frees its person for another event. Durable when it returns.
    ///
    /// # Errors
    /// [`AssignError::Unknown`], [`AssignError::Ended`], or what keeps assignments is away.
    fn settle<'a>(
        &'a self,
        assignment: &'a str,
        how: Settlement,
    ) -> BoxFuture<'a, Result<Settled, AssignError>>;

    /// Whether it can do its work, found out now.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// Takes nothing new, finishes what is under way, and ends.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Assign {
    desk: Arc<dyn Desk>,
}

impl Assign {
    /// The service of that desk.
    #[must_use]
    pub fn new(desk: Arc<dyn Desk>) -> Self {
        Self { desk }
    }

    /// Its desk.
    #[must_use]
    pub fn desk(&self) -> &Arc<dyn Desk> {
        &self.desk
    }

    /// Its routes.
    pub fn router(&self) -> axum::Router {
        crate::http::router(Arc::clone(&self.desk))
    }

    /// Takes nothing new, finishes what is under way, and ends.
    pub async fn shutdown(&self) {
        self.desk.shutdown().await;
    }
}

impl std::fmt::Debug for Assign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Assign")
    }
}

/// Microseconds since 1970 UTC.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
