//! What a token may do: each scope, for all streams or for named ones.

use std::collections::BTreeSet;
use std::fmt;

use super::Need;

/// A kind of doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Posting events.
    Write,
    /// Asking questions: REST, SQL, declarations.
    Read,
    /// Looking into the process: metrics, what readiness found.
    Admin,
}

/// Some streams, whether they exist or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Streams {
    /// None of them.
    #[default]
    No,
    /// These.
    Named(BTreeSet<String>),
    /// All that there are and will be, `_rejects` as well.
    All,
}

/// The streams of each scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    pub(crate) write: Streams,
    pub(crate) read: Streams,
    pub(crate) admin: Streams,
}

impl Scope {
    /// All of them, in the order of the file.
    pub(crate) const EVERY: [Self; 3] = [Self::Write, Self::Read, Self::Admin];

    /// As files, requests and answers have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Streams {
    /// Whether a stream is among them. The built-in ones hold rows of every stream, so no name reaches them.
    pub(crate) fn has(&self, stream: &str) -> bool {
        match self {
            Self::No => false,
            Self::Named(names) => names.contains(stream) && !stream.starts_with('_'),
            Self::All => true,
        }
    }
}

impl Grants {
    /// The streams of a scope.
    pub(crate) fn of(&self, scope: Scope) -> &Streams {
        match scope {
            Scope::Write => &self.write,
            Scope::Read => &self.read,
            Scope::Admin => &self.admin,
        }
    }

    /// The same, to be filled.
    pub(crate) fn of_mut(&mut self, scope: Scope) -> &mut Streams {
        match scope {
            Scope::Write => &mut self.write,
            Scope::Read => &mut self.read,
            Scope::Admin => &mut self.admin,
        }
    }

    /// Whether they are enough for a request.
    pub(super) fn cover(&self, need: &Need<'_>) -> bool {
        match need {
            Need::Nothing | Need::Token => true,
            Need::Operations => self.admin != Streams::No,
            Need::SomeStream => self.read != Streams::No,
            Need::Stream(scope, stream) => self.of(*scope).has(stream),
            Need::OwnRoute(stream) => self.write.has(stream),
            Need::OwnView(streams) => streams.iter().all(|stream| self.read.has(stream.as_str())),
            // Who may use every stream may know which paths there are. Others are told the same as about a path
            // of a stream that is not theirs.
            Need::Unknown => self.write == Streams::All || self.read == Streams::All,
        }
    }
}
