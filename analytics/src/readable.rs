//! Which streams a request may read: decided by the server, who knows tokens, and obeyed by every question.
//!
//! The server puts a [`Readable`] into the extensions of a request; nothing that comes over a network can set one.
//! A stream that may not be read is not there: its name is unknown to paths, lists, SQL and `information_schema`
//! alike, so nobody learns that it exists. A request without the extension may read everything: it comes from a
//! command that reads a data directory, or a server without tokens. A value that somebody forgot to set reads nothing.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use event::{Catalog, StreamDeclaration};
use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::QueryError;

/// The streams that a request may read; none by default. It can travel to another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readable(Streams);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Streams {
    Only(BTreeSet<String>),
    All,
}

impl Default for Streams {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Readable {
    /// Every stream that there is.
    #[must_use]
    pub fn all() -> Self {
        Self(Streams::All)
    }

    /// Only these streams, whether they exist or not.
    pub fn only<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(Streams::Only(names.into_iter().map(Into::into).collect()))
    }

    /// Whether a stream may be read. `_rejects` holds lines of every stream, so only by who may read them all.
    #[must_use]
    pub fn allows(&self, stream: &str) -> bool {
        match &self.0 {
            Streams::All => true,
            Streams::Only(names) => names.contains(stream) && !stream.starts_with('_'),
        }
    }

    /// The streams of `all` that may be read, in the order of their names.
    pub(crate) fn of<'a>(&self, all: &'a Catalog) -> impl Iterator<Item = &'a Arc<StreamDeclaration>> {
        all.iter().filter(|stream| self.allows(stream.name.as_str()))
    }

    /// The same error that a stream gets which does not exist.
    pub(crate) fn check(&self, stream: &str) -> Result<(), QueryError> {
        if self.allows(stream) {
            return Ok(());
        }
        Err(QueryError::no_stream(stream))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Readable {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_lines_are_read_only_by_who_may_read_all_streams() {
        assert!(Readable::all().allows("_rejects") && !Readable::default().allows("running"));
        let some = Readable::only(["running", "_rejects"]);
        assert!(some.allows("running") && !some.allows("music") && !some.allows("_rejects"));
        let catalog = Catalog::new([]);
        assert_eq!(some.of(&catalog).count(), 0);
        assert_eq!(Readable::all().of(&catalog).count(), 1);
    }
}
