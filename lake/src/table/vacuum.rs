//! Vacuum: deletes what no reader needs any more, and nothing whose fate is not known.
//!
//! A data file goes when no version of the last `keep_removed` lists it: it is not listed now, no commit of that time
//! removed it, and it is older itself, so that it is no file of a commit that is under way or whose outcome is
//! unknown. Log entries go when a checkpoint of that age makes them needless: readers start at it or later.
//!
//! # Files of other processes
//! Of its own files a process knows which ones wait for their commit. Of those of others it goes by their age, by the
//! clock that dates them, and keeps them for a minute at least; nobody commits a file that is older than half of that.

use std::collections::HashSet;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Inner, VacuumReport};
use crate::durable::is_temporary;
use crate::error::LakeError;
use crate::log;
use crate::storage::{Found, LOG};

/// Commits that are read at once.
const COMMITS_READ: usize = 64;

impl Inner {
    pub(super) fn vacuum(&self) -> Result<VacuumReport, LakeError> {
        let failed = |error: &io::Error| self.failed("vacuum", error);
        self.checkpoint_if_due()?;
        let now = self.storage.now().map_err(|error| failed(&error))?;
        let ago = |age| now.checked_sub(age).unwrap_or(UNIX_EPOCH);
        let before = ago(self.keep_removed);
        let given_up_before = ago(self.uncommitted_kept());
        let mut report = VacuumReport::default();
        // In this order: a file that is named now is waiting for its commit, or listed by what is read after it.
        let found = self.storage.list("").map_err(|error| failed(&error))?;
        let waiting = self.unlisted.all();
        let Some(current) = self.refresh()? else {
            return Ok(report);
        };
        let entries = self.storage.list(LOG).map_err(|error| failed(&error))?;
        let mut needed = self.removed_since(before, &entries)?;
        needed.extend(waiting);
        needed.extend(current.ours.files.iter().map(|file| file.path.clone()));
        for file in &found {
            let ours = is_temporary(&file.name) || file.name.ends_with(".parquet");
            if ours && !needed.contains(&file.name) && file.modified < given_up_before {
                self.delete(&file.name)?;
                report.files_deleted += 1;
                report.bytes_deleted += file.bytes;
            }
        }
        report.log_files_deleted = self.expire_log(entries, before, given_up_before)?;
        Ok(report)
    }

    /// Paths that commits since then have removed.
    fn removed_since(&self, since: SystemTime, entries: &[Found]) -> Result<HashSet<String>, LakeError> {
        let since_ms = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut removed = HashSet::new();
        // A part of them at a time: so much memory they take.
        for entries in entries.chunks(COMMITS_READ) {
            let commits = entries.iter().filter_map(|entry| match version_of(entry) {
                Some((version, "json")) => Some((version, entry.modified)),
                _ => None,
            });
            let (versions, dates): (Vec<_>, Vec<_>) = commits.unzip();
            let found = log::read_each(&self.storage, versions.into_iter());
            let found = found.map_err(|error| self.failed("read a commit of", &error))?;
            for (commit, modified) in found.into_iter().zip(dates) {
                for remove in commit.into_iter().flat_map(|commit| commit.removes) {
                    let at = remove.deletion_timestamp.and_then(|at| u128::try_from(at).ok());
                    if modified >= since || at.is_none_or(|at| at >= since_ms) {
                        removed.insert(remove.path);
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Deletes log entries below the newest checkpoint that is old enough, and what was given up.
    fn expire_log(
        &self,
        mut entries: Vec<Found>,
        before: SystemTime,
        given_up_before: SystemTime,
    ) -> Result<u64, LakeError> {
        let hint = log::checkpoint_hint(&self.storage);
        let hint = hint
            .map_err(|error| self.failed("read the log of", &error))?
            .unwrap_or(0);
        let checkpoints = entries.iter().filter(|entry| entry.modified < before);
        let checkpoints = checkpoints.filter_map(|entry| match version_of(entry)? {
            // A later one may be half of a checkpoint whose process ended: readers do not begin with it.
            (version, "checkpoint.parquet") if version <= hint => Some(version),
            _ => None,
        });
        let start = checkpoints.max().unwrap_or(0);
        let mut deleted = 0;
        // In the order of versions: followers take a version whose entry is there for one that nothing follows,
        // if the next one's is not; and writers take their own for the newest, if the one before is there.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut kept = false;
        for entry in entries {
            let needless = match version_of(&entry) {
                Some((version, kind)) => {
                    let needless = version < start && entry.modified < before && !kept;
                    kept |= kind == "json" && !needless;
                    needless
                }
                None => is_temporary(&entry.name) && entry.modified < given_up_before,
            };
            if needless {
                self.delete(&format!("{LOG}/{}", entry.name))?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn delete(&self, name: &str) -> Result<(), LakeError> {
        let deleted = self.storage.remove(name);
        deleted.map_err(|error| self.write_failed("delete a file of", &error))
    }
}

/// The version that a log entry is about, and what it is.
fn version_of(entry: &Found) -> Option<(u64, &str)> {
    let (version, kind) = entry.name.split_once('.')?;
    let digits = version.len() == 20 && version.bytes().all(|byte| byte.is_ascii_digit());
    Some((version.parse().ok().filter(|_| digits)?, kind))
}
