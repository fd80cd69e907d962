//! Settings of a PostgreSQL destination's connections.
//!
//! The URL is what `psql` takes. No error repeats any of it: an unescaped `?` or `@` makes other parts of a URL of a
//! password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use postgres::{Parameters, Trust, UrlError};
use tokio_postgres::Config;

/// The name that the server's views show, unless the URL says another one.
const APPLICATION: &str = "tidemill";

/// Why a URL does not say how to reach a server. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// It cannot be read.
    #[error(
        "not a URL of PostgreSQL: expected `postgres://user:password@host:port/database?sslmode=require`, with \
         everything but letters, digits and `-._~` percent-encoded"
    )]
    Malformed,
    /// It names no host.
    #[error("the URL of PostgreSQL names no host")]
    NoHost,
    /// A kind of TLS that is not there.
    #[error("`sslmode` is none of `disable`, `prefer`, `require`, `verify-full`")]
    SslMode,
    /// A certificate that would not be looked at.
    #[error("`sslrootcert` needs `sslmode=require` or `sslmode=verify-full`")]
    UnusedRoot,
}

impl From<UrlError> for PostgresUrlError {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::Scheme => Self::Malformed,
            UrlError::SslMode => Self::SslMode,
            UrlError::UnusedRoot => Self::UnusedRoot,
        }
    }
}

/// How to reach a server, and how long its answers may take.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=require`. It may carry a password, so it is never shown.
    /// Parameters are those of libpq that the client knows: `application_name`, `options`, `target_session_attrs` …
    ///
    /// `sslmode`: `disable`; `prefer` (the default: TLS when the server offers it, any certificate); `require` and
    /// `verify-full` (TLS, and a certificate for the host's name that one of Mozilla's roots has signed, or one of
    /// [`Self::ca_file`], which `sslrootcert` names too). So `require` is stricter than in libpq.
    pub url: String,
    /// A file of PEM certificates that the server's is checked against; asks for TLS. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Longest time for one statement, or for one piece of a COPY; then the connection is given up and another one
    /// is made. Default: 60 s.
    pub statement_timeout: Duration,
    /// Longest time to wait for another transaction's lock. One that holds a partition's position for longer is
    /// ended: it is of a paused process, or of a machine that is gone. Default: 8 s.
    pub lock_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            ca_file: None,
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(8),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("url", &"(secret)")
            .field("ca_file", &self.ca_file)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .finish()
    }
}

/// Checked options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Its `Debug` leaves the password out.
    pub(super) config: Config,
    pub(super) trust: Trust,
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
}

impl Settings {
    /// Reads the URL.
    pub(super) fn parse(options: &PostgresOptions) -> Result<Self, PostgresUrlError> {
        let parameters = Parameters::split(&options.url)?;
        let mut config: Config = parameters
            .url
            .parse()
            .map_err(|_: tokio_postgres::Error| PostgresUrlError::Malformed)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PostgresUrlError::NoHost);
        }
        let (mode, trust) = parameters.tls(options.ca_file.clone())?;
        config.ssl_mode(mode);
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        // A peer that is gone without a word is noticed within half a minute.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(4)
            .tcp_user_timeout(Duration::from_secs(30));
        Ok(Self {
            config,
            trust,
            statement_timeout: options.statement_timeout,
            lock_timeout: options.lock_timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Settings, PostgresUrlError> {
        Settings::parse(&PostgresOptions {
            url: url.to_owned(),
            ..PostgresOptions::default()
        })
    }

    #[test]
    fn a_url_says_what_certificate_must_come() {
        let trust = |url: &str| parse(url).map(|settings| settings.trust);
        let url = "postgres://me@db/a";
        let file = Trust::File("/etc/ca.pem".into());
        assert_eq!(trust(url), Ok(Trust::Any));
        assert_eq!(trust(&format!("{url}?sslmode=require")), Ok(Trust::WebRoots));
        assert_eq!(trust(&format!("{url}?sslrootcert=/etc/ca.pem")), Ok(file.clone()));
        let all = "sslrootcert=%2Fetc%2Fca.pem&application_name=x&sslmode=verify-full";
        assert_eq!(trust(&format!("{url}?{all}")), Ok(file));
        for (wrong, error) in [
            ("sslmode=verify-ca", PostgresUrlError::SslMode),
            ("sslmode=", PostgresUrlError::SslMode),
            ("sslmode=prefer&sslrootcert=/ca.pem", PostgresUrlError::UnusedRoot),
            ("nonsense=1", PostgresUrlError::Malformed),
        ] {
            assert_eq!(trust(&format!("{url}?{wrong}")), Err(error), "{wrong}");
        }
        assert_eq!(trust("mysql://me@db/a"), Err(PostgresUrlError::Malformed));
        assert_eq!(trust("postgres:///a"), Err(PostgresUrlError::NoHost));
    }

    #[test]
    fn no_part_of_a_url_is_ever_shown() {
        for url in [
            "postgres://me:hunter2@db/a",
            "postgres://me:hunter2?hunter2@db/a",
            "postgres://me:hunter2@db/a?hunter2=hunter2",
            "postgres://me:hunter2@db:hunter2/a",
            "postgres://me:hunter2@db/a?sslmode=hunter2",
            "hunter2",
        ] {
            let told = match parse(url) {
                Ok(settings) => format!("{settings:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
