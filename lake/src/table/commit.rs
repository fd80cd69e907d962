//! Putting the next version into the log: one try, conflicts, unknown outcomes.
//!
//! # How two writers cannot spoil each other's commits
//! The entry of the next version is put into the log only if there is none (a hard link in a directory, a put under
//! `If-None-Match` in a bucket). Whoever comes second reads what came first, compares positions with it, and builds
//! the change anew: so a partition moves on from one writer's position only, and Delta gives each row an id of its own.
//!
//! # Three ways to be wrong about a put
//! - Its answer is lost: the entry is looked at, and counts when it is ours.
//! - Its answer was lost, the store's client put it again, and finds the name taken: that looks like somebody else's
//!   commit. So a conflicting entry is looked at before anything is built anew; ours names our files.
//! - It is made, but in the past: a process slept after it had looked at the log, others went on, and the entries that
//!   it knew have expired, so that the name was free again. Entries expire in the order of versions; so when the entry
//!   before ours is still there after the put, ours was free for the first time. Otherwise the table is read anew.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{FileMeta, Snapshot as DeltaSnapshot};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use event::{Offset, Partition, Position};

use super::{
    Advance, CHECKPOINT_EVERY, CHECKPOINT_OVERDUE, CONFLICT_TIME_MAX, CONFLICTS_MAX, Current, DOMAIN,
    ENGINE_INFO, Inner, TableMetadata,
};
use crate::disk::SyncPoint;
use crate::error::{CommitError, LakeError};
use crate::files;
use crate::log;
use crate::snapshot::Snapshot;
use crate::writer::WrittenFile;

/// Waits before reading a log again whose outcome must be known.
const LOOK_UP_WAITS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
    Duration::from_millis(640),
];

/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the next version changes.
pub(super) struct Change<'a> {
    pub(super) operation: UpdateTableOperation,
    /// Whether it adds or removes rows, rather than moves them.
    pub(super) changes_data: bool,
    pub(super) adds: &'a [WrittenFile],
    /// Paths of files that are listed now.
    pub(super) removes: HashSet<String>,
    pub(super) positions: Vec<(Partition, Offset)>,
    /// Application ids of sources, and the offsets up to which the table has them now.
    pub(super) sources: Vec<(String, Offset)>,
    pub(super) metadata: Option<TableMetadata>,
}

impl<'a> Change<'a> {
    /// A change that only adds these files.
    pub(super) fn new(operation: UpdateTableOperation, adds: &'a [WrittenFile]) -> Self {
        Self {
            operation,
            changes_data: true,
            adds,
            removes: HashSet::new(),
            positions: Vec::new(),
            sources: Vec::new(),
            metadata: None,
        }
    }
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
                let from = Position::new(advance.partition, advance.from);
                if stored > advance.from {
                    return Err(CommitError::Moved { from, stored });
                }
                if stored < advance.from {
                    return Err(CommitError::NotContiguous { from, stored });
                }
            }
            Ok(Some(Change {
                positions: advance
                    .iter()
                    .map(|advance| (advance.partition, advance.to))
                    .collect(),
                ..Change::new(UpdateTableOperation::StreamingUpdate, files)
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
        let begun = Instant::now();
        let mut conflicts = 0;
        loop {
            let current = self.refresh()?;
            let current = current.ok_or_else(|| self.failed("commit to", &"the table is gone"))?;
            let Some(change) = change(&current)? else {
                return Ok(current);
            };
            self.check_age(change.adds)?;
            let tried = Instant::now();
            match self.attempt(&current, &change) {
                Ok(Attempt::Committed(delta)) => {
                    if self.is_latest(&current)? {
                        self.check_there(change.adds)?;
                        return self.follow_own(&current, delta);
                    }
                    self.forget();
                }
                Ok(Attempt::Conflicted) if self.is_ours(&current, &change)? => {
                    return self.found(&"its name was taken, by itself");
                }
                Ok(Attempt::Conflicted) => {}
                Err(error) => return self.look_up(&current, &change, error),
            }
            conflicts += 1;
            metrics::counter!("tidemill_lake_commit_conflicts_total", "stream" => self.stream.name.to_string())
                .increment(1);
            if conflicts >= CONFLICTS_MAX || begun.elapsed() > CONFLICT_TIME_MAX {
                let message = format!("others came first {conflicts} times in {:?}", begun.elapsed());
                return Err(self.failed("commit to", &message).into());
            }
            std::thread::sleep(wait_after(conflicts, tried.elapsed()));
        }
    }

    /// Refuses files that vacuum may take for given up soon, because they have waited too long for their commit.
    fn check_age(&self, files: &[WrittenFile]) -> Result<(), LakeError> {
        let limit = self.uncommitted_kept() / 2;
        match files.iter().find(|file| self.shared && file.age() > limit) {
            Some(file) => {
                let message = format!(
                    "file `{}` waited {:?} for its commit, more than {limit:?}: it is written anew",
                    file.path,
                    file.age()
                );
                Err(self.failed("commit to", &message))
            }
            None => Ok(()),
        }
    }

    /// Finds out whether files are there that have become too old while they were committed, because the process
    /// slept: vacuum may have taken them for given up before.
    fn check_there(&self, files: &[WrittenFile]) -> Result<(), LakeError> {
        if self.check_age(files).is_ok() {
            return Ok(());
        }
        for file in files {
            let there = self.storage.exists(&file.path);
            if !there.map_err(|error| self.failed("look for a file of", &error))? {
                return Err(LakeError::Damaged {
                    stream: self.stream.name.to_string(),
                    message: format!("file `{}` was removed while its commit slept", file.path),
                });
            }
        }
        Ok(())
    }

    /// Whether what was put after a version is the newest one, because that version's entry has not expired.
    fn is_latest(&self, known: &Current) -> Result<bool, CommitError> {
        let there = || {
            let there = log::has(&self.storage, known.ours.version);
            there.map_err(|error| self.failed("look for a commit of", &error))
        };
        patiently(there).map_err(|source| CommitError::Unknown { source })
    }

    /// Whether the version after a known one is this change: then it names its files, which nobody else does.
    fn is_ours(&self, known: &Current, change: &Change<'_>) -> Result<bool, CommitError> {
        if change.adds.is_empty() {
            // Asked again on top of it, the change finds nothing to do.
            return Ok(false);
        }
        let read = || {
            let entry = log::read(&self.storage, known.ours.version + 1);
            entry.map_err(|error| self.failed("look up a commit of", &error))
        };
        let entry = patiently(read).map_err(|source| CommitError::Unknown { source })?;
        Ok(entry.is_some_and(|entry| {
            let named: HashSet<&str> = entry.adds.iter().map(|add| add.path.as_str()).collect();
            change.adds.iter().all(|file| named.contains(file.path.as_str()))
        }))
    }

    /// Tries once to put the next version into the log.
    fn attempt(&self, current: &Current, change: &Change<'_>) -> Result<Attempt, LakeError> {
        let commit = |error: &dyn std::fmt::Display| self.write_failed("commit to", error);
        self.storage.check()?;
        let mut builder = Arc::clone(&current.delta).update_table(
            change.operation.clone(),
            ENGINE_INFO,
            change.changes_data,
        );
        let own = change.positions.iter();
        let own = own.map(|(partition, offset)| (self.app_id(*partition), *offset));
        for (app_id, offset) in own.chain(change.sources.iter().cloned()) {
            let version = i64::try_from(offset.0).map_err(|error| commit(&error))?;
            builder = builder.with_transaction_id(app_id, version);
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
    fn look_up(
        &self,
        known: &Current,
        change: &Change<'_>,
        error: LakeError,
    ) -> Result<Current, CommitError> {
        self.storage
            .check()
            .map_err(|source| CommitError::Unknown { source })?;
        // Whoever merged its files since has taken their names out of the table, and not out of the log.
        if self.is_ours(known, change)? || is_in(change, &self.read_again()?) {
            return self.found(&error);
        }
        Err(CommitError::Lake(error))
    }

    /// A commit that is in the log counts when the log's directory is durable.
    fn found(&self, why: &dyn std::fmt::Display) -> Result<Current, CommitError> {
        let unknown = |source| CommitError::Unknown { source };
        let current = self.read_again()?;
        let synced = self.storage.sync_log(SyncPoint::FoundCommit);
        synced.map_err(|error| unknown(self.write_failed("fsync the log of", &error)))?;
        tracing::warn!(stream = %self.stream.name, error = %why, "a commit failed, but was made");
        Ok(current)
    }

    fn read_again(&self) -> Result<Current, CommitError> {
        let read = || {
            self.refresh()?
                .ok_or_else(|| self.failed("look up a commit of", &"the table is gone"))
        };
        patiently(read).map_err(|source| CommitError::Unknown { source })
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
fn is_in(change: &Change<'_>, current: &Current) -> bool {
    let snapshot = &current.ours;
    let reached = |(partition, offset): &(Partition, Offset)| snapshot.position(*partition).offset == *offset;
    let brought = |(app_id, offset): &(String, Offset)| current.sources.get(app_id) == Some(offset);
    let listed: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    let moves = !change.positions.is_empty() || !change.adds.is_empty() || !change.removes.is_empty();
    moves
        && change.positions.iter().all(reached)
        && change.sources.iter().all(brought)
        && change.adds.iter().all(|file| listed.contains(file.path.as_str()))
        && change.removes.iter().all(|path| !listed.contains(path.as_str()))
}

/// A random time up to some multiples of what a try takes: the more writers there are, the longer they keep out of each
/// other's way.
fn wait_after(conflicts: u32, tried: Duration) -> Duration {
    let longest = tried.saturating_mul(conflicts.min(8)).min(WAIT_MAX);
    let share = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    longest.mul_f64(share)
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
