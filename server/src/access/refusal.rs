//! Why a request is refused, and the answer: 401, 403 (RFC 9110, 15.5; RFC 6750, 3) as a problem document.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use ingest::Problem;

use super::{Scope, TokenName};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has no token.
    NoToken,
    /// It has two.
    Twice,
    /// Its token is none that is known.
    Invalid,
    /// Its token was known.
    Expired {
        /// The token's name.
        name: TokenName,
    },
    /// Its token may not do that.
    Scope {
        /// The token's name.
        name: TokenName,
        /// What would be needed, where saying so tells nothing about streams.
        scope: Option<Scope>,
    },
}

impl Refusal {
    /// For metrics and logs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Twice => "two_tokens",
            Self::Invalid => "invalid_token",
            Self::Expired { .. } => "expired_token",
            Self::Scope { .. } => "insufficient_scope",
        }
    }

    /// Whose token it is, where that is known.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::NoToken | Self::Twice | Self::Invalid => None,
            Self::Expired { name } | Self::Scope { name, .. } => Some(name.as_str()),
        }
    }

    /// The answer. It says nothing that depends on whether a stream exists.
    pub(crate) fn problem(&self) -> Problem {
        let (status, kind, detail, error) = match self {
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "token-needed",
                "send a token as `Authorization: Bearer …`",
                String::new(),
            ),
            Self::Twice => (
                StatusCode::BAD_REQUEST,
                "two-tokens",
                "`Authorization` is given more than once",
                ", error=\"invalid_request\"".to_owned(),
            ),
            Self::Invalid => (
                StatusCode::UNAUTHORIZED,
                "invalid-token",
                "the token is not known",
                ", error=\"invalid_token\"".to_owned(),
            ),
            Self::Expired { .. } => (
                StatusCode::UNAUTHORIZED,
                "invalid-token",
                "the token has expired",
                ", error=\"invalid_token\", error_description=\"the token has expired\"".to_owned(),
            ),
            Self::Scope { scope, .. } => (
                StatusCode::FORBIDDEN,
                "insufficient-scope",
                "the token does not allow this",
                match scope {
                    Some(scope) => format!(", error=\"insufficient_scope\", scope=\"{scope}\""),
                    None => ", error=\"insufficient_scope\"".to_owned(),
                },
            ),
        };
        let challenge = HeaderValue::try_from(format!("Bearer realm=\"tidemill\"{error}"));
        let challenge = challenge.expect("words of ours");
        Problem::new(status, kind, detail).header(WWW_AUTHENTICATE, challenge)
    }
}
