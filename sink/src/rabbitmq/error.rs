//! What RabbitMQ answers, by kind: the reply code decides, never the text.
//!
//! | reply code | verdict |
//! |---|---|
//! | 402, 403, 404, 406, 530 no such virtual host, exchange or queue, no right, another kind of queue | [`DatabaseError::Denied`]: a person must act |
//! | everything else, and a connection that is gone | [`DatabaseError::Outage`]: the same again later may pass |

use lapin::ErrorKind;

use crate::database::DatabaseError;

/// Reply codes that only a person can change anything about.
const DENIED: &[u16] = &[402, 403, 404, 406, 530];

/// The reply code of an answer that is an error, if it is one of the broker's.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

/// What an error means.
pub(super) fn failure(operation: &'static str, error: &lapin::Error) -> DatabaseError {
    let message = match error.kind() {
        ErrorKind::ProtocolError(said) => format!("{} (reply code {})", said.get_message(), said.get_id()),
        _ => error.to_string(),
    };
    if reply_code(error).is_some_and(|code| DENIED.contains(&code)) {
        DatabaseError::Denied { operation, message }
    } else {
        DatabaseError::Outage { operation, message }
    }
}
