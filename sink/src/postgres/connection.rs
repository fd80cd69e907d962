//! One connection, on which nothing waits for ever.
//!
//! Every statement has a limit on both sides. The server's own ends a statement that runs too long; ours gives the
//! connection up when no answer comes at all: a server that is paused, or a network that swallows everything. After
//! that the connection is of no use, and dropping it closes the socket without waiting for anybody.
//!
//! A transaction that nobody drives any more would hold its locks: the server ends one that idles, notices a client
//! that is gone by keepalives, and [`super::session`] ends one that holds the position of a partition.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::{Verdict, failure, verdict};
use super::options::Settings;
use crate::database::DatabaseError;

/// Settings that servers from version 14 have, and only on some systems: a client that is gone is noticed while
/// a statement runs.
const OPTIONAL_SETTINGS: &str = "SET client_connection_check_interval = '2s'";

/// How long a connection that is dropped may take to say goodbye, before its socket is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection and the task that drives it.
pub(super) struct Connection {
    client: Client,
    limit: Duration,
    /// Tells the driver, by being dropped after the client, that nobody waits for it.
    _dropped: oneshot::Sender<()>,
    /// Ends soon after this struct.
    _driver: JoinHandle<()>,
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Connection {
    /// Connects, authenticates and sets what the rest relies on.
    pub(super) async fn open(settings: &Settings) -> Result<Self, DatabaseError> {
        const OPERATION: &str = "connect";
        let tls = postgres::connector(&settings.trust).map_err(|message| DatabaseError::Denied {
            operation: "read the certificates that the server's must be signed by",
            message,
        })?;
        // Whoever takes connections has a shorter limit; this one is for whoever has none.
        let connected = timeout(settings.statement_timeout, settings.config.connect(tls))
            .await
            .map_err(|_| late(OPERATION, settings.statement_timeout))?;
        let (client, driver) = connected.map_err(|error| failure(OPERATION, &error))?;
        let (dropped, drops) = oneshot::channel::<()>();
        let driver = Handle::current().spawn(async move {
            let mut driver = std::pin::pin!(driver);
            tokio::select! {
                // Whoever waits for an answer gets the error too.
                ended = &mut driver => tracing::debug!(?ended, "a connection to postgres ended"),
                _ = drops => {
                    // The client is gone, so all that is left to do is to send what says so.
                    let _ = timeout(GOODBYE, driver).await;
                }
            }
        });
        let connection = Self {
            client,
            // The server goes first, so that its verdict is seen.
            limit: settings.statement_timeout.saturating_add(Duration::from_secs(2)),
            _dropped: dropped,
            _driver: driver,
        };
        connection.configure(settings).await?;
        Ok(connection)
    }

    async fn configure(&self, settings: &Settings) -> Result<(), DatabaseError> {
        // Zero would mean no limit at all.
        let ms = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
        let statement = ms(settings.statement_timeout);
        let sql = format!(
            "SET statement_timeout = {statement}; \
             SET idle_in_transaction_session_timeout = {statement}; \
             SET lock_timeout = {lock}; \
             SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4; \
             SET client_min_messages = warning; SET TIME ZONE 'UTC'",
            lock = ms(settings.lock_timeout),
        );
        self.run("set up the session", &sql).await?;
        let optional = self.client.batch_execute(OPTIONAL_SETTINGS);
        match self.answer("set up the session", optional).await? {
            Err(error) if error.as_db_error().is_none() => Err(failure("set up the session", &error)),
            _ => Ok(()),
        }
    }

    /// Runs statements without parameters or results.
    pub(super) async fn run(&self, operation: &'static str, sql: &str) -> Result<(), DatabaseError> {
        self.within(operation, self.client.batch_execute(sql)).await
    }

    /// Runs a statement that gives rows.
    pub(super) async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.within(operation, self.client.query_typed(sql, parameters))
            .await
    }

    /// Runs a statement that changes rows, and gives their number.
    pub(super) async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<u64, DatabaseError> {
        self.within(operation, self.client.execute_typed(sql, parameters))
            .await
    }

    /// The client, for what has steps of its own; each of them goes through [`Self::judged`].
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for an answer, within the limit.
    pub(super) async fn within<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let answer = self.answer(operation, answer).await?;
        answer.map_err(|error| failure(operation, &error))
    }

    /// Waits for an answer, within the limit, and gives what the server says as it says it.
    pub(super) async fn answer<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = T>,
    ) -> Result<T, DatabaseError> {
        timeout(self.limit, answer)
            .await
            .map_err(|_| late(operation, self.limit))
    }

    /// Waits for the answer to a step that writes rows, within the limit.
    pub(super) async fn judged<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Verdict> {
        let answer = self.answer(operation, answer).await.map_err(Verdict::Failed)?;
        answer.map_err(|error| verdict(operation, &error))
    }
}

fn late(operation: &'static str, waited: Duration) -> DatabaseError {
    DatabaseError::Timeout {
        operation,
        waited_ms: waited.as_millis(),
    }
}
