//! The journal's directory: made so that it survives a power cut, and locked by the one process that writes.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::disk::{Disk, SyncPoint};
use super::recovery::{OpenError, io_error};
use super::{follow, layout};

/// For how long opening waits for the lock: a reader that looks whether somebody writes holds it for a moment.
const LOCKED_WITHIN: Duration = Duration::from_millis(500);

/// Creates a directory with those above it that are missing. Their entries must survive a power cut, whoever
/// made them, so each directory on the way is synced; one that may not be read is somebody else's.
pub(super) fn create_directories(disk: &dyn Disk, directory: &Path) -> Result<(), OpenError> {
    let above: Vec<&Path> = directory
        .ancestors()
        .map(|path| {
            if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            }
        })
        .collect();
    for (path, parent) in above.iter().zip(&above[1..]).rev() {
        disk.create_directory(path).map_err(io_error("create", path))?;
        match disk.sync_directory(parent, SyncPoint::Directory) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(io_error("fsync", parent))?,
        }
    }
    Ok(())
}

/// Takes the writer's lock, which the system frees when the process ends, however it ends.
pub(super) fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let path = layout::lock(directory);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCKED_WITHIN => {
                std::thread::sleep(follow::EVERY);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let path = directory.to_owned();
                return Err(OpenError::Locked { path });
            }
            Err(error) => return Err(io_error("lock", &path)(error.into())),
        }
    }
}

/// Whether a writer holds the journal's lock.
pub(super) fn is_written(directory: &Path) -> Result<bool, OpenError> {
    let path = layout::lock(directory);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}
