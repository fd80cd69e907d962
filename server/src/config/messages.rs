//! Where the messages of a broker go: the keys of a destination that is no table.

use super::destinations::DestinationKind;
use super::reading::Reading;

/// Keys of a destination that is no table.
const MESSAGE_KEYS: &[&str] = &["exchange", "routing_key", "queue", "message_id"];
/// Keys of a destination that is one.
const DATABASE_KEYS: &[&str] = &["table_prefix", "load_data", "tables"];
/// Where a broker's messages go. `{stream}` in a name stands for the stream's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagesConfig {
    /// The exchange; the default exchange when empty.
    pub exchange: String,
    /// The routing key.
    pub routing_key: Option<String>,
    /// The queue that is declared.
    pub queue: Option<String>,
    /// The field whose value is the message id.
    pub message_id: Option<String>,
}

impl Reading<'_> {
    pub(super) fn messages(&mut self, kind: Option<DestinationKind>) -> MessagesConfig {
        let (foreign, of) = match kind {
            Some(DestinationKind::Rabbitmq) => (DATABASE_KEYS, "a database"),
            _ => (MESSAGE_KEYS, "`rabbitmq`"),
        };
        let table = self.table;
        for key in foreign.iter().filter(|key| table.contains_key(**key)) {
            self.problem(key, format!("is a setting of {of}"));
        }
        MessagesConfig {
            exchange: self.text("exchange").unwrap_or_default(),
            routing_key: self.text("routing_key"),
            queue: self.text("queue"),
            message_id: self.text("message_id"),
        }
    }
}
