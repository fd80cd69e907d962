//! Retention: the oldest files go as a whole, and no index shifts, because the table counts what went.

use std::time::Duration;

use delta_kernel::transaction::UpdateTableOperation;

use super::commit::Change;
use super::{Inner, TableMetadata};
use crate::error::CommitError;

impl Inner {
    /// Removes the oldest files as long as all of their events are older than `retention` at `now` (microseconds).
    /// Gives the number of events that went.
    pub(super) fn expire(&self, now: i64, retention: Duration) -> Result<u64, CommitError> {
        let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let oldest = now.saturating_sub(age);
        // Of the last try: it is the one that counts.
        let mut went = 0;
        self.settle(|current| {
            let expired = current.ours.files.iter();
            // Only from the front: an index names an event by how many came before it.
            let expired = expired.take_while(|file| file.time_max.is_some_and(|newest| newest < oldest));
            let expired: Vec<_> = expired.collect();
            let rows: u64 = expired.iter().map(|file| file.rows).sum();
            went = rows;
            Ok((!expired.is_empty()).then(|| Change {
                removes: expired.iter().map(|file| file.path.clone()).collect(),
                metadata: Some(TableMetadata {
                    removed: current.metadata.removed + rows,
                    ..TableMetadata::clone(&current.metadata)
                }),
                ..Change::new(UpdateTableOperation::Delete, &[])
            }))
        })?;
        Ok(went)
    }
}
