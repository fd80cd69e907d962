//! Files of segments that nobody needs any more, kept so that the next segments are written into them.
//!
//! Writing over blocks that have been written before changes data and nothing else, so an fdatasync has no commit of
//! the file system's own journal to wait for, neither one of its own nor one that others caused; and removing a file
//! of 128 MiB frees its pages and its blocks, for which appends waited as well (figures: `benches/README.md`).
//!
//! What an earlier segment left in such a file is never taken for a record of the later one: frames have the number and
//! the secret of the segment that they were written to ([`super::frame::FrameHeader::is_of`]). An opening begins without
//! spare files, and nobody depends on one: where it is missing, the next segment has a new file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile};
use super::layout;
use super::recovery::{OpenError, io_error};
use super::shared::lock;

/// Most files that are kept. The sink lets go of a few segments at a time, as often as it commits.
const FILES_MAX: usize = 4;
/// Most bytes of them: four segments of the usual size.
const BYTES_MAX: u64 = 512 << 20;

/// The file of a segment that nobody reads any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpareFile {
    pub(super) path: PathBuf,
    /// How many bytes it takes.
    pub(super) bytes: u64,
}

/// A file that becomes a segment.
#[derive(Debug)]
pub(super) struct OpenSpare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

/// The files that are kept.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<SpareFile>>);

impl Spares {
    /// Whether one of so many bytes more would be kept.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let files = lock(&self.0);
        let kept: u64 = files.iter().map(|file| file.bytes).sum();
        files.len() < FILES_MAX && kept.saturating_add(bytes) <= BYTES_MAX
    }

    /// Keeps a file whose name is durable.
    pub(super) fn keep(&self, file: SpareFile) {
        lock(&self.0).push(file);
    }

    /// Bytes of the file that [`Spares::take`] would give; 0 when there is none.
    pub(super) fn next_bytes(&self) -> u64 {
        lock(&self.0).last().map_or(0, |file| file.bytes)
    }

    /// Gives one of the files; it is the caller's from now on. The latest: it is the likeliest to be in memory. One that
    /// cannot be opened, as somebody has removed it, is passed over.
    pub(super) fn take(&self, disk: &dyn Disk) -> Option<OpenSpare> {
        loop {
            let SpareFile { path, .. } = lock(&self.0).pop()?;
            match disk.open(&path, true) {
                Ok(file) => return Some(OpenSpare { path, file }),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "a spare file of the journal is of no use");
                }
            }
        }
    }

    /// Removes all files, because the disk needs the room; one that cannot be removed stays for the next time. Says
    /// whether one is gone.
    pub(super) fn remove_all(&self, disk: &dyn Disk) -> bool {
        let mut files = lock(&self.0);
        let before = files.len();
        files.retain(|file| match disk.remove(&file.path) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(%error, path = %file.path.display(), "cannot remove a spare file of the journal");
                true
            }
        });
        files.len() < before
    }
}

/// Removes what an earlier opening kept.
///
/// # Errors
/// [`OpenError::Io`].
pub(super) fn remove_left(disk: &dyn Disk, directory: &Path) -> Result<(), OpenError> {
    let files = disk.list(directory).map_err(io_error("list", directory))?;
    for path in files.iter().filter(|path| layout::is_spare(path)) {
        disk.remove(path).map_err(io_error("remove", path))?;
    }
    Ok(())
}
