//! All tables of one lake.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use event::{Position, StreamDeclaration, StreamName};
use object_store::ObjectStore;
use rustix::fs::FlockOperation;
use tokio::sync::Mutex;
use url::Url;

use crate::bucket::Bucket;
use crate::disk::{Disk, LocalDisk};
use crate::durable::Durable;
use crate::error::LakeError;
use crate::location::Location;
use crate::options::LakeOptions;
use crate::runtime::{executor, run};
use crate::storage::Storage;
use crate::store::DurableStore;
use crate::table::{Setup, Table};

pub(crate) type Engine = DefaultEngine<TokioMultiThreadExecutor>;

/// All tables of one directory, or of one part of a bucket. One process writes to a directory, or several if it was
/// opened as shared; several to a bucket; any number may read.
#[derive(Debug)]
pub struct Lake {
    options: LakeOptions,
    root: Root,
    engine: Arc<Engine>,
    tables: Mutex<HashMap<StreamName, Arc<Table>>>,
    /// Held for as long as this lake may write; the system frees it when the process ends.
    _lock: Option<File>,
}

/// What the tables lie in.
#[derive(Debug)]
enum Root {
    Local {
        directory: PathBuf,
        durable: Arc<Durable>,
    },
    Bucket(Arc<Bucket>),
}

impl Root {
    fn table(&self, name: &StreamName) -> Storage {
        match self {
            Self::Local { directory, durable } => Storage::Local {
                directory: directory.join(name.as_str()),
                durable: Arc::clone(durable),
            },
            Self::Bucket(bucket) => Storage::Bucket {
                directory: bucket.table(name.as_str()),
                bucket: Arc::clone(bucket),
            },
        }
    }
}

impl Lake {
    /// Opens a lake; creates its directory unless it is opened for reading. Blocks no longer than a minute.
    ///
    /// # Errors
    /// [`LakeError::Locked`] while another process writes to its directory, [`LakeError::Refused`] when its bucket is
    /// not there, does not let us in or cannot be shared, [`LakeError::Store`] when it cannot be reached.
    pub async fn open(options: LakeOptions) -> Result<Arc<Self>, LakeError> {
        Self::open_on(options, Arc::new(LocalDisk)).await
    }

    /// The same, writing through a disk of the caller's when it lies in a directory.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub async fn open_on(options: LakeOptions, disk: Arc<dyn Disk>) -> Result<Arc<Self>, LakeError> {
        run(move || {
            let (root, store, lock): (_, Arc<dyn ObjectStore>, _) = match &options.root {
                Location::Directory(directory) => {
                    let durable = Arc::new(Durable::new(disk));
                    let (directory, lock) = open_directory(directory, &options, &durable)?;
                    let store = Arc::new(DurableStore::new(Arc::clone(&durable)));
                    (Root::Local { directory, durable }, store, lock)
                }
                Location::Bucket { bucket, prefix } => {
                    let bucket = Bucket::open(bucket, prefix, &options.store, options.read_only)?;
                    let store = Arc::clone(&bucket.store);
                    (Root::Bucket(bucket), store, None)
                }
            };
            let engine = DefaultEngineBuilder::new(store)
                .with_task_executor(executor()?)
                .build();
            Ok(Arc::new(Self {
                options,
                root,
                engine: Arc::new(engine),
                tables: Mutex::default(),
                _lock: lock,
            }))
        })
        .await
    }

    /// Opens the stream's table, creates it (empty, row tracking on) or adds the columns that are new in the
    /// declaration. In a read-only lake a table that does not exist yet reads as empty. A table that was opened
    /// already is the same, whatever journal it was opened with; otherwise that of the options counts.
    ///
    /// # Errors
    /// [`LakeError::Schema`] when the table does not fit the declaration, [`LakeError::OtherJournal`] when it was
    /// filled from another journal.
    pub async fn table(&self, stream: Arc<StreamDeclaration>) -> Result<Arc<Table>, LakeError> {
        self.open_table(stream, None).await
    }

    /// The same for a table that the journal of that id fills, where journals have an id for each stream.
    ///
    /// # Errors
    /// As [`Lake::table`].
    pub async fn table_of(
        &self,
        stream: Arc<StreamDeclaration>,
        journal: &str,
    ) -> Result<Arc<Table>, LakeError> {
        self.open_table(stream, Some(journal)).await
    }

    async fn open_table(
        &self,
        stream: Arc<StreamDeclaration>,
        journal: Option<&str>,
    ) -> Result<Arc<Table>, LakeError> {
        let mut tables = self.tables.lock().await;
        if let Some(table) = tables.get(&stream.name).filter(|table| {
            *table.declaration() == stream && journal.is_none_or(|journal| journal == table.journal())
        }) {
            return Ok(Arc::clone(table));
        }
        let name = stream.name.clone();
        let setup = self.setup(&name, journal);
        let table = Arc::new(run(move || Table::open(stream, setup)).await?);
        tables.insert(name, Arc::clone(&table));
        Ok(table)
    }

    /// The bucket that the lake lies in and its URL, for who reads files there; `None` for a directory.
    #[must_use]
    pub fn object_store(&self) -> Option<(Url, Arc<dyn ObjectStore>)> {
        match &self.root {
            Root::Local { .. } => None,
            Root::Bucket(bucket) => Some((bucket.url.clone(), Arc::clone(&bucket.store))),
        }
    }

    fn setup(&self, name: &StreamName, journal: Option<&str>) -> Setup {
        Setup {
            storage: self.root.table(name),
            engine: Arc::clone(&self.engine),
            journal: journal.unwrap_or(&self.options.journal).to_owned(),
            read_only: self.options.read_only,
            shared: self.options.shared || matches!(self.root, Root::Bucket(_)),
            keep_removed: self.options.keep_removed,
        }
    }
}

impl Lake {
    /// Lets this lake's journal go on filling a table that another journal filled. A partition begins at its
    /// position in `start`, or at 0; indexes go on from the last event. Does nothing when it is this journal's already.
    ///
    /// # Errors
    /// [`LakeError::ReadOnly`], or [`LakeError::Store`] when the log cannot be read or written.
    pub async fn adopt(&self, stream: Arc<StreamDeclaration>, start: &[Position]) -> Result<(), LakeError> {
        let journal = self.options.journal.clone();
        self.adopt_of(stream, &journal, start).await
    }

    /// The same for the journal of that id, where journals have an id for each stream.
    ///
    /// # Errors
    /// As [`Lake::adopt`].
    pub async fn adopt_of(
        &self,
        stream: Arc<StreamDeclaration>,
        journal: &str,
        start: &[Position],
    ) -> Result<(), LakeError> {
        if self.options.read_only {
            return Err(LakeError::ReadOnly);
        }
        // Nobody opens a table meanwhile.
        let mut tables = self.tables.lock().await;
        tables.remove(&stream.name);
        let (setup, start) = (self.setup(&stream.name, Some(journal)), start.to_vec());
        run(move || Table::adopt(stream, setup, &start)).await
    }
}

/// Makes and locks the directory, if it is to be written. Gives its absolute path.
fn open_directory(
    directory: &Path,
    options: &LakeOptions,
    durable: &Durable,
) -> Result<(PathBuf, Option<File>), LakeError> {
    let failed = |operation, error: std::io::Error| LakeError::Store {
        operation,
        stream: "*".to_owned(),
        message: error.to_string(),
    };
    if !options.read_only {
        durable.create_directory(directory).map_err(|error| {
            let failed = failed("create the directory of", error);
            durable.check().err().unwrap_or(failed)
        })?;
    }
    let directory = std::path::absolute(directory).map_err(|error| failed("find the directory of", error))?;
    let lock = if options.read_only {
        None
    } else {
        lock(&directory, options.shared)?
    };
    Ok((directory, lock))
}

/// Locks a directory against writers that do not share it.
fn lock(root: &Path, shared: bool) -> Result<Option<File>, LakeError> {
    let failed = |message: String| LakeError::Store {
        operation: "lock",
        stream: "*".to_owned(),
        message,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("_lock"));
    let file = file.map_err(|error| failed(error.to_string()))?;
    let operation = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LakeError::Locked {
            path: root.display().to_string(),
        }),
        // A file system of several machines may have no locks; who shares a table needs none.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::NOLCK) if shared => {
            Ok(None)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}
