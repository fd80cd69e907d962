//! Rows that come to a table beside its own journal's: another stream's records, with a txn of their own.
//!
//! `_rejects` has such rows, of messages that are no events of their stream (`format = "json"`). They are committed
//! before the stream's own file, in another table; so a crash in between makes the stream read a range again of which
//! the table has a part already. What it has says the txn that each such commit carries: its application id names
//! stream, partition and the journal that the offsets are of, its version is the offset after the last record. Whoever
//! reads the range again leaves out what is below, and the commit is made only from where it was when that was decided.
//! Another journal over the same stream has another id, so it begins anew and nothing has to be adopted.

use std::collections::BTreeMap;
use std::sync::Arc;

use delta_kernel::transaction::UpdateTableOperation;
use event::{Offset, Partition, Position, StreamName};

use super::commit::Change;
use super::{CHECKPOINT_OVERDUE, Inner, Table};
use crate::error::{CommitError, LakeError};
use crate::runtime::run;
use crate::snapshot::Snapshot;
use crate::writer::WrittenFile;

/// One partition of a stream whose records bring rows to another stream's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The stream.
    pub stream: StreamName,
    /// The partition.
    pub partition: Partition,
    /// The id of the journal that the offsets are of.
    pub journal: String,
}

/// How far a table is with its sources, by their application ids.
pub(crate) type Sources = BTreeMap<String, Offset>;

impl Source {
    /// Never one of the ids under which a table keeps its own positions: those end with the partition.
    fn app_id(&self) -> String {
        format!(
            "{}{}",
            begin_of(self.stream.as_str(), self.partition),
            self.journal
        )
    }
}

fn begin_of(stream: &str, partition: Partition) -> String {
    format!("tidemill/{stream}/{partition}@")
}

/// Whether an application id can be a source's.
pub(super) fn is_source(app_id: &str) -> bool {
    app_id.starts_with("tidemill/") && app_id.contains('@')
}

/// How many journals brought rows of a partition of a stream.
pub(crate) fn journals_of(sources: &Sources, stream: &str, partition: Partition) -> usize {
    let begin = begin_of(stream, partition);
    let from = sources.range(begin.clone()..);
    from.take_while(|(app_id, _)| app_id.starts_with(&begin)).count()
}

impl Table {
    /// The offset up to which this table has what a source brings; 0 when it has nothing of it.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read.
    pub async fn source_end(&self, source: &Source) -> Result<Offset, LakeError> {
        let (inner, app_id) = (Arc::clone(&self.inner), source.app_id());
        run(move || {
            let current = inner.refresh()?;
            Ok(current.map_or(Offset(0), |current| stored(&current.sources, &app_id)))
        })
        .await
    }

    /// Appends files with a source's rows of records [from, to) in one durable commit, after checking that the table
    /// has the source up to `from` exactly. The table's own positions stay where they are.
    ///
    /// # Errors
    /// As [`Table::commit`].
    ///
    /// # Cancellation
    /// The commit goes on; [`Table::source_end`] tells later whether it was made.
    pub async fn commit_source(
        &self,
        files: Vec<WrittenFile>,
        source: &Source,
        from: Offset,
        to: Offset,
    ) -> Result<Arc<Snapshot>, CommitError> {
        let source = source.clone();
        self.commit_with(move |inner| inner.commit_source(&files, &source, from, to))
            .await
    }
}

impl Inner {
    fn commit_source(
        &self,
        files: &[WrittenFile],
        source: &Source,
        from: Offset,
        to: Offset,
    ) -> Result<Arc<Snapshot>, CommitError> {
        let app_id = source.app_id();
        let committed = self.settle(|current| {
            let stored = stored(&current.sources, &app_id);
            let from = Position::new(source.partition, from);
            if stored > from.offset {
                return Err(CommitError::Moved { from, stored });
            }
            if stored < from.offset {
                return Err(CommitError::NotContiguous { from, stored });
            }
            Ok(Some(Change {
                sources: vec![(app_id.clone(), to)],
                ..Change::new(UpdateTableOperation::StreamingUpdate, files)
            }))
        })?;
        self.checkpoint_after(&committed, CHECKPOINT_OVERDUE);
        Ok(committed.ours)
    }
}

fn stored(sources: &Sources, app_id: &str) -> Offset {
    sources.get(app_id).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_are_counted_of_one_partition_of_one_stream() {
        let source = |stream: &str, partition, journal: &str| Source {
            stream: StreamName::parse(stream).expect("a name"),
            partition: Partition(partition),
            journal: journal.to_owned(),
        };
        let all = [
            source("s", 1, "a"),
            source("s", 1, "b/c@d"),
            source("s", 11, "a"),
            source("s1", 1, "a"),
        ];
        let sources: Sources = all.iter().map(|source| (source.app_id(), Offset(1))).collect();
        assert_eq!(sources.len(), 4);
        assert!(sources.keys().all(|app_id| is_source(app_id)));
        assert!(!is_source("tidemill/s/1") && !is_source("other@"));
        assert_eq!(journals_of(&sources, "s", Partition(1)), 2);
        assert_eq!(journals_of(&sources, "s", Partition(11)), 1);
        assert_eq!(journals_of(&sources, "s", Partition(2)), 0);
    }
}
