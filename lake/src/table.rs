//! One stream's table: opening, following, and the one commit that carries files and positions (I-2).
//!
//! # The order of a table
//! Delta's row tracking gives every added file its `baseRowId`, so that fixes the order of files, whoever wrote
//! them; inside of a file rows keep journal order.
//!
//! # Why every commit compares positions
//! Neither Delta nor any library refuses a `txn` that repeats or skips. So before each commit the stored offset is
//! compared with where the files begin. A commit whose outcome is unknown is looked up by its `txn`; no file is
//! ever deleted because of one.

mod definition;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use arrow_schema::SchemaRef;
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{FileMeta, Snapshot as DeltaSnapshot};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use event::{Offset, Partition, StreamDeclaration};
use url::Url;

use crate::error::{CommitError, LakeError};
use crate::options::{CompactOptions, LakeOptions, WriterOptions};
use crate::snapshot::Snapshot;
use crate::tables::{Engine, run};
use crate::verify::{VerifyReport, verify};
use crate::writer::{FileWriter, WrittenFile};

/// Who wrote a commit.
const ENGINE_INFO: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));
/// The domain of our own metadata in a table.
const DOMAIN: &str = "tidemill";
/// Versions between two checkpoints: a reader that opens the table reads at most so many commits.
const CHECKPOINT_EVERY: u64 = 50;
/// How often a commit is tried when somebody else's came first.
const CONFLICTS_MAX: usize = 10;

/// A range of offsets of one partition that a commit covers: [from, to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// The first offset of the files.
    pub from: Offset,
    /// The offset after the last one.
    pub to: Offset,
}

/// What compaction did.
#[derive(Clone, Debug, Default)]
pub struct CompactReport {
    /// Files that were merged.
    pub files_removed: u64,
    /// Files that came of it.
    pub files_added: u64,
    /// Rows in them.
    pub rows: u64,
}

/// What vacuum did.
#[derive(Clone, Debug, Default)]
pub struct VacuumReport {
    /// Data files that were deleted.
    pub files_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Log entries that were deleted.
    pub log_files_deleted: u64,
}

/// One stream's table.
#[derive(Debug)]
pub struct Table {
    inner: Arc<Inner>,
    /// One commit at a time.
    committing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) stream: Arc<StreamDeclaration>,
    pub(crate) directory: PathBuf,
    url: Url,
    journal: String,
    read_only: bool,
    engine: Arc<Engine>,
    schema: SchemaRef,
    /// The newest version that was seen.
    current: RwLock<Option<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    delta: SnapshotRef,
    ours: Arc<Snapshot>,
}

/// What our metadata in a table says.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct TableMetadata {
    /// The journal that fills it.
    journal: String,
    /// Events that retention removed.
    removed: u64,
}

impl Table {
    pub(crate) fn open(
        stream: Arc<StreamDeclaration>,
        options: &LakeOptions,
        engine: Arc<Engine>,
    ) -> Result<Self, LakeError> {
        let directory = options.root.join(stream.name.as_str());
        let schema = event::schema::lake(&stream);
        let url = Url::from_directory_path(&directory);
        let url = url.map_err(|()| {
            failed(
                &stream,
                "name",
                &format!("`{}` is no absolute path", directory.display()),
            )
        })?;
        let inner = Inner {
            stream,
            directory,
            url,
            journal: options.journal.clone(),
            read_only: options.read_only,
            engine,
            schema,
            current: RwLock::new(None),
        };
        inner.open()?;
        Ok(Self {
            inner: Arc::new(inner),
            committing: tokio::sync::Mutex::default(),
        })
    }

    /// The stream that this is the table of.
    #[must_use]
    pub fn declaration(&self) -> &Arc<StreamDeclaration> {
        &self.inner.stream
    }

    /// The newest version. Costs a listing of the log's end when nothing changed.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, LakeError> {
        let inner = Arc::clone(&self.inner);
        run(move || {
            Ok(inner
                .refresh()?
                .map_or_else(|| inner.empty(), |current| current.ours))
        })
        .await
    }

    /// Begins a file.
    ///
    /// # Errors
    /// [`LakeError::ReadOnly`].
    pub fn writer(&self, options: &WriterOptions) -> Result<FileWriter, LakeError> {
        if self.inner.read_only {
            return Err(LakeError::ReadOnly);
        }
        let inner = &self.inner;
        let (stream, directory) = (inner.stream.name.to_string(), inner.directory.clone());
        Ok(FileWriter::new(
            stream,
            directory,
            Arc::clone(&inner.schema),
            inner.stream.key.clone(),
            options.clone(),
        ))
    }

    /// Appends files and moves positions in one durable commit, after checking that each `advance.from` is the
    /// stored position. Several files keep their order. An unknown outcome is looked up before this returns.
    ///
    /// # Errors
    /// [`CommitError::NotContiguous`] when the files do not begin where the table ends; nothing is written then.
    pub async fn commit(
        &self,
        files: Vec<WrittenFile>,
        advance: &[Advance],
    ) -> Result<Arc<Snapshot>, CommitError> {
        if self.inner.read_only {
            return Err(LakeError::ReadOnly.into());
        }
        let _one_at_a_time = self.committing.lock().await;
        let begun = std::time::Instant::now();
        let (inner, advance) = (Arc::clone(&self.inner), advance.to_vec());
        let snapshot = run(move || inner.commit(&files, &advance)).await?;
        metrics::histogram!("tidemill_lake_commit_seconds").record(begun.elapsed());
        let stream = self.inner.stream.name.to_string();
        metrics::gauge!("tidemill_lake_files", "stream" => stream).set(snapshot.files.len() as f64);
        Ok(snapshot)
    }

    /// Merges small neighbouring files.
    ///
    /// # Errors
    /// [`LakeError::NotBuilt`].
    pub async fn compact(&self, _options: &CompactOptions) -> Result<CompactReport, LakeError> {
        Err(self.not_built("compact"))
    }

    /// Removes whole oldest files whose newest event is older than the stream's `retention` at `now`, in
    /// microseconds. Gives the number of events removed.
    ///
    /// # Errors
    /// [`LakeError::NotBuilt`] when the stream has a retention.
    pub async fn expire(&self, _now: i64) -> Result<u64, LakeError> {
        if self.inner.stream.retention.is_none() {
            Ok(0)
        } else {
            Err(self.not_built("expire events of"))
        }
    }

    /// Deletes files and log entries that no reader needs any more.
    ///
    /// # Errors
    /// [`LakeError::NotBuilt`].
    pub async fn vacuum(&self) -> Result<VacuumReport, LakeError> {
        Err(self.not_built("vacuum"))
    }

    /// Compares the files with what the log says about them.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read; what is wrong with files is in the report.
    pub async fn verify(&self) -> Result<VerifyReport, LakeError> {
        let snapshot = self.snapshot().await?;
        run(move || Ok(verify(&snapshot))).await
    }

    fn not_built(&self, operation: &'static str) -> LakeError {
        LakeError::NotBuilt {
            operation,
            stream: self.inner.stream.name.to_string(),
        }
    }
}

impl Inner {
    fn open(&self) -> Result<(), LakeError> {
        if !self.directory.join("_delta_log").exists() {
            if self.read_only {
                return Ok(());
            }
            self.create()?;
        }
        let Some(current) = self.refresh()? else {
            return Ok(());
        };
        let found = self.metadata(&current.delta)?.journal;
        if found != self.journal && !self.read_only {
            let (stream, expected) = (self.stream.name.to_string(), self.journal.clone());
            return Err(LakeError::OtherJournal {
                stream,
                found,
                expected,
            });
        }
        if current.ours.schema != self.schema && !self.read_only {
            self.add_columns(&current)?;
        }
        Ok(())
    }

    /// Follows the log to its end; `None` while there is no table.
    fn refresh(&self) -> Result<Option<Current>, LakeError> {
        let known = self
            .current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let delta = match &known {
            Some(known) => DeltaSnapshot::builder_from(Arc::clone(&known.delta)).build(&*self.engine),
            None if !self.directory.join("_delta_log").exists() => return Ok(None),
            None => DeltaSnapshot::builder_for(self.url.as_str()).build(&*self.engine),
        };
        let delta = delta.map_err(|error| self.failed("read", &error))?;
        if let Some(known) = known.filter(|known| known.delta.version() == delta.version()) {
            return Ok(Some(known));
        }
        let ours = Arc::new(self.describe(&delta)?);
        let mut current = self
            .current
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let newest = current
            .take()
            .filter(|newer| newer.delta.version() >= delta.version());
        let newest = newest.unwrap_or(Current { delta, ours });
        *current = Some(newest.clone());
        Ok(Some(newest))
    }

    fn describe(&self, delta: &SnapshotRef) -> Result<Snapshot, LakeError> {
        let metadata = self.metadata(delta)?;
        let schema: arrow_schema::Schema = delta
            .schema()
            .as_ref()
            .try_into_arrow()
            .map_err(|error| self.failed("describe", &error))?;
        let files = crate::files::read(self, delta, metadata.removed)?;
        Ok(Snapshot {
            version: delta.version(),
            directory: self.directory.clone(),
            schema: Arc::new(schema),
            files,
            positions: self.positions(delta)?,
            removed: metadata.removed,
        })
    }

    /// Positions by partition. Partitions are numbered from 0 without a gap, so the first without one ends them.
    fn positions(&self, delta: &SnapshotRef) -> Result<Vec<event::Position>, LakeError> {
        let mut positions = Vec::new();
        for partition in (0..).map(Partition) {
            let stored = delta.get_app_id_version(&self.app_id(partition), &*self.engine);
            let Some(stored) = stored.map_err(|error| self.failed("read positions of", &error))? else {
                break;
            };
            let offset = u64::try_from(stored).map_err(|error| self.failed("read positions of", &error))?;
            positions.push(event::Position::new(partition, Offset(offset)));
        }
        Ok(positions)
    }

    fn app_id(&self, partition: Partition) -> String {
        format!("tidemill/{}/{partition}", self.stream.name)
    }

    /// What a read-only lake shows of a table that is not there yet.
    fn empty(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            version: 0,
            directory: self.directory.clone(),
            schema: Arc::clone(&self.schema),
            files: Arc::from([]),
            positions: Vec::new(),
            removed: 0,
        })
    }

    fn commit(&self, files: &[WrittenFile], advance: &[Advance]) -> Result<Arc<Snapshot>, CommitError> {
        for _ in 0..CONFLICTS_MAX {
            let current = self
                .refresh()?
                .ok_or_else(|| self.failed("commit to", &"the table is gone"))?;
            for advance in advance {
                let stored = current.ours.position(advance.partition).offset;
                if stored != advance.from {
                    let from = event::Position::new(advance.partition, advance.from);
                    return Err(CommitError::NotContiguous { from, stored });
                }
            }
            match self.try_commit(&current, files, advance) {
                Ok(true) => return Ok(self.after_commit()?),
                Ok(false) => {}
                Err(error) => {
                    // Done or not? The log knows: our positions are in it, or they are not.
                    let now = self.refresh()?.map(|current| current.ours);
                    let reached = |now: &Arc<Snapshot>| {
                        advance
                            .iter()
                            .all(|advance| now.position(advance.partition).offset == advance.to)
                    };
                    return now
                        .filter(reached)
                        .filter(|_| !advance.is_empty())
                        .ok_or(CommitError::Lake(error));
                }
            }
        }
        Err(self
            .failed("commit to", &format!("others came first {CONFLICTS_MAX} times"))
            .into())
    }

    /// Tries to put the next version into the log; `false` when somebody else's is there already.
    fn try_commit(
        &self,
        current: &Current,
        files: &[WrittenFile],
        advance: &[Advance],
    ) -> Result<bool, LakeError> {
        let commit = |error: &dyn std::fmt::Display| self.failed("commit to", error);
        let mut builder =
            Arc::clone(&current.delta).update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true);
        for advance in advance {
            let version = i64::try_from(advance.to.0).map_err(|error| commit(&error))?;
            builder = builder.with_transaction_id(self.app_id(advance.partition), version);
        }
        let transaction = builder.build(&*self.engine, Box::new(FileSystemCommitter::new()));
        let mut transaction = transaction.map_err(|error| commit(&error))?;
        let context = transaction
            .write_state()
            .and_then(|state| state.write_context_builder().build());
        let context = context.map_err(|error| commit(&error))?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        for file in files {
            let location = self.url.join(&file.path).map_err(|error| commit(&error))?;
            let meta = FileMeta {
                location,
                last_modified: now.as_millis() as i64,
                size: file.bytes,
            };
            let metadata = DataFileMetadata::new(meta, file.statistics.to_struct());
            transaction
                .add_files(build_add_file_metadata(metadata, &context).map_err(|error| commit(&error))?);
        }
        match transaction
            .commit(&*self.engine)
            .map_err(|error| commit(&error))?
        {
            CommitResult::Committed(_) => Ok(true),
            CommitResult::Conflicted(_) => Ok(false),
            CommitResult::Retryable(retryable) => Err(commit(&retryable.error)),
        }
    }

    fn after_commit(&self) -> Result<Arc<Snapshot>, LakeError> {
        let current = self
            .refresh()?
            .ok_or_else(|| self.failed("read", &"the table is gone"))?;
        let version = current.delta.version();
        if version > 0 && version.is_multiple_of(CHECKPOINT_EVERY) {
            // A checkpoint only makes opening quicker, so that it failed is no failed commit.
            if let Err(error) = current.delta.checkpoint(&*self.engine, None) {
                tracing::warn!(stream = %self.stream.name, version, %error, "cannot write a checkpoint");
            }
        }
        Ok(current.ours)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn failed(&self, operation: &'static str, message: &dyn std::fmt::Display) -> LakeError {
        failed(&self.stream, operation, message)
    }
}

fn failed(stream: &StreamDeclaration, operation: &'static str, message: &dyn std::fmt::Display) -> LakeError {
    LakeError::Store {
        operation,
        stream: stream.name.to_string(),
        message: message.to_string(),
    }
}
