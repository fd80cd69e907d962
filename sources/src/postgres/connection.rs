//! One connection, on which nothing waits for ever: every statement has a limit on both sides, and a transaction that
//! nobody drives any more is ended by the server, which gives its rows back.

use std::future::Future;
use std::time::Duration;

use postgres::{Parameters, Trust};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use crate::SourceError;

/// Longest time to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Longest time of one statement; the server's own limit comes a little before ours, so that its verdict is seen.
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);

/// What a session relies on. A transaction idles while the journal appends, which has limits of its own; the server's
/// is above them, for a process that is paused.
const SETTINGS: &str = "SET statement_timeout = '58s'; SET idle_in_transaction_session_timeout = '120s'; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4; \
     SET client_min_messages = warning; SET TIME ZONE 'UTC'; SET DateStyle = ISO";

/// How to reach a server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Its `Debug` leaves the password out.
    config: Config,
    trust: Trust,
}

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without any part of it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "is not a URL of PostgreSQL: expected `postgres://user:password@host:port/database`, with \
             everything but letters, digits and `-._~` percent-encoded";
        let parameters = Parameters::split(url).map_err(|error| error.to_string())?;
        let (mode, trust) = parameters.tls(None).map_err(|error| error.to_string())?;
        let mut config: Config = parameters
            .url
            .parse()
            .map_err(|_: tokio_postgres::Error| FORM.to_owned())?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host".to_owned());
        }
        config.ssl_mode(mode).connect_timeout(CONNECT_WITHIN);
        if config.get_application_name().is_none() {
            config.application_name("tidemill");
        }
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(4)
            .tcp_user_timeout(Duration::from_secs(30));
        Ok(Self { config, trust })
    }
}

/// A connection, and the task that drives it. Dropping it closes the socket.
pub(crate) struct Connection {
    client: Client,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects and sets what the rest relies on.
    pub(crate) async fn open(server: &Server) -> Result<Self, SourceError> {
        const OPERATION: &str = "connect to PostgreSQL";
        let tls = postgres::connector(&server.trust).map_err(|message| SourceError::Away {
            operation: "read the certificates that the server's must be signed by",
            message,
        })?;
        let connected = timeout(CONNECT_WITHIN, server.config.connect(tls)).await;
        let connected = connected.map_err(|_| SourceError::late(OPERATION, CONNECT_WITHIN))?;
        let (client, driver) = connected.map_err(|error| failure(OPERATION, &error))?;
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            // Whoever waits for an answer gets the error too.
            let ended = driver.await;
            tracing::debug!(?ended, "a connection to postgres ended");
        });
        let connection = Self {
            client,
            _driver: driving,
        };
        connection.run("set up the session", SETTINGS).await?;
        Ok(connection)
    }

    /// Runs statements without parameters or results.
    pub(crate) async fn run(&self, operation: &'static str, sql: &str) -> Result<(), SourceError> {
        within(operation, self.client.batch_execute(sql)).await
    }

    /// Runs a statement that gives rows.
    pub(crate) async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        within(operation, self.client.query(sql, parameters)).await
    }

    /// Runs a statement that changes rows, and gives their number.
    pub(crate) async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SourceError> {
        within(operation, self.client.execute(sql, parameters)).await
    }
}

async fn within<T>(
    operation: &'static str,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SourceError> {
    let answer = timeout(STATEMENT_WITHIN, answer).await;
    let answer = answer.map_err(|_| SourceError::late(operation, STATEMENT_WITHIN))?;
    answer.map_err(|error| failure(operation, &error))
}

/// What an error means: the class of its SQLSTATE says whether a row is to blame (22 data, 23 a constraint, 44 a view's
/// check, P0 raised by a trigger).
fn failure(operation: &'static str, error: &tokio_postgres::Error) -> SourceError {
    let Some(said) = error.as_db_error() else {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        return SourceError::Away { operation, message };
    };
    let message = format!("{} (SQLSTATE {})", said.message(), said.code().code());
    if blames_a_row(said.code()) {
        SourceError::Row { operation, message }
    } else {
        SourceError::Away { operation, message }
    }
}

fn blames_a_row(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("22" | "23" | "44" | "P0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_to_reach_the_server_and_no_part_of_it_is_shown() {
        let server = Server::parse("postgres://me:hunter2@db:7/shop?sslmode=disable").expect("a URL");
        assert!(!format!("{server:?}").contains("hunter2"));
        for wrong in [
            "hunter2",
            "mysql://me:hunter2@db/a",
            "postgres://me:hunter2@db:hunter2/a",
            "postgres://me:hunter2@db/a?sslmode=hunter2",
            "postgres://me:hunter2@db/a?hunter2=1",
            "postgres:///hunter2",
            "postgres://db/a?sslmode=disable&sslrootcert=/hunter2",
        ] {
            let error = Server::parse(wrong).expect_err(wrong);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
