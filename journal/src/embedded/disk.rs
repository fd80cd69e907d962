//! The few things that the journal asks of a disk, so that tests can fail them, and take the power away, one by
//! one.
//!
//! Every fsync names the place in the code that asks for it ([`SyncPoint`]): a test leaves out each in turn and
//! expects to lose something.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an fsync is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPoint {
    /// A group of records, before its requests are answered (I-1).
    Group,
    /// The header of a new segment, before the directory names it.
    SegmentHeader,
    /// The directory's entry of a new segment, before a group is written to it.
    SegmentEntry,
    /// What recovery keeps of the last segment, before anybody reads it.
    Recovered,
    /// The directory without a segment that was removed, before the next one is, as a gap would refuse the start, and
    /// before its file is written again.
    Removal,
    /// The entries of the journal's directory and of those above it, before anything is written there.
    Directory,
}

impl SyncPoint {
    /// Every place.
    pub const ALL: [Self; 6] = [
        Self::Group,
        Self::SegmentHeader,
        Self::SegmentEntry,
        Self::Recovered,
        Self::Removal,
        Self::Directory,
    ];
}

/// A directory's files.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates a directory, whose parent exists; it may be there already.
    ///
    /// # Errors
    /// What the system says.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Creates an empty file; one of that name must not exist.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file, for writing when `write`.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// The files of a directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in its directory, at once and as a whole; nothing has that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// What the system says; the journal is poisoned then (I-8).
    fn sync_directory(&self, directory: &Path, point: SyncPoint) -> io::Result<()>;

    /// Bytes that an ordinary user can still write.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all bytes at a place.
    ///
    /// # Errors
    /// What the system says; how much was written is unknown then.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Reads up to `bytes.len()` bytes from a place; fewer only at the file's end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Makes what was written durable, and the file's length with it.
    ///
    /// # Errors
    /// What the system says; the journal is poisoned then (I-8).
    fn sync(&self, point: SyncPoint) -> io::Result<()>;

    /// Reserves room up to a length; what is added reads as zeros.
    ///
    /// # Errors
    /// What the system says.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts the file to a length.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;
}

/// The real one.
#[derive(Debug)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            created => created,
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(write).open(path)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the crate's own store; whoever renames syncs the directory by a point of its own"
    )]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(from, to)
    }

    fn sync_directory(&self, directory: &Path, _point: SyncPoint) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match FileExt::read_at(self, &mut bytes[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn sync(&self, _point: SyncPoint) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            self,
            rustix::fs::FallocateFlags::empty(),
            0,
            length,
        )?)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
