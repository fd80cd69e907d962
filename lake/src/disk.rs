//! What the lake asks of a disk when it writes, so that tests can fail it, and take the power away, step by step.
//!
//! Every fsync names the place in the code that asks for it ([`SyncPoint`]): a test leaves out each in turn and
//! expects to lose something. Reads are not here: they go to the file system as it is.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Why an fsync is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncPoint {
    /// The bytes of a Parquet file, before a commit lists it (I-3).
    DataFile,
    /// The table's directory, which names the Parquet file, before a commit lists it (I-3).
    DataEntry,
    /// The bytes of a commit or checkpoint, before it gets its name.
    LogFile,
    /// The log's directory, which names the commit, before its position counts (I-3).
    LogEntry,
    /// The directory in which a directory was made.
    DirectoryEntry,
    /// The log's directory when a table is opened for writing: the process before may have ended between a commit
    /// and its fsync, and the position is told to the journal from now on.
    OpenedLog,
    /// The log's directory when a commit whose outcome was unknown was found, before it counts.
    FoundCommit,
}

impl SyncPoint {
    /// Every place.
    pub const ALL: [Self; 7] = [
        Self::DataFile,
        Self::DataEntry,
        Self::LogFile,
        Self::LogEntry,
        Self::DirectoryEntry,
        Self::OpenedLog,
        Self::FoundCommit,
    ];
}

/// How files and directories are made.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates an empty file; one of that name must not exist.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, else what the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes one directory, whose parent exists.
    ///
    /// # Errors
    /// `AlreadyExists` when it is there, else what the system says.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// What the system says; the lake takes no more writes then (I-8).
    fn sync_directory(&self, path: &Path, point: SyncPoint) -> io::Result<()>;
}

/// A file that is being written from its beginning to its end.
pub trait DiskFile: Send + Debug {
    /// Appends all bytes.
    ///
    /// # Errors
    /// What the system says; how much was written is unknown then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says; the lake takes no more writes then (I-8).
    fn sync(&mut self, point: SyncPoint) -> io::Result<()>;
}

/// So many bytes of a new file are written out as soon as they are there. A row group at once would keep the disk busy
/// for tens of milliseconds, and whoever waits for the journal's fdatasync meanwhile: with 1 MiB at a time, p99.9 of
/// such an fdatasync went from 16 ms to 4 ms (13 MiB twice a second beside 1,100 fdatasyncs of 40 KiB a second).
const WRITE_OUT_BYTES: u64 = 1 << 20;

/// The real one.
#[derive(Debug)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(LocalFile {
            file: File::create_new(path)?,
            written: 0,
            started: 0,
        }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the durable store fsyncs the directory after it"
    )]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn sync_directory(&self, path: &Path, _point: SyncPoint) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// A new file.
#[derive(Debug)]
struct LocalFile {
    file: File,
    /// Bytes so far.
    written: u64,
    /// Bytes that the system was told to write out.
    started: u64,
}

impl DiskFile for LocalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_OUT_BYTES as usize) {
            self.file.write_all(piece)?;
            self.written += piece.len() as u64;
            if self.written - self.started >= WRITE_OUT_BYTES {
                self.start_writing_out();
            }
        }
        Ok(())
    }

    fn sync(&mut self, _point: SyncPoint) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl LocalFile {
    /// Asks the system to begin with what is new, and does not wait for the disk. Linux does so for pages that are said
    /// not to be needed. It then lets go of those that are on disk already, which hardly any of them are (of 286 MiB
    /// that were written like this 99 % stayed in memory); the call that only begins, `sync_file_range`, is not to be had
    /// without `unsafe`.
    fn start_writing_out(&mut self) {
        let length = NonZeroU64::new(self.written - self.started);
        if let Err(error) = fadvise(&self.file, self.started, length, Advice::DontNeed) {
            tracing::trace!(%error, "a file is written out when the system likes");
        }
        self.started = self.written;
    }
}
