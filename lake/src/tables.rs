//! All tables of one directory.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use event::{Position, StreamDeclaration, StreamName};
use tokio::sync::Mutex;

use crate::disk::{Disk, LocalDisk};
use crate::durable::Durable;
use crate::error::LakeError;
use crate::options::LakeOptions;
use crate::store::DurableStore;
use crate::table::Table;

pub(crate) type Engine = DefaultEngine<TokioMultiThreadExecutor>;

/// All tables of one directory. One process writes, others may read.
#[derive(Debug)]
pub struct Lake {
    options: LakeOptions,
    engine: Arc<Engine>,
    durable: Arc<Durable>,
    tables: Mutex<HashMap<StreamName, Arc<Table>>>,
    /// Held for as long as this lake may write; the system frees it when the process ends.
    _lock: Option<File>,
}

impl Lake {
    /// Opens a lake; creates its directory unless it is opened for reading.
    ///
    /// # Errors
    /// [`LakeError::Locked`] while another process writes to it, [`LakeError::Store`] when it cannot be reached.
    pub async fn open(options: LakeOptions) -> Result<Arc<Self>, LakeError> {
        Self::open_on(options, Arc::new(LocalDisk)).await
    }

    /// The same, writing through a disk of the caller's.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub async fn open_on(mut options: LakeOptions, disk: Arc<dyn Disk>) -> Result<Arc<Self>, LakeError> {
        let durable = Arc::new(Durable::new(disk));
        let blocking = move || {
            let failed = |operation, error: std::io::Error| LakeError::Store {
                operation,
                stream: "*".to_owned(),
                message: error.to_string(),
            };
            if !options.read_only {
                durable.create_directory(&options.root).map_err(|error| {
                    let failed = failed("create the directory of", error);
                    durable.check().err().unwrap_or(failed)
                })?;
            }
            options.root =
                std::path::absolute(&options.root).map_err(|error| failed("find the directory of", error))?;
            let locked = if options.read_only {
                None
            } else {
                Some(lock(&options.root)?)
            };
            let engine = DefaultEngineBuilder::new(Arc::new(DurableStore::new(Arc::clone(&durable))))
                .with_task_executor(Arc::clone(executor()?))
                .build();
            let (engine, tables) = (Arc::new(engine), Mutex::default());
            Ok(Arc::new(Self {
                options,
                engine,
                durable,
                tables,
                _lock: locked,
            }))
        };
        run(blocking).await
    }

    /// Opens the stream's table, creates it (empty, row tracking on) or adds the columns that are new in the
    /// declaration. In a read-only lake a table that does not exist yet reads as empty.
    ///
    /// # Errors
    /// [`LakeError::Schema`] when the table does not fit the declaration, [`LakeError::OtherJournal`] when it was
    /// filled from another journal.
    pub async fn table(&self, stream: Arc<StreamDeclaration>) -> Result<Arc<Table>, LakeError> {
        let mut tables = self.tables.lock().await;
        if let Some(table) = tables
            .get(&stream.name)
            .filter(|table| *table.declaration() == stream)
        {
            return Ok(Arc::clone(table));
        }
        let name = stream.name.clone();
        let (options, engine) = (self.options.clone(), Arc::clone(&self.engine));
        let durable = Arc::clone(&self.durable);
        let table = Arc::new(run(move || Table::open(stream, &options, engine, durable)).await?);
        tables.insert(name, Arc::clone(&table));
        Ok(table)
    }
}

impl Lake {
    /// Lets this lake's journal go on filling a table that another journal filled. A partition begins at its
    /// position in `start`, or at 0; indexes go on from the last event. Does nothing when it is this journal's already.
    ///
    /// # Errors
    /// [`LakeError::ReadOnly`], or [`LakeError::Store`] when the log cannot be read or written.
    pub async fn adopt(&self, stream: Arc<StreamDeclaration>, start: &[Position]) -> Result<(), LakeError> {
        if self.options.read_only {
            return Err(LakeError::ReadOnly);
        }
        // Nobody opens a table meanwhile.
        let mut tables = self.tables.lock().await;
        tables.remove(&stream.name);
        let (options, engine) = (self.options.clone(), Arc::clone(&self.engine));
        let (durable, start) = (Arc::clone(&self.durable), start.to_vec());
        run(move || Table::adopt(stream, &options, engine, durable, &start)).await
    }
}

/// The runtime that Delta's file access runs on. The kernel is synchronous and waits for it, so it must not be the
/// caller's; it lives as long as the process, because a runtime must not be dropped inside of another.
fn executor() -> Result<&'static Arc<TokioMultiThreadExecutor>, LakeError> {
    static EXECUTOR: OnceLock<Arc<TokioMultiThreadExecutor>> = OnceLock::new();
    if EXECUTOR.get().is_none() {
        let made = TokioMultiThreadExecutor::new_owned_runtime(Some(1), Some(16));
        let made = made.map_err(|error| LakeError::Store {
            operation: "start the runtime of",
            stream: "*".to_owned(),
            message: error.to_string(),
        })?;
        // Whoever loses the race keeps its runtime alive, too: it is never dropped.
        if let Err(second) = EXECUTOR.set(Arc::new(made)) {
            std::mem::forget(second);
        }
    }
    Ok(EXECUTOR.get().expect("it was just set"))
}

/// Runs what blocks (Delta's log, fsync) off the I/O threads.
pub(crate) async fn run<T: Send + 'static, E: From<LakeError> + Send + 'static>(
    blocking: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(blocking)
        .await
        .unwrap_or_else(|error| {
            let message = format!("its task ended: {error}");
            Err(E::from(LakeError::Store {
                operation: "work on",
                stream: "*".to_owned(),
                message,
            }))
        })
}

fn lock(root: &std::path::Path) -> Result<File, LakeError> {
    let path: PathBuf = root.join("_lock");
    let failed = |message: String| LakeError::Store {
        operation: "lock",
        stream: "*".to_owned(),
        message,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|error| failed(error.to_string()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            LakeError::Locked {
                path: root.display().to_string(),
            }
        } else {
            failed(error.to_string())
        }
    })?;
    Ok(file)
}
