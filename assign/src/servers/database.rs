//! PostgreSQL: a bounded number of connections, each made again when it is gone.
//!
//! Every question has a limit here and on the server; whoever does not answer in time loses the connection.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use postgres::{Parameters, Trust};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use super::{PATIENCE, UrlError};
use crate::AssignError;
use crate::retry::locked;

/// What every connection begins with: a transaction that nobody drives any more must not keep its locks.
const SESSION: &str = "SET statement_timeout = 8000; SET lock_timeout = 8000; \
    SET idle_in_transaction_session_timeout = 20000; SET client_min_messages = warning; SET TIME ZONE 'UTC'; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4";

/// How many assignments somebody has open, as the database counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) user: String,
    pub(super) open: i32,
    /// Rises with every change.
    pub(super) version: i64,
}

/// How to reach a server.
#[derive(Clone)]
pub(super) struct Settings {
    config: Config,
    trust: Trust,
}

/// Reads a URL.
pub(super) fn settings(url: &str) -> Result<Settings, UrlError> {
    let parameters = Parameters::split(url).map_err(|_| UrlError::Postgres)?;
    let mut config: Config = parameters
        .url
        .parse()
        .map_err(|_: tokio_postgres::Error| UrlError::Postgres)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError::Postgres);
    }
    let (mode, trust) = parameters.tls(None).map_err(|_| UrlError::Postgres)?;
    config
        .ssl_mode(mode)
        .connect_timeout(PATIENCE)
        .keepalives_idle(Duration::from_secs(10));
    if config.get_application_name().is_none() {
        config.application_name("tidemill assign");
    }
    Ok(Settings { config, trust })
}

/// A connection and the task that drives it.
struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The connections of one process.
pub(super) struct Database {
    settings: Settings,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// A connection that is lent.
pub(super) struct Lent<'a> {
    connection: Option<Connection>,
    database: &'a Database,
    _place: SemaphorePermit<'a>,
}

impl Database {
    /// At most so many connections, none of them made yet.
    pub(super) fn new(url: &str, connections: usize) -> Result<Self, UrlError> {
        Ok(Self {
            settings: settings(url)?,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(connections),
        })
    }

    /// Lends a connection. Whoever does not give it back with [`Lent::keep`] has it closed.
    pub(super) async fn lend(&self) -> Result<Lent<'_>, AssignError> {
        let place = self.places.acquire().await;
        let place = place.map_err(|_| unavailable("wait for a connection to postgres", "closed"))?;
        let idle = std::iter::from_fn(|| locked(&self.idle).pop()).find(|one| !one.client.is_closed());
        let connection = match idle {
            Some(connection) => connection,
            None => within("connect to postgres", self.connect()).await??,
        };
        Ok(Lent {
            connection: Some(connection),
            database: self,
            _place: place,
        })
    }

    async fn connect(&self) -> Result<Connection, AssignError> {
        const OPERATION: &str = "connect to postgres";
        let tls = postgres::connector(&self.settings.trust)
            .map_err(|error| unavailable(OPERATION, format!("read {error}")))?;
        let connected = self.settings.config.connect(tls).await;
        let (client, driver) = connected.map_err(|error| failed(OPERATION, &error))?;
        let driver = Handle::current().spawn(async move {
            // Whoever waits for an answer gets the error too.
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to postgres ended");
            }
        });
        let connection = Connection { client, driver };
        let set = connection.client.batch_execute(SESSION).await;
        set.map_err(|error| failed(OPERATION, &error))?;
        Ok(connection)
    }
}

impl Lent<'_> {
    /// The client.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self
            .connection
            .as_mut()
            .expect("it is taken only when it is given back")
            .client
    }

    /// Gives the connection back: everything that was begun on it has ended.
    pub(super) fn keep(mut self) {
        if let Some(connection) = self.connection.take() {
            locked(&self.database.idle).push(connection);
        }
    }
}

/// Waits for an answer no longer than [`PATIENCE`].
pub(super) async fn within<T>(
    operation: &'static str,
    answer: impl Future<Output = T>,
) -> Result<T, AssignError> {
    let answer = timeout(PATIENCE, answer).await;
    answer.map_err(|_| unavailable(operation, format!("no answer within {} s", PATIENCE.as_secs())))
}

pub(super) fn unavailable(operation: &'static str, message: impl Into<String>) -> AssignError {
    AssignError::Unavailable {
        operation,
        message: message.into(),
    }
}

/// An error and its causes; none of them repeats a password.
pub(super) fn failed(operation: &'static str, error: &tokio_postgres::Error) -> AssignError {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    unavailable(operation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_certificate_must_come() {
        let trust = |url: &str| settings(url).map(|settings| settings.trust);
        assert_eq!(trust("postgres://me@db/a"), Ok(Trust::Any));
        assert_eq!(trust("postgres://me@db/a?sslmode=require"), Ok(Trust::WebRoots));
        let file = Trust::File("/ca.pem".into());
        assert_eq!(
            trust("postgresql://me@db/a?sslrootcert=/ca.pem&options=-c%20x%3Dy"),
            Ok(file)
        );
        for wrong in [
            "mysql://me@db/a",
            "postgres:///a",
            "postgres://me@db/a?sslmode=maybe",
            "postgres://me@db/a?x=1",
        ] {
            assert_eq!(trust(wrong), Err(UrlError::Postgres), "{wrong}");
        }
    }
}
