//! MySQL and MariaDB as destinations, through mysql_async.
//!
//! The same files as every database: `session.rs` (one connection), `tables.rs` and `compare.rs` (tables from the
//! declaration), `text.rs` (Arrow columns → the text that the server reads), `load.rs` (the two ways in),
//! `present.rs` (unique ids that are there), `error.rs` (codes → who must act).
//!
//! # Types
//! | stream | column | |
//! |---|---|---|
//! | `bool` | `TINYINT(1)` | |
//! | `int` | `BIGINT` | |
//! | `float` | `DOUBLE` | the server does not tell −0 from 0 |
//! | `string` | `VARCHAR(n)` up to 255 bytes, else `TEXT`, `MEDIUMTEXT` … | compared byte by byte |
//! | `enum` | `VARCHAR(255)` | so that a new value needs no `ALTER TABLE` |
//! | `uuid` | `CHAR(36)` in ASCII | lower case |
//! | `timestamp` | `DATETIME(6)` in UTC | years 0 to 9999; others are refused rows |
//! | `json`, `_extra`, the whole event | `LONGTEXT` | |
//!
//! JSON is text and not the type `JSON`, because MySQL's rewrites what it stores (order of keys, digits of numbers),
//! and MariaDB's refuses values that are deeper than 32. JSON functions read text as well.
//!
//! # Two ways in
//! `LOAD DATA LOCAL INFILE` from a stream where the server allows it, multi-row `INSERT` otherwise. LOCAL makes
//! warnings of errors, so the rows and warnings that the server counts are compared with what was sent; on any
//! difference the same rows go again by `INSERT` in strict mode, whose verdict counts. So both ways always give the
//! same table.

mod compare;
pub mod error;
mod load;
mod present;
mod session;
mod tables;
mod text;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mysql_async::{Opts, OptsBuilder, UrlError};

use crate::database::{Database, DatabaseError, MappingError, Session, TargetTable};
use session::MysqlSession;

/// How often a quiet connection asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Whether rows go by `LOAD DATA LOCAL INFILE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadData {
    /// When the server allows it.
    #[default]
    Auto,
    /// Never: always by `INSERT`.
    Off,
}

/// How to reach a server.
#[derive(Clone, Default)]
pub struct MysqlOptions {
    /// `mysql://user:password@host:port/database?require_ssl=true&ssl_ca=/etc/ca.pem`. It may carry a password, so
    /// it is never shown.
    pub url: String,
    /// A file of PEM certificates that the server's is checked against; asks for TLS, as `ssl_ca` of the URL does.
    /// Default: none, so that with `require_ssl=true` the usual public authorities count.
    pub ca_file: Option<PathBuf>,
    /// Whether rows go by `LOAD DATA LOCAL INFILE`. Default: when the server allows it.
    pub load_data: LoadData,
}

impl fmt::Debug for MysqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlOptions")
            .field("url", &"(secret)")
            .field("ca_file", &self.ca_file)
            .field("load_data", &self.load_data)
            .finish()
    }
}

/// Why settings do not say how to reach a server. Holds no part of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MysqlUrlError {
    /// It is no URL, or not one of `mysql://`.
    #[error(
        "it is no URL of the form `mysql://user:password@host:port/database`; special characters of a password are written as %XX"
    )]
    Malformed,
    /// It has a parameter that is not known, or one with a wrong value.
    #[error(
        "it has a parameter that is not known or has a wrong value; known are `require_ssl`, `ssl_ca`, `verify_ca`, \
         `verify_identity`, `built_in_roots`, `socket`, `compression`, `tcp_keepalive`, `enable_cleartext_plugin`"
    )]
    Parameter,
    /// It names no database.
    #[error("it names no database: `mysql://user:password@host:port/database`")]
    NoDatabase,
}

/// A MySQL or MariaDB server.
pub struct MysqlDatabase {
    opts: Opts,
    ways: Arc<Ways>,
}

/// Which way rows go, found out once and shared by all connections.
#[derive(Debug)]
pub(crate) struct Ways {
    load_data: AtomicBool,
}

impl MysqlDatabase {
    /// A server by its settings. Connects to nobody yet.
    ///
    /// # Errors
    /// [`MysqlUrlError`] (input), without any part of the URL.
    pub fn new(options: &MysqlOptions) -> Result<Self, MysqlUrlError> {
        let (url, ssl_ca) = take_ssl_ca(&options.url)?;
        let opts = Opts::from_url(&url).map_err(|error| match error {
            UrlError::UnknownParameter { .. }
            | UrlError::InvalidParamValue { .. }
            | UrlError::FeatureRequired { .. }
            | UrlError::InvalidPoolConstraints { .. } => MysqlUrlError::Parameter,
            UrlError::Invalid | UrlError::Parse(_) | UrlError::UnsupportedScheme { .. } => {
                MysqlUrlError::Malformed
            }
        })?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(MysqlUrlError::NoDatabase);
        }
        let keepalive = opts.tcp_keepalive().unwrap_or(KEEPALIVE);
        let ssl = opts.ssl_opts().cloned();
        let mut builder = OptsBuilder::from_opts(opts)
            .tcp_keepalive(Some(keepalive))
            // A socket that the server names may be another server's on this machine.
            .prefer_socket(false)
            // Updates are counted by what they change.
            .client_found_rows(false)
            .stmt_cache_size(0);
        if let Some(file) = ssl_ca.as_ref().or(options.ca_file.as_ref()) {
            let ssl = ssl.unwrap_or_default().with_disable_built_in_roots(true);
            builder = builder.ssl_opts(ssl.with_root_certs(vec![file.clone().into()]));
        }
        Ok(Self {
            opts: builder.into(),
            ways: Arc::new(Ways {
                load_data: AtomicBool::new(options.load_data == LoadData::Auto),
            }),
        })
    }
}

/// The URL without `ssl_ca`, which is ours and not the driver's, and the file that it names.
fn take_ssl_ca(url: &str) -> Result<(String, Option<PathBuf>), MysqlUrlError> {
    let mut url = url::Url::parse(url).map_err(|_| MysqlUrlError::Malformed)?;
    let (mut file, mut others) = (None, Vec::new());
    for (name, value) in url.query_pairs() {
        if name == "ssl_ca" {
            file = Some(PathBuf::from(value.as_ref()));
        } else {
            others.push((name.into_owned(), value.into_owned()));
        }
    }
    if file.is_some() {
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
    }
    Ok((url.into(), file))
}

impl fmt::Debug for MysqlDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Host and database only: the options hold the password.
        f.debug_struct("MysqlDatabase")
            .field("host", &self.opts.ip_or_hostname())
            .field("port", &self.opts.tcp_port())
            .field("database", &self.opts.db_name())
            .finish_non_exhaustive()
    }
}

impl Database for MysqlDatabase {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn check(&self, table: &TargetTable) -> Result<(), MappingError> {
        tables::check(table)
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>> {
        async {
            let session = MysqlSession::connect(self.opts.clone(), Arc::clone(&self.ways)).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}

impl Ways {
    /// Whether rows go by `LOAD DATA`.
    pub(crate) fn load_data(&self) -> bool {
        self.load_data.load(Ordering::Relaxed)
    }

    /// Goes by `INSERT` from now on, and says so once.
    pub(crate) fn turn_to_insert(&self, reason: &str) {
        if self.load_data.swap(false, Ordering::Relaxed) {
            tracing::info!(
                reason,
                "rows go to MySQL by `INSERT` instead of `LOAD DATA LOCAL INFILE`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_url_is_ever_shown() {
        let url = |url: &str| MysqlOptions {
            url: url.to_owned(),
            ..MysqlOptions::default()
        };
        let good = url("mysql://user:hunter2@127.0.0.1:3306/db");
        let database = MysqlDatabase::new(&good).expect("a URL");
        assert!(!format!("{good:?} {database:?}").contains("hunter2"));
        for (bad, expected) in [
            ("mysql://user:hunter2@127.0.0.1:3306", MysqlUrlError::NoDatabase),
            ("mysql://user:hunter2@127.0.0.1:3306/", MysqlUrlError::NoDatabase),
            ("postgres://user:hunter2@127.0.0.1/db", MysqlUrlError::Malformed),
            ("mysql://user:hun/ter2@127.0.0.1/db", MysqlUrlError::Malformed),
            ("hunter2", MysqlUrlError::Malformed),
            ("mysql://user:1?hunter2@127.0.0.1/db", MysqlUrlError::Parameter),
            (
                "mysql://user@127.0.0.1/db?require_ssl=hunter2",
                MysqlUrlError::Parameter,
            ),
        ] {
            let error = MysqlDatabase::new(&url(bad)).expect_err(bad);
            assert_eq!(error, expected, "{bad}");
            assert!(!format!("{error} {error:?}").contains("ter2"), "{error}");
        }
    }
}
