//! Which streams a request may read: decided by the server, who knows tokens, and obeyed by every question.
//!
//! The server puts a [`Readable`] into the extensions of a request; nothing that comes over a network can set one.
//! A stream that may not be read is not there: its name is unknown to paths, lists, SQL and `information_schema`
//! alike, so nobody learns that it exists. Without the extension everything may be read, as by the commands that
//! read a data directory, and by a server without tokens.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use event::{Catalog, StreamDeclaration};
use http::request::Parts;

use crate::QueryError;

/// The streams that a request may read; all of them by default. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readable(Option<Arc<BTreeSet<String>>>);

impl Readable {
    /// Only these streams, whether they exist or not.
    pub fn only<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(Some(Arc::new(names.into_iter().map(Into::into).collect())))
    }

    /// The names, for another process; `None` when everything may be read.
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.as_ref().map(|names| names.iter().map(String::as_str))
    }

    /// Whether a stream may be read. `_rejects` holds lines of every stream, so only by who may read them all.
    #[must_use]
    pub fn allows(&self, stream: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|names| names.contains(stream) && !stream.starts_with('_'))
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
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_lines_are_read_only_by_who_may_read_all_streams() {
        assert!(Readable::default().allows("_rejects"));
        let some = Readable::only(["running", "_rejects"]);
        assert!(some.allows("running") && !some.allows("music") && !some.allows("_rejects"));
        let catalog = Catalog::new([]);
        assert_eq!(some.of(&catalog).count(), 0);
        assert_eq!(Readable::default().of(&catalog).count(), 1);
    }
}
