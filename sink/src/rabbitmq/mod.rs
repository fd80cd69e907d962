//! RabbitMQ as a destination, through lapin: every event becomes a persistent message that the broker has confirmed.
//!
//! The same anatomy as every database, behind the same two traits, so groups, retries, refilling, progress and metrics
//! are those of [`crate::database`]: `session.rs` (one connection, the steps of a "transaction"), `message.rs`
//! (a row → a message), `position.rs` (how far it is), `options.rs` (settings), `error.rs` (who must act).
//!
//! # What is promised
//! At least once, with the same message id, in the order of the partition. A broker has no transaction that would take
//! messages and a position together (AMQP's own is atomic within one queue only), so I-2 cannot hold here: what was
//! published between the last stored position and a crash is published again. It is at most what one transaction
//! has, and its messages have the ids that they had: the stream's field that is configured, or else the event's
//! place in the journal, which never changes.
//!
//! # Where the position is
//! In the broker itself, as the one message of a durable queue per partition, written after everything that it covers
//! has been confirmed. So it is with what it speaks of: a broker that is put back to an older state gets again what it
//! lost; no process keeps anything; and the message is a lock as well, since whoever works on the partition holds it
//! unacknowledged, and it comes back by itself when that process or its connection dies. (A file would bind the
//! destination to one machine, a transaction of the lake would cost a version of the table for each batch, and
//! offsets of Kafka's group are for display: nobody reads them back.)
//!
//! # What is never lost
//! Messages are mandatory: what no queue takes comes back and is an error that is tried again, with the exchange and
//! the key in its reason. The first message of a batch goes alone, so that a wrong key costs one message a try.

mod error;
mod message;
mod options;
mod position;
mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::database::{Database, DatabaseError, DatabaseOptions, MappingError, Session, TargetTable};
use options::Settings;
pub use options::{RabbitmqOptions, RabbitmqUrlError};
use session::RabbitmqSession;

/// A RabbitMQ broker.
pub struct RabbitmqDatabase {
    settings: Arc<Settings>,
}

impl RabbitmqDatabase {
    /// A broker by its settings. Connects to nobody yet.
    ///
    /// # Errors
    /// [`RabbitmqUrlError`] (input), without any part of the URL.
    pub fn new(options: &RabbitmqOptions) -> Result<Self, RabbitmqUrlError> {
        Ok(Self {
            settings: Arc::new(Settings::parse(options)?),
        })
    }

    /// Bounds that suit messages: small batches, since one is what a crash publishes again, and short waits.
    #[must_use]
    pub fn bounds(options: DatabaseOptions) -> DatabaseOptions {
        DatabaseOptions {
            batch_rows: 2_000,
            batch_bytes: 4 << 20,
            commit_every: Duration::from_millis(20),
            connections: 4,
            ..options
        }
    }
}

impl fmt::Debug for RabbitmqDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RabbitmqDatabase").field(&self.settings).finish()
    }
}

impl Database for RabbitmqDatabase {
    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn check(&self, table: &TargetTable) -> Result<(), MappingError> {
        self.settings.check(&table.stream)
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>> {
        async {
            let session = RabbitmqSession::connect(Arc::clone(&self.settings)).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
