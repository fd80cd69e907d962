//! Adoption: another journal goes on filling a table. Its offsets begin anew, so the positions are set in the same
//! commit that names it, and the index of its first event is kept, where offsets may fall.

use std::collections::BTreeMap;

use delta_kernel::transaction::UpdateTableOperation;
use event::{Offset, Partition, Position};

use super::commit::Change;
use super::{Inner, TableMetadata};
use crate::error::CommitError;

impl Inner {
    /// Lets this lake's journal fill the table from `start` on; a partition that it does not name begins at 0.
    pub(super) fn adopt(&self, start: &[Position]) -> Result<(), CommitError> {
        self.settle(|current| {
            if current.metadata.journal == self.journal {
                return Ok(None);
            }
            let known = current.ours.positions.iter();
            let mut positions: BTreeMap<Partition, Offset> =
                known.map(|position| (position.partition, Offset(0))).collect();
            positions.extend(start.iter().map(|position| (position.partition, position.offset)));
            let mut metadata = TableMetadata::clone(&current.metadata);
            metadata.journal.clone_from(&self.journal);
            metadata.adopted.push(current.ours.end_index());
            Ok(Some(Change {
                positions: positions.into_iter().collect(),
                metadata: Some(metadata),
                ..Change::new(UpdateTableOperation::StreamingUpdate, &[])
            }))
        })?;
        Ok(())
    }
}
