//! Comparing a table's files with its log: what [`verify`](crate::verify) needs of a table.

use std::sync::Arc;

use super::{Current, Inner, Table};
use crate::error::LakeError;
use crate::runtime::run;
use crate::verify::{Expected, VerifyReport, verify};

impl Table {
    /// Reads every file of the newest version and compares it with what the log says: sizes, rows, and that
    /// offsets follow each other without gap or repeat up to the stored positions.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read; what is wrong with files is in the report.
    pub async fn verify(&self) -> Result<VerifyReport, LakeError> {
        let inner = Arc::clone(&self.inner);
        run(move || {
            Ok(match inner.refresh()? {
                Some(current) => inner.verify(&current),
                None => VerifyReport::default(),
            })
        })
        .await
    }
}

impl Inner {
    /// Compares the files of a version with what its log says of them.
    fn verify(&self, current: &Current) -> VerifyReport {
        let expected = Expected {
            stream: &self.stream,
            snapshot: &current.ours,
            adopted: &current.metadata.adopted,
            sources: &current.sources,
        };
        verify(&self.storage, &expected)
    }
}
