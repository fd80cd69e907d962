//! What Redis answers, by kind, never by text.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::database::DatabaseError;

/// What an error means. Nothing of the URL is in it.
pub(super) fn failure(operation: &'static str, error: &RedisError) -> DatabaseError {
    let message = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    if denied(error.kind(), error.code()) {
        DatabaseError::Denied { operation, message }
    } else {
        DatabaseError::Outage { operation, message }
    }
}

/// Whether only a person can change it: a wrong password, a missing right, a key that holds something else.
fn denied(kind: ErrorKind, code: Option<&str>) -> bool {
    match kind {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::Client
        | ErrorKind::RESP3NotSupported
        | ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot) => true,
        _ => matches!(code, Some("NOAUTH" | "WRONGPASS" | "WRONGTYPE")),
    }
}
