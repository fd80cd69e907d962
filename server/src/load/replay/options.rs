//! What a replay is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use event::limits::BODY_BYTES_MAX;

use crate::load::endpoint::{Credentials, Endpoint};
use crate::load::generate::{EVENTS_MAX, GeneratorOptions, Starter, USERS_MAX};

/// Most connections: each has a task, a socket and a body in flight.
pub(super) const CONNECTIONS_MAX: usize = 4_096;

/// Most bytes of bodies that all connections together may hold; above it the machine that measures is what
/// is measured.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 30;

/// Bytes of a batch when nothing else is said and there is no pace.
const BATCH_BYTES: usize = 1 << 20;

/// Events of a paced replay that are due within this time travel together when no batch size is said: a request
/// for each event would measure the sender's own scheduling at high rates.
pub(super) const BATCH_WINDOW: Duration = Duration::from_millis(10);

/// Everything that decides a replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where events come from.
    pub source: Source,
    /// Where they go.
    pub target: Target,
    /// How many connections send at once, 1 to 4,096.
    pub connections: usize,
    /// How much one request carries; chosen by the pace when absent.
    pub batch: Option<BatchSize>,
    /// When requests begin.
    pub pace: Pace,
    /// Sends nothing more after this time; to the end of the source when absent.
    pub duration: Option<Duration>,
    /// A file that is told, durably, before each request and after each answer.
    pub ledger: Option<PathBuf>,
    /// For how long one batch is tried again after 429 and 503, and a server that is gone is waited for.
    pub patience: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
}

/// Where events come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// NDJSON files, one after the other; `.gz` and `.zst` are inflated, `-` is the standard input.
    Files(Vec<PathBuf>),
    /// Made on the way.
    Generated {
        /// Of which stream.
        starter: Starter,
        /// How many.
        count: u64,
        /// Users and seed.
        options: GeneratorOptions,
    },
}

/// How much one request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// So many events, unless they are more bytes than a body may have.
    Events(u64),
    /// As many events as fit into so many bytes, and at least one.
    Bytes(usize),
}

/// When requests begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the connection is free: a closed loop.
    FullSpeed,
    /// So many events a second: an open loop.
    Rate(f64),
    /// With the gaps between the events' own times, `speed` times as fast: an open loop.
    Recorded {
        /// The field with the time, dots between the keys of nested objects. Generated events know theirs.
        field: String,
        /// 1 is as it was.
        speed: f64,
    },
}

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(pub String);

impl Options {
    /// A replay of `source` at full speed over four connections.
    #[must_use]
    pub fn new(source: Source, target: Target) -> Self {
        Self {
            source,
            target,
            connections: 4,
            batch: None,
            pace: Pace::FullSpeed,
            duration: None,
            ledger: None,
            patience: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
        }
    }

    /// Most bytes of one request's body.
    pub(super) fn batch_bytes_max(&self) -> usize {
        match (self.batch, &self.pace) {
            (Some(BatchSize::Bytes(bytes)), _) => bytes,
            (Some(BatchSize::Events(_)), _) => BODY_BYTES_MAX,
            (None, _) => BATCH_BYTES,
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`OptionsError`], the first one found.
    pub fn check(&self) -> Result<(), OptionsError> {
        let refuse = |message: String| Err(OptionsError(message));
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            let connections = self.connections;
            return refuse(format!(
                "`{connections}` connections: write 1 to {CONNECTIONS_MAX}"
            ));
        }
        match self.batch {
            Some(BatchSize::Events(0)) => return refuse("a batch has at least one event".to_owned()),
            Some(BatchSize::Bytes(bytes)) if !(1..=BODY_BYTES_MAX).contains(&bytes) => {
                return refuse(format!(
                    "a batch of `{bytes}` bytes: a body has 1 to {BODY_BYTES_MAX}"
                ));
            }
            // Single events in many connections are a usual measurement; their bodies are never near the limit.
            Some(BatchSize::Bytes(_)) | None
                if self.batch_bytes_max() > IN_FLIGHT_BYTES_MAX / self.connections =>
            {
                return refuse(format!(
                    "`{}` connections with batches of `{}` bytes hold more than {IN_FLIGHT_BYTES_MAX} bytes",
                    self.connections,
                    self.batch_bytes_max()
                ));
            }
            _ => {}
        }
        let factor = match self.pace {
            Pace::FullSpeed => 1.0,
            Pace::Rate(rate) => rate,
            Pace::Recorded { speed, .. } => speed,
        };
        if !factor.is_finite() || !(1e-6..=1e12).contains(&factor) {
            return refuse(format!(
                "a rate or speed of `{factor}` is not between 0.000001 and 1e12"
            ));
        }
        match &self.source {
            Source::Files(files) if files.is_empty() => refuse("there is no file to send".to_owned()),
            Source::Generated { count, .. } if *count > EVENTS_MAX => {
                refuse(format!("`{count}` events: at most {EVENTS_MAX} can be made"))
            }
            Source::Generated { options, .. } if !(1..=USERS_MAX).contains(&options.users) => {
                refuse(format!("`{}` users: write 1 to {USERS_MAX}", options.users))
            }
            Source::Files(_) | Source::Generated { .. } => Ok(()),
        }
    }
}

/// The server and the path that batches are posted to.
#[derive(Clone, Debug)]
pub struct Target {
    endpoint: Endpoint,
    path: String,
}

impl Target {
    /// A URL and, unless its path already says where events go, the stream; of a server that lets everybody in.
    ///
    /// # Errors
    /// As [`Target::with`].
    pub fn parse(url: &str, stream: Option<&str>) -> Result<Self, OptionsError> {
        Self::with(url, stream, &Credentials::default())
    }

    /// The same of a server that may want a token or speak TLS.
    ///
    /// # Errors
    /// [`OptionsError`] unless it is an `http://` or `https://` address, or when neither path nor stream is there.
    pub fn with(url: &str, stream: Option<&str>, credentials: &Credentials) -> Result<Self, OptionsError> {
        let refuse = |message: String| Err(OptionsError(message));
        let endpoint = Endpoint::parse(url, credentials).map_err(OptionsError)?;
        let uri: http::Uri = match url.parse() {
            Ok(uri) => uri,
            Err(error) => return refuse(format!("`{url}`: {error}")),
        };
        let prefix = uri.path().trim_end_matches('/');
        let path = match stream {
            Some(stream) => {
                event::StreamName::parse(stream).map_err(|error| OptionsError(error.to_string()))?;
                format!("{prefix}/v1/streams/{stream}/events")
            }
            None if prefix.is_empty() => {
                return refuse(format!("`{url}` has no path: say which stream the events are of"));
            }
            None => uri
                .path_and_query()
                .map_or_else(|| prefix.to_owned(), ToString::to_string),
        };
        Ok(Self { endpoint, path })
    }

    /// Host and port as the URL has them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.endpoint.authority()
    }

    /// The path that batches are posted to.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The server.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}
