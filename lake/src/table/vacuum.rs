//! Vacuum: deletes what no reader needs any more, and nothing whose fate is not known.
//!
//! A data file goes when no version of the last `keep_removed` lists it: it is not listed now, no commit of that time
//! removed it, and it is older itself, so that it is no file of a commit that is under way or whose outcome is
//! unknown. Log entries go when a checkpoint of that age makes them needless: readers start at it or later.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Inner, VacuumReport};
use crate::durable::is_temporary;
use crate::error::LakeError;
use crate::log;

/// A file as its directory names it.
struct Found {
    name: OsString,
    bytes: u64,
    modified: SystemTime,
}

impl Inner {
    pub(super) fn vacuum(&self) -> Result<VacuumReport, LakeError> {
        let failed = |error: &io::Error| self.failed("vacuum", error);
        self.checkpoint_if_due()?;
        let before = SystemTime::now()
            .checked_sub(self.keep_removed)
            .unwrap_or(UNIX_EPOCH);
        let log = self.directory.join("_delta_log");
        let mut report = VacuumReport::default();
        // In this order: a file that is named now is waiting for its commit, or listed by what is read after it.
        let found = files_of(&self.directory).map_err(|error| failed(&error))?;
        let waiting = self.unlisted.all();
        let Some(current) = self.refresh()? else {
            return Ok(report);
        };
        let entries = files_of(&log).map_err(|error| failed(&error))?;
        let mut needed = self.removed_since(before, &entries)?;
        needed.extend(waiting);
        needed.extend(current.ours.files.iter().map(|file| file.path.clone()));
        for file in &found {
            let ours = is_temporary(&file.name) || file.name.as_encoded_bytes().ends_with(b".parquet");
            let kept = file.name.to_str().is_none_or(|name| needed.contains(name));
            if ours && !kept && file.modified < before {
                self.delete(&self.directory, file)?;
                report.files_deleted += 1;
                report.bytes_deleted += file.bytes;
            }
        }
        report.log_files_deleted = self.expire_log(&log, entries, before)?;
        Ok(report)
    }

    /// Paths that commits since then have removed.
    fn removed_since(&self, since: SystemTime, entries: &[Found]) -> Result<HashSet<String>, LakeError> {
        let since_ms = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut removed = HashSet::new();
        for entry in entries {
            let Some((version, "json")) = version_of(entry) else {
                continue;
            };
            let commit = log::read(&self.directory, version);
            let Some(commit) = commit.map_err(|error| self.failed("read a commit of", &error))? else {
                continue;
            };
            for remove in commit.removes {
                let at = remove.deletion_timestamp.and_then(|at| u128::try_from(at).ok());
                if entry.modified >= since || at.is_none_or(|at| at >= since_ms) {
                    removed.insert(remove.path);
                }
            }
        }
        Ok(removed)
    }

    /// Deletes log entries below the newest checkpoint that is old enough.
    fn expire_log(&self, log: &Path, mut entries: Vec<Found>, before: SystemTime) -> Result<u64, LakeError> {
        let hint = log::checkpoint_hint(&self.directory);
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
        // if the next one's is not.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let old = entry.modified < before;
            let needless = match version_of(&entry) {
                Some((version, _)) => version < start,
                None => is_temporary(&entry.name),
            };
            if old && needless {
                self.delete(log, &entry)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn delete(&self, directory: &Path, file: &Found) -> Result<(), LakeError> {
        match self.durable.remove(&directory.join(&file.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.write_failed("delete a file of", &error))
            }
            _ => Ok(()),
        }
    }
}

/// The version that a log entry is about, and what it is.
fn version_of(entry: &Found) -> Option<(u64, &str)> {
    let (version, kind) = entry.name.to_str()?.split_once('.')?;
    let digits = version.len() == 20 && version.bytes().all(|byte| byte.is_ascii_digit());
    Some((version.parse().ok().filter(|_| digits)?, kind))
}

/// The files of a directory, without those of directories in it.
fn files_of(directory: &Path) -> io::Result<Vec<Found>> {
    let found = |entry: io::Result<DirEntry>| -> io::Result<Option<Found>> {
        let entry = entry?;
        let metadata: Metadata = match entry.metadata() {
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        let modified = metadata.modified()?;
        Ok(metadata.is_file().then(|| Found {
            name: entry.file_name(),
            bytes: metadata.len(),
            modified,
        }))
    };
    std::fs::read_dir(directory)?
        .filter_map(|entry| found(entry).transpose())
        .collect()
}
