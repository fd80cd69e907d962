//! Files of segments that nobody needs any more, kept so that the next segments are written into them.
//!
//! Writing over blocks that have been written before changes data and nothing else, so an fdatasync has no commit of
//! the file system's own journal to wait for, neither one of its own nor one that others caused; and removing a file
//! of 128 MiB frees its pages and its blocks, for which appends waited as well (figures: `benches/README.md`).
//!
//! What an earlier segment left in such a file is never taken for a record of the later one: its frames name the
//! segment that they were written to ([`super::frame::FrameHeader::is_of`]). An opening begins without spare files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::disk::Disk;
use super::layout;
use super::recovery::{OpenError, io_error};
use super::shared::lock;

/// Most files that are kept. The sink lets go of a few segments at a time, as often as it commits.
const FILES_MAX: usize = 4;

/// The file of a segment that nobody reads any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpareFile {
    pub(super) path: PathBuf,
    /// How many bytes it takes.
    pub(super) bytes: u64,
}

/// The files that are kept.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<SpareFile>>);

impl Spares {
    /// Whether one more would be kept.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.0).len() < FILES_MAX
    }

    /// Keeps a file whose name is durable.
    pub(super) fn keep(&self, file: SpareFile) {
        lock(&self.0).push(file);
    }

    /// Bytes of the file that [`Spares::take`] would give; 0 when there is none.
    pub(super) fn next_bytes(&self) -> u64 {
        lock(&self.0).last().map_or(0, |file| file.bytes)
    }

    /// Gives one of the files; it is the caller's from now on. The latest: it is the likeliest to be in memory.
    pub(super) fn take(&self) -> Option<SpareFile> {
        lock(&self.0).pop()
    }

    /// Removes all files, because the disk needs the room. Says whether there was one.
    ///
    /// # Errors
    /// What the system says; the file in question stays until the next opening.
    pub(super) fn remove_all(&self, disk: &dyn Disk) -> io::Result<bool> {
        let files = std::mem::take(&mut *lock(&self.0));
        files.iter().try_for_each(|file| disk.remove(&file.path))?;
        Ok(!files.is_empty())
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
