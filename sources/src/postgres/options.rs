//! Settings of a relay from an outbox table.

use std::collections::BTreeMap;
use std::fmt;

use crate::Schedule;

/// Which table, and how its rows are read.
#[derive(Clone)]
pub struct OutboxOptions {
    /// `postgres://user:password@host:port/database?sslmode=require`. It may carry a password, so it is never shown.
    pub url: String,
    /// The table, perhaps with its schema: `events`, `shop.events`.
    pub table: String,
    /// The column that identifies a row: unique and never null.
    pub id: String,
    /// Field → column; every field from the column of its name when absent. A field that is not named stays absent.
    pub columns: Option<BTreeMap<String, String>>,
    /// The column that says what became of a row.
    pub state: StateColumn,
    /// The column that rows are ordered by; the backlog's age comes from it when it is a moment. Default: `id`.
    pub order: Option<String>,
    /// When it looks.
    pub schedule: Schedule,
    /// Most rows of one transaction.
    pub batch: u32,
    /// A queue whose messages change the state of rows.
    pub responses: Option<ResponsesOptions>,
}

/// The column that says what became of a row, and its values as SQL would read them from text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateColumn {
    /// Its name.
    pub column: String,
    /// The value of rows that wait; null when absent.
    pub pending: Option<String>,
    /// The value of rows that are in the journal.
    pub sent: String,
    /// The value of rows that are no event of the stream.
    pub refused: String,
    /// A column that gets the reason of a refusal.
    pub reason: Option<String>,
}

/// A queue whose messages, `{"event_id": …, "status": …}`, change the state of rows.
#[derive(Clone)]
pub struct ResponsesOptions {
    /// `amqp://user:password@host:port/vhost`; never shown.
    pub url: String,
    /// The queue; declared durable when it is missing.
    pub queue: String,
    /// The member of a message that has the row's id.
    pub id: String,
    /// The member of a message that has the status.
    pub status: String,
    /// Status → value of the state column; the status itself when absent.
    pub states: Option<BTreeMap<String, String>>,
    /// Most messages that are taken and not answered yet.
    pub prefetch: u16,
}

impl fmt::Debug for OutboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxOptions")
            .field("url", &"(secret)")
            .field("table", &self.table)
            .field("id", &self.id)
            .field("columns", &self.columns)
            .field("state", &self.state)
            .field("order", &self.order)
            .field("schedule", &self.schedule)
            .field("batch", &self.batch)
            .field("responses", &self.responses)
            .finish()
    }
}

impl fmt::Debug for ResponsesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponsesOptions")
            .field("url", &"(secret)")
            .field("queue", &self.queue)
            .field("id", &self.id)
            .field("status", &self.status)
            .field("states", &self.states)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}
