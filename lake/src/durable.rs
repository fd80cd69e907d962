//! Writing so that what is called done survives a power cut (I-3), and never again after an fsync failed (I-8).
//!
//! After a failed fsync the page cache may show what the disk does not have, and a second fsync may call it
//! durable. So the first failure closes the lake for writing; only a restart, which reads what is there, opens it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::disk::{Disk, DiskFile, SyncPoint};
use crate::error::LakeError;

/// A disk until its first failed fsync.
#[derive(Debug)]
pub(crate) struct Durable {
    disk: Arc<dyn Disk>,
    /// What the first failed fsync said.
    failed: watch::Sender<Option<String>>,
}

impl Durable {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        let failed = watch::Sender::new(None);
        Self { disk, failed }
    }

    /// Refuses after a failed fsync.
    pub(crate) fn check(&self) -> Result<(), LakeError> {
        match &*self.failed.borrow() {
            None => Ok(()),
            Some(message) => Err(LakeError::SyncFailed {
                message: message.clone(),
            }),
        }
    }

    /// Waits until an fsync fails.
    pub(crate) async fn sync_failed(&self) -> LakeError {
        let mut failed = self.failed.subscribe();
        let message = match failed.wait_for(Option::is_some).await {
            Ok(message) => message.clone().unwrap_or_default(),
            // The sender is ours: it is not dropped before.
            Err(_) => std::future::pending().await,
        };
        LakeError::SyncFailed { message }
    }

    /// Begins a file.
    pub(crate) fn create(self: &Arc<Self>, path: &Path) -> io::Result<DurableFile> {
        self.writable()?;
        Ok(DurableFile {
            path: path.to_owned(),
            file: self.disk.create(path)?,
            bytes: 0,
            durable: Arc::clone(self),
        })
    }

    /// Gives a durable file its name, and makes the name durable. With `create` exactly one of several writers
    /// gets the name; without, it replaces what was there.
    pub(crate) fn place(&self, temporary: &Path, path: &Path, create: bool) -> io::Result<()> {
        self.writable()?;
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if create {
            self.disk.link(temporary, path)?;
            // What is left over is never read; vacuum removes it.
            self.disk.remove(temporary).ok();
        } else {
            self.disk.rename(temporary, path)?;
        }
        self.sync_directory(directory, SyncPoint::LogEntry)
    }

    /// Removes a file that nobody needs.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.writable()?;
        self.disk.remove(path)
    }

    /// Makes a directory's entries durable.
    pub(crate) fn sync_directory(&self, path: &Path, point: SyncPoint) -> io::Result<()> {
        self.writable()?;
        let synced = self.disk.sync_directory(path, point);
        synced.inspect_err(|error| self.fail(point, path, error))
    }

    /// Creates a directory and those above it that are missing.
    ///
    /// They are made from the top down, each durable before the next one is made in it. So of the directories that
    /// exist, only the lowest one's own entry may have been left undurable by a process that ended early: it is
    /// made so now.
    pub(crate) fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.writable()?;
        let directory = std::path::absolute(directory)?;
        let missing: Vec<_> = directory.ancestors().take_while(|path| !path.exists()).collect();
        if let Some(above) = directory
            .ancestors()
            .nth(missing.len())
            .and_then(|lowest| lowest.parent())
        {
            match self.disk.sync_directory(above, SyncPoint::DirectoryEntry) {
                // Who may not read the directory above did not make anything in it either.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    self.fail(SyncPoint::DirectoryEntry, above, &error);
                    return Err(error);
                }
                _ => {}
            }
        }
        for path in missing.into_iter().rev() {
            match self.disk.create_directory(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
            self.sync_directory(parent, SyncPoint::DirectoryEntry)?;
        }
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        self.check().map_err(io::Error::other)
    }

    fn fail(&self, point: SyncPoint, path: &Path, error: &io::Error) {
        let message = format!("fsync of `{}` ({point:?}): {error}", path.display());
        tracing::error!(
            message,
            "an fsync failed, the lake takes no more writes until a restart"
        );
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(message);
            first
        });
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct DurableFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    durable: Arc<Durable>,
}

impl DurableFile {
    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self, point: SyncPoint) -> io::Result<()> {
        self.durable.writable()?;
        let synced = self.file.sync(point);
        synced.inspect_err(|error| self.durable.fail(point, &self.path, error))
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name beside `path` that begins with `_`, so that Delta readers look past it.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    path.with_file_name(format!("_{}{TEMPORARY}", uuid::Uuid::new_v4().simple()))
}

/// Whether a name is one that [`temporary_name`] gave.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('_') && name.ends_with(TEMPORARY)
}

const TEMPORARY: &str = ".new";
