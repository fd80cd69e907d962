//! What both desks are told, and the bounds that are no setting.

use std::time::Duration;

/// Longest id of a person, in bytes: it is a key in Redis and in an index.
pub(crate) const USER_BYTES_MAX: usize = 256;

/// Longest id of an event, in bytes: it is a key in an index, whose entries PostgreSQL bounds at 2,700.
pub(crate) const EVENT_ID_BYTES_MAX: usize = 1_024;

/// Most people with a session at once: what one process keeps of each is some hundred bytes.
pub(crate) const ACTIVE_MAX: usize = 100_000;

/// What is assigned, and how.
#[derive(Clone, Debug)]
pub struct AssignOptions {
    /// The top-level field of an event that identifies it.
    pub id: String,
    /// The top-level fields that are kept with an assignment; the whole event when empty.
    pub copy: Vec<String>,
    /// Most open assignments of one person. At most 4,096.
    pub limit: u32,
    /// A session ends this long after it was last begun.
    pub session: Duration,
}

impl Default for AssignOptions {
    fn default() -> Self {
        Self {
            id: "event_id".to_owned(),
            copy: Vec::new(),
            limit: 50,
            session: Duration::from_secs(300),
        }
    }
}
