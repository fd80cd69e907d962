//! TLS to PostgreSQL, for everybody who connects to it (`sink`, `sources`, `assign`): what a URL says about it, in the
//! words of libpq, and what makes it.
//!
//! | `sslmode` | |
//! |---|---|
//! | `disable` | plain |
//! | `prefer`, the default | TLS when the server offers it, any certificate: against who listens, not against who stands in between |
//! | `require`, `verify-full` | TLS, and a certificate for the host's name that one of Mozilla's roots has signed, or one of the PEM file `sslrootcert`. So `require` is stricter than in libpq |
//!
//! What else a connection is, and what an error means, is each crate's own. No error repeats any part of a URL.

mod tls;

use std::path::PathBuf;

use tokio_postgres::config::SslMode;

pub use tls::connector;

/// What the server's certificate must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anything: TLS is used when it is offered, against who listens and not against who stands in between.
    Any,
    /// Signed by one of Mozilla's roots, for the host's name.
    WebRoots,
    /// Signed by a certificate of this PEM file, for the host's name.
    File(PathBuf),
}

/// Why a URL does not say what TLS there is to be. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is one of something else.
    #[error("must begin with `postgres://`")]
    Scheme,
    /// A kind of TLS that is not there.
    #[error("`sslmode` is none of `disable`, `prefer`, `require`, `verify-full`")]
    SslMode,
    /// A certificate that would not be looked at.
    #[error("`sslrootcert` needs `sslmode=require` or `sslmode=verify-full`")]
    UnusedRoot,
}

/// A URL without the parameters that the client does not know.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameters {
    /// What the client reads. It may carry a password.
    pub url: String,
    /// What `sslmode` says.
    pub ssl_mode: Option<SslMode>,
    /// What `sslrootcert` says.
    pub root: Option<PathBuf>,
}

impl Parameters {
    /// Takes what libpq says and the client does not know out of a URL.
    ///
    /// # Errors
    /// [`UrlError::Scheme`] and [`UrlError::SslMode`].
    pub fn split(url: &str) -> Result<Self, UrlError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(UrlError::Scheme);
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        let mut ssl_mode = None;
        let mut root = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => {
                    ssl_mode = Some(match mode {
                        "disable" => SslMode::Disable,
                        "prefer" => SslMode::Prefer,
                        "require" | "verify-full" => SslMode::Require,
                        _ => return Err(UrlError::SslMode),
                    });
                }
                Some(("sslrootcert", path)) => {
                    // One pair, so that the decoder of forms can be asked.
                    let decoded = url::form_urlencoded::parse(path.as_bytes()).next();
                    root = decoded.map(|(path, _)| PathBuf::from(path.as_ref()));
                }
                _ => kept.push(pair),
            }
        }
        let url = if kept.is_empty() {
            place.to_owned()
        } else {
            format!("{place}?{}", kept.join("&"))
        };
        Ok(Self { url, ssl_mode, root })
    }

    /// What they mean together. `ca_file` goes before `sslrootcert`.
    ///
    /// # Errors
    /// [`UrlError::UnusedRoot`].
    pub fn tls(&self, ca_file: Option<PathBuf>) -> Result<(SslMode, Trust), UrlError> {
        let file = ca_file.or_else(|| self.root.clone());
        let mode = match (self.ssl_mode, &file) {
            (None, Some(_)) => SslMode::Require,
            (mode, _) => mode.unwrap_or(SslMode::Prefer),
        };
        let trust = match (mode, file) {
            (SslMode::Require, Some(path)) => Trust::File(path),
            (SslMode::Require, None) => Trust::WebRoots,
            (_, Some(_)) => return Err(UrlError::UnusedRoot),
            (_, None) => Trust::Any,
        };
        Ok((mode, trust))
    }
}
