//! Who may do what: tokens from a file, what each may do with which streams, and the decision about one request.
//!
//! ```text
//! request ─► bearer (one header) ─► digest ─► Tokens::find (all entries, constant time) ─► Need ⊆ Grants?
//!                 401 no token            401 not known, expired                               403
//! ```
//!
//! Without a file of tokens there is no [`Access`], everybody may do everything and nothing is looked at; the
//! configuration then refuses listeners that other machines reach. With a file nothing is open but `/livez` and
//! `/readyz`, however broken the file becomes later ([`Reloading`] keeps what was read last).
//!
//! # What a token does not learn
//! A token for named streams gets one and the same 403 for a stream that it may not use and for one that does not
//! exist, and the same for a path that is another stream's own and for one that leads nowhere. In SQL such streams
//! are unknown tables, in lists they are missing ([`analytics::Readable`]).
//!
//! # Logs
//! A decision names the token, never its text. One refusal a second is logged, all are counted.

mod bearer;
mod caller;
mod digest;
pub(crate) mod file;
mod grants;
mod refusal;
mod reloading;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use event::StreamName;
use http::HeaderMap;

use bearer::Presented;
pub(crate) use caller::Caller;
pub(crate) use digest::{Digest, new_token};
pub(crate) use grants::{Grants, Scope, Streams};
pub(crate) use refusal::Refusal;
pub(crate) use reloading::{Reload, Reloading, keep_fresh};
pub(crate) use tokens::{Token, TokenName, Tokens};

/// Largest file of tokens, in bytes: the most tokens with the longest lists of streams would be a little larger,
/// and nobody has them.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Files of tokens and certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what} in {files}: {message}")]
pub struct AccessError {
    /// What they are for.
    pub(crate) what: &'static str,
    /// Where they lie.
    pub(crate) files: String,
    /// What is wrong with them.
    pub(crate) message: String,
}

/// What a request asks for, so what its token must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need<'a> {
    /// Nothing: whoever watches over the process must get an answer.
    Nothing,
    /// Any token.
    Token,
    /// To look into the process.
    Operations,
    /// To read at least one stream; the answer is about those that may be read.
    SomeStream,
    /// This, with this stream, which need not exist.
    Stream(Scope, &'a str),
    /// To write to this stream, by a path that only those may know who may use it.
    OwnRoute(&'a str),
    /// To read each of these streams, by a path that only those may know who may use it.
    OwnView(&'a [StreamName]),
    /// A path that leads nowhere, or that whoever asks must not know of.
    Unknown,
}

/// Decides about requests by their token.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Arc<Reloading<Tokens>>,
    /// The second, since 1970, of the last refusal that was logged.
    logged: AtomicU64,
}

impl Access {
    /// Reads the tokens from a file.
    ///
    /// # Errors
    /// [`AccessError`] when the file cannot be read or any entry is wrong.
    pub(crate) fn open(file: PathBuf) -> Result<Self, AccessError> {
        let parse = |contents: &[Vec<u8>]| {
            let text = contents.first().map(Vec::as_slice).unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| "the file is not UTF-8".to_owned())?;
            file::parse(text)
        };
        let secret = file.clone();
        let tokens = Reloading::open("tokens", vec![file], FILE_BYTES_MAX, Some(secret), parse)?;
        let count = tokens.current().len();
        tracing::info!(tokens = count, "requests need a token");
        if count == 0 {
            tracing::warn!("the file of tokens has none: nobody may do anything");
        }
        Ok(Self {
            tokens: Arc::new(tokens),
            logged: AtomicU64::new(0),
        })
    }

    /// What looks whether the file has changed.
    pub(crate) fn reload(&self) -> Arc<dyn Reload> {
        let tokens: Arc<Reloading<Tokens>> = Arc::clone(&self.tokens);
        tokens
    }

    /// Lets a request pass, and says on whose behalf it is made.
    ///
    /// # Errors
    /// [`Refusal`], already counted and logged.
    pub(crate) fn admit(&self, headers: &HeaderMap, need: &Need<'_>) -> Result<Caller, Refusal> {
        let decided = self.decide(headers, need);
        if let Err(refusal) = &decided {
            self.note(refusal);
        }
        decided
    }

    fn decide(&self, headers: &HeaderMap, need: &Need<'_>) -> Result<Caller, Refusal> {
        let found = self.find(headers);
        if *need == Need::Nothing {
            return Ok(found.map_or(Caller::Nobody, Caller::Token));
        }
        let token = found?;
        if token.grants.cover(need) {
            return Ok(Caller::Token(token));
        }
        Err(Refusal::Scope {
            name: token.name.clone(),
            scope: match need {
                Need::Stream(scope, _) => Some(*scope),
                Need::SomeStream => Some(Scope::Read),
                Need::Operations => Some(Scope::Admin),
                Need::Nothing | Need::Token | Need::OwnRoute(_) | Need::OwnView(_) | Need::Unknown => None,
            },
        })
    }

    fn find(&self, headers: &HeaderMap) -> Result<Arc<Token>, Refusal> {
        let text = match bearer::presented(headers) {
            Presented::Nothing => return Err(Refusal::NoToken),
            Presented::Twice => return Err(Refusal::Twice),
            Presented::Bearer(text) => text,
        };
        let digest = Digest::of_token(text).ok_or(Refusal::Invalid)?;
        let token = self.tokens.current().find(&digest).ok_or(Refusal::Invalid)?;
        if token.expired(SystemTime::now()) {
            return Err(Refusal::Expired {
                name: token.name.clone(),
            });
        }
        Ok(token)
    }

    fn note(&self, refusal: &Refusal) {
        metrics::counter!("tidemill_access_refused_total", "reason" => refusal.reason()).increment(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let token = refusal.name();
        if self.logged.swap(now, Ordering::Relaxed) == now {
            tracing::debug!(reason = refusal.reason(), token, "request refused");
        } else {
            tracing::info!(reason = refusal.reason(), token, "request refused");
        }
    }
}

#[cfg(test)]
mod tests;
