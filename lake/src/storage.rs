//! The files of one table, in a directory or in a bucket: what the table does beside Delta's kernel.
//!
//! A directory is read as the file system has it, without a detour over the object store's interface; what is
//! written there is durable when it is called done (`durable`). A bucket's objects are durable when they are
//! answered, so every fsync is nothing there.
//!
//! Everything here blocks.

mod rows;

use std::fs::{DirEntry, Metadata};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use object_store::ObjectMeta;
use url::Url;

use crate::bucket::{Bucket, Upload};
use crate::directory::{BucketDirectory, Directory};
use crate::disk::SyncPoint;
use crate::durable::{Durable, DurableFile};
use crate::error::LakeError;
use rows::Opened;
pub(crate) use rows::Rows;

/// The directory of a table's log.
pub(crate) const LOG: &str = "_delta_log";

/// The files of one table.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// In a directory.
    Local {
        directory: PathBuf,
        durable: Arc<Durable>,
    },
    /// In a bucket.
    Bucket {
        directory: BucketDirectory,
        bucket: Arc<Bucket>,
    },
}

/// A file as its directory names it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// A file that is being written. Given up, unless it is finished.
#[derive(Debug)]
pub(crate) enum NewBytes {
    /// In a directory.
    Local {
        file: DurableFile,
        directory: PathBuf,
        durable: Arc<Durable>,
    },
    /// In a bucket.
    Bucket(Upload),
}

impl Storage {
    /// For readers.
    pub(crate) fn directory(&self) -> Directory {
        match self {
            Self::Local { directory, .. } => Directory::Local(directory.clone()),
            Self::Bucket { directory, .. } => Directory::Bucket(directory.clone()),
        }
    }

    /// For the kernel. Ends with `/`.
    pub(crate) fn url(&self) -> Result<Url, String> {
        match self {
            Self::Local { directory, .. } => Url::from_directory_path(directory)
                .map_err(|()| format!("`{}` is no absolute path", directory.display())),
            Self::Bucket { directory, .. } => {
                let url = format!(
                    "{}/{}/",
                    directory.url.as_str().trim_end_matches('/'),
                    directory.prefix
                );
                Url::parse(&url).map_err(|error| error.to_string())
            }
        }
    }

    /// Refuses after a failed fsync (I-8).
    pub(crate) fn check(&self) -> Result<(), LakeError> {
        match self {
            Self::Local { durable, .. } => durable.check(),
            Self::Bucket { .. } => Ok(()),
        }
    }

    /// Waits until an fsync fails.
    pub(crate) async fn sync_failed(&self) -> LakeError {
        match self {
            Self::Local { durable, .. } => durable.sync_failed().await,
            Self::Bucket { .. } => std::future::pending().await,
        }
    }

    /// Makes the directories that are missing, and durable what the log's directory has.
    pub(crate) fn begin_log(&self) -> io::Result<()> {
        match self {
            Self::Local { directory, durable } => {
                let log = directory.join(LOG);
                durable.create_directory(&log)?;
                durable.sync_directory(&log, SyncPoint::OpenedLog)
            }
            Self::Bucket { .. } => Ok(()),
        }
    }

    /// Makes durable what the log's directory has.
    pub(crate) fn sync_log(&self, point: SyncPoint) -> io::Result<()> {
        match self {
            Self::Local { directory, durable } => durable.sync_directory(&directory.join(LOG), point),
            Self::Bucket { .. } => Ok(()),
        }
    }

    /// A file's bytes; `None` when it is not there.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        match self {
            Self::Local { directory, .. } => match std::fs::read(directory.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => Ok(Some(read?.into())),
            },
            Self::Bucket { directory, bucket } => bucket.read(directory.path(name)),
        }
    }

    /// The same of several files; from a bucket they are read at once.
    pub(crate) fn read_all(&self, names: &[String]) -> io::Result<Vec<Option<Bytes>>> {
        match self {
            Self::Local { .. } => names.iter().map(|name| self.read(name)).collect(),
            Self::Bucket { directory, bucket } => {
                bucket.read_all(names.iter().map(|name| directory.path(name)).collect())
            }
        }
    }

    /// Whether there is a file of that name.
    pub(crate) fn exists(&self, name: &str) -> io::Result<bool> {
        match self {
            Self::Local { directory, .. } => directory.join(name).try_exists(),
            Self::Bucket { directory, bucket } => Ok(bucket.look(directory.path(name))?.is_some()),
        }
    }

    /// The files right in the table's directory, or in one below it.
    pub(crate) fn list(&self, below: &str) -> io::Result<Vec<Found>> {
        match self {
            Self::Local { directory, .. } => files_of(&directory.join(below)),
            Self::Bucket { directory, bucket } => {
                let objects = bucket.list(directory.path(below))?;
                Ok(objects.into_iter().filter_map(found).collect())
            }
        }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Local { directory, durable } => match durable.remove(&directory.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            Self::Bucket { directory, bucket } => bucket.remove(directory.path(name)),
        }
    }

    /// Begins a file.
    pub(crate) fn create(&self, name: &str) -> io::Result<NewBytes> {
        match self {
            Self::Local { directory, durable } => Ok(NewBytes::Local {
                file: durable.create(&directory.join(name))?,
                directory: directory.clone(),
                durable: Arc::clone(durable),
            }),
            Self::Bucket { directory, bucket } => Ok(NewBytes::Bucket(bucket.create(directory.path(name)))),
        }
    }

    /// The clock by which files are dated.
    pub(crate) fn now(&self) -> io::Result<SystemTime> {
        match self {
            Self::Local { .. } => Ok(SystemTime::now()),
            Self::Bucket { directory, bucket } => bucket.now(directory),
        }
    }

    /// A file's size; `None` when it is not there.
    pub(crate) fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match self {
            Self::Local { directory, .. } => match std::fs::metadata(directory.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                metadata => Ok(Some(metadata?.len())),
            },
            Self::Bucket { directory, bucket } => {
                let found = bucket.look(directory.path(name))?;
                Ok(found.map(|found| found.size))
            }
        }
    }

    /// Opens a Parquet file of `bytes` bytes, to read `rows` rows at once; only `columns` of it, when they are named.
    ///
    /// # Errors
    /// What cannot be read, in words.
    pub(crate) fn open(
        &self,
        name: &str,
        bytes: u64,
        rows: usize,
        columns: Option<&[&str]>,
    ) -> Result<Opened, String> {
        match self {
            Self::Local { directory, .. } => rows::open_file(&directory.join(name), rows, columns),
            Self::Bucket { directory, bucket } => {
                rows::open_object(bucket, directory.path(name), bytes, rows, columns)
            }
        }
    }
}

impl NewBytes {
    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Local { file, .. } => file.bytes(),
            Self::Bucket(upload) => upload.bytes(),
        }
    }

    /// Makes the file durable, and the directory that names it (I-3). Gives its size.
    pub(crate) fn finish(self) -> io::Result<u64> {
        let bytes = self.bytes();
        match self {
            Self::Local {
                mut file,
                directory,
                durable,
            } => {
                file.sync(SyncPoint::DataFile)?;
                durable.sync_directory(&directory, SyncPoint::DataEntry)?;
            }
            Self::Bucket(upload) => upload.finish()?,
        }
        Ok(bytes)
    }
}

impl Write for NewBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local { file, .. } => file.write(bytes),
            Self::Bucket(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn found(object: ObjectMeta) -> Option<Found> {
    Some(Found {
        name: object.location.filename()?.to_owned(),
        bytes: object.size,
        modified: object.last_modified.into(),
    })
}

/// The files of a directory, without those of directories in it, and without names that are none of ours.
fn files_of(directory: &FilePath) -> io::Result<Vec<Found>> {
    let found = |entry: io::Result<DirEntry>| -> io::Result<Option<Found>> {
        let entry = entry?;
        let metadata: Metadata = match entry.metadata() {
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        let Ok(name) = entry.file_name().into_string() else {
            return Ok(None);
        };
        let modified = metadata.modified()?;
        Ok(metadata.is_file().then_some(Found {
            name,
            bytes: metadata.len(),
            modified,
        }))
    };
    std::fs::read_dir(directory)?
        .filter_map(|entry| found(entry).transpose())
        .collect()
}
