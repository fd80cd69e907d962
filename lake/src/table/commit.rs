//! Putting the next version into the log: one try, conflicts, unknown outcomes.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{FileMeta, Snapshot as DeltaSnapshot};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use event::{Offset, Partition, Position};

use super::{
    Advance, CHECKPOINT_EVERY, CHECKPOINT_OVERDUE, CONFLICTS_MAX, Current, DOMAIN, ENGINE_INFO, Inner,
    TableMetadata,
};
use crate::disk::SyncPoint;
use crate::error::{CommitError, LakeError};
use crate::files;
use crate::snapshot::Snapshot;
use crate::writer::WrittenFile;

/// Waits before reading a log again whose outcome must be known.
const LOOK_UP_WAITS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
    Duration::from_millis(640),
];

/// What the next version changes.
pub(super) struct Change<'a> {
    pub(super) operation: UpdateTableOperation,
    /// Whether it adds or removes rows, rather than moves them.
    pub(super) changes_data: bool,
    pub(super) adds: &'a [WrittenFile],
    /// Paths of files that are listed now.
    pub(super) removes: HashSet<String>,
    pub(super) positions: Vec<(Partition, Offset)>,
    pub(super) metadata: Option<TableMetadata>,
}

/// How one try ended.
pub(super) enum Attempt {
    /// It is the next version.
    Committed(Option<SnapshotRef>),
    /// Somebody else's is the next version.
    Conflicted,
}

impl Inner {
    /// Appends files and moves positions.
    pub(super) fn commit(
        &self,
        files: &[WrittenFile],
        advance: &[Advance],
    ) -> Result<Arc<Snapshot>, CommitError> {
        let committed = self.settle(|current| {
            for advance in advance {
                let stored = current.ours.position(advance.partition).offset;
                if stored != advance.from {
                    let from = Position::new(advance.partition, advance.from);
                    return Err(CommitError::NotContiguous { from, stored });
                }
            }
            Ok(Some(Change {
                operation: UpdateTableOperation::StreamingUpdate,
                changes_data: true,
                adds: files,
                removes: HashSet::new(),
                positions: advance
                    .iter()
                    .map(|advance| (advance.partition, advance.to))
                    .collect(),
                metadata: None,
            }))
        })?;
        self.checkpoint_after(&committed, CHECKPOINT_OVERDUE);
        Ok(committed.ours)
    }

    /// Makes a change the next version, whoever else commits meanwhile: `change` is asked again for each version
    /// that it shall follow, and ends it with `None` when there is nothing to do any more.
    pub(super) fn settle<'a>(
        &self,
        mut change: impl FnMut(&Current) -> Result<Option<Change<'a>>, CommitError>,
    ) -> Result<Current, CommitError> {
        for _ in 0..CONFLICTS_MAX {
            let current = self.refresh()?;
            let current = current.ok_or_else(|| self.failed("commit to", &"the table is gone"))?;
            let Some(change) = change(&current)? else {
                return Ok(current);
            };
            match self.attempt(&current, &change) {
                Ok(Attempt::Committed(delta)) => return self.follow_own(&current, delta),
                Ok(Attempt::Conflicted) => {}
                Err(error) => return self.look_up(&change, error),
            }
        }
        let message = format!("others came first {CONFLICTS_MAX} times");
        Err(self.failed("commit to", &message).into())
    }

    /// Tries once to put the next version into the log.
    fn attempt(&self, current: &Current, change: &Change<'_>) -> Result<Attempt, LakeError> {
        let commit = |error: &dyn std::fmt::Display| self.write_failed("commit to", error);
        self.durable.check()?;
        let mut builder = Arc::clone(&current.delta).update_table(
            change.operation.clone(),
            ENGINE_INFO,
            change.changes_data,
        );
        for (partition, offset) in &change.positions {
            let version = i64::try_from(offset.0).map_err(|error| commit(&error))?;
            builder = builder.with_transaction_id(self.app_id(*partition), version);
        }
        let transaction = builder.build(&*self.engine, Box::new(FileSystemCommitter::new()));
        let mut transaction = transaction.map_err(|error| commit(&error))?;
        if let Some(metadata) = &change.metadata {
            transaction = transaction.with_domain_metadata(DOMAIN.to_owned(), self.metadata_text(metadata));
        }
        let context = transaction
            .write_state()
            .and_then(|state| state.write_context_builder().build());
        let context = context.map_err(|error| commit(&error))?;
        for file in change.adds {
            let metadata = self.add_metadata(file)?;
            transaction
                .add_files(build_add_file_metadata(metadata, &context).map_err(|error| commit(&error))?);
        }
        if !change.removes.is_empty() {
            for rows in files::rows_of(self, &current.delta, &change.removes)? {
                transaction.remove_files(rows);
            }
            // Whoever removes here removes whole rows, or has written their ids into the merged file.
            transaction.ack_row_tracking_preservation();
        }
        match transaction
            .commit(&*self.engine)
            .map_err(|error| commit(&error))?
        {
            CommitResult::Committed(committed) => {
                Ok(Attempt::Committed(committed.post_commit_snapshot().cloned()))
            }
            CommitResult::Conflicted(_) => Ok(Attempt::Conflicted),
            CommitResult::Retryable(retryable) => Err(commit(&retryable.error)),
        }
    }

    fn add_metadata(&self, file: &WrittenFile) -> Result<DataFileMetadata, LakeError> {
        let location = self.url.join(&file.path);
        let location = location.map_err(|error| self.failed("commit to", &error))?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let meta = FileMeta {
            location,
            last_modified: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            size: file.bytes,
        };
        Ok(DataFileMetadata::new(meta, file.statistics.to_struct()))
    }

    /// Reads what was just committed. It is durable, so that it cannot be read now is no failed commit.
    fn follow_own(&self, known: &Current, delta: Option<SnapshotRef>) -> Result<Current, CommitError> {
        let follow = || {
            let delta = match &delta {
                Some(delta) => Arc::clone(delta),
                None => DeltaSnapshot::builder_from(Arc::clone(&known.delta))
                    .build(&*self.engine)
                    .map_err(|error| self.failed("read", &error))?,
            };
            self.advance(known, &delta)
        };
        let followed = patiently(follow).map_err(|source| CommitError::Unknown { source })?;
        Ok(self.publish(followed))
    }

    /// Finds out whether a commit was made although it failed: then its positions or files are in the log. It
    /// counts when the log's directory is durable.
    fn look_up(&self, change: &Change<'_>, error: LakeError) -> Result<Current, CommitError> {
        let unknown = |source| CommitError::Unknown { source };
        self.durable.check().map_err(unknown)?;
        let current = patiently(|| {
            self.refresh()?
                .ok_or_else(|| self.failed("look up a commit of", &"the table is gone"))
        })
        .map_err(unknown)?;
        if !is_in(change, &current.ours) {
            return Err(CommitError::Lake(error));
        }
        let log = self.directory.join("_delta_log");
        let synced = self.durable.sync_directory(&log, SyncPoint::FoundCommit);
        synced.map_err(|error| unknown(self.write_failed("fsync the log of", &error)))?;
        tracing::warn!(stream = %self.stream.name, %error, "a commit failed, but was made");
        Ok(current)
    }

    /// Writes a checkpoint when the newest one is `every` versions old. It only makes opening quicker, so that it
    /// failed is no failed commit.
    pub(super) fn checkpoint_after(&self, current: &Current, every: u64) {
        let version = current.ours.version;
        // One at a time: the hint that a checkpoint leaves must not be taken back by an older one.
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known().unwrap_or_else(|| current.clone());
        let newest = known.delta.log_segment().checkpoint_version.unwrap_or(0);
        if version.saturating_sub(newest) < every {
            return;
        }
        match current.delta.checkpoint(&*self.engine, None) {
            Ok((_, delta)) => {
                self.publish(Current {
                    delta,
                    ..current.clone()
                });
            }
            Err(error) => {
                tracing::warn!(stream = %self.stream.name, version, %error, "cannot write a checkpoint");
            }
        }
    }

    /// Writes a checkpoint if it is time for one.
    pub(super) fn checkpoint_if_due(&self) -> Result<(), LakeError> {
        if let Some(current) = self.refresh()? {
            self.checkpoint_after(&current, CHECKPOINT_EVERY);
        }
        Ok(())
    }
}

/// Whether a version has what a change brings.
fn is_in(change: &Change<'_>, snapshot: &Snapshot) -> bool {
    let reached = |(partition, offset): &(Partition, Offset)| snapshot.position(*partition).offset == *offset;
    let listed: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    let moves = !change.positions.is_empty() || !change.adds.is_empty() || !change.removes.is_empty();
    moves
        && change.positions.iter().all(reached)
        && change.adds.iter().all(|file| listed.contains(file.path.as_str()))
        && change.removes.iter().all(|path| !listed.contains(path.as_str()))
}

/// Tries again what only reads.
fn patiently<T>(mut read: impl FnMut() -> Result<T, LakeError>) -> Result<T, LakeError> {
    for wait in LOOK_UP_WAITS {
        if let Ok(done) = read() {
            return Ok(done);
        }
        std::thread::sleep(wait);
    }
    read()
}
