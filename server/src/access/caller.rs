//! On whose behalf a request that was let pass is made, so what of an answer may be shown.

use std::sync::Arc;

use analytics::Readable;

use super::{Scope, Streams, Token};

/// Whoever makes a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// There are no tokens: everybody may do everything.
    Everybody,
    /// Nobody who is known, at a route that is open.
    Nobody,
    /// The holder of a token.
    Token(Arc<Token>),
}

impl Caller {
    /// The streams that may be read, for a question; `None` when nothing is to be left out.
    pub(crate) fn readable(&self) -> Option<Readable> {
        match self {
            Self::Everybody => None,
            Self::Nobody => Some(Readable::only::<String>([])),
            Self::Token(token) => token.readable.clone(),
        }
    }

    /// The streams that a scope is granted for.
    pub(crate) fn streams(&self, scope: Scope) -> &Streams {
        match self {
            Self::Everybody => &Streams::All,
            Self::Nobody => &Streams::No,
            Self::Token(token) => token.grants.of(scope),
        }
    }

    /// Whether the declaration of a stream may be shown: to who reads it, and to who writes it.
    pub(crate) fn sees(&self, stream: &str) -> bool {
        self.streams(Scope::Read).has(stream)
            // Whoever writes every stream still does not read what was rejected.
            || self.streams(Scope::Write).has(stream) && !stream.starts_with('_')
    }
}
