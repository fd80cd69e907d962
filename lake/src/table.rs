//! One stream's table: opening, following, and the one commit that carries files and positions (I-2).
//!
//! # The order of a table
//! Delta's row tracking gives every added file its `baseRowId`, so that fixes the order of files, whoever wrote
//! them; inside of a file rows keep journal order. What compaction merges keeps the place of its first row (see
//! `files`).
//!
//! # Why every commit compares positions
//! Neither Delta nor any library refuses a `txn` that repeats or skips. So before each commit the stored offset is
//! compared with where the files begin. A commit whose outcome is unknown is looked up by its `txn` and made
//! durable before it counts; no file is ever deleted because of one.
//!
//! # Several processes
//! The log is the only thing that they share. The next version is put there only if nobody else's is (`commit`); who
//! comes second reads it, compares again, and builds anew on top of it, so that Delta numbers the rows anew. A
//! process that was thought dead and wakes up finds its partitions moved on, and writes nothing. Maintenance belongs
//! to one of them, but two at once only waste work: a merge whose sources are not there any more as they were is
//! given up, and vacuum goes by age where it cannot know.

mod adoption;
mod commit;
mod compaction;
mod comparison;
mod definition;
mod follow;
mod partition_rows;
mod retention;
mod seen;
mod source;
mod unlisted;
mod vacuum;

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use arrow_schema::SchemaRef;
use delta_kernel::snapshot::SnapshotRef;
use event::{Offset, Partition, Position, StreamDeclaration};
use url::Url;

use crate::directory::Directory;
use crate::error::{CommitError, LakeError};
use crate::files::Place;
use crate::log;
use crate::options::{CompactOptions, WriterOptions};
use crate::runtime::run;
use crate::snapshot::Snapshot;
use crate::storage::Storage;
use crate::tables::Engine;
use crate::writer::{FileWriter, NewFile, WrittenFile};
use compaction::Cancel;
pub use partition_rows::PartitionRows;
pub use source::Source;
pub(crate) use source::{Sources, journals_of};
use unlisted::Unlisted;
pub(crate) use unlisted::UnlistedName;

/// Who wrote a commit.
const ENGINE_INFO: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));
/// The domain of our own metadata in a table.
const DOMAIN: &str = "tidemill";
/// Versions between two checkpoints: a reader that opens the table reads about so many commits.
const CHECKPOINT_EVERY: u64 = 50;
/// Versions without a checkpoint after which a commit makes one itself, because no maintenance does.
const CHECKPOINT_OVERDUE: u64 = 200;
/// How often a commit is tried when somebody else's came first.
const CONFLICTS_MAX: u32 = 200;
/// For how long it is tried.
const CONFLICT_TIME_MAX: Duration = Duration::from_secs(20);
/// For how long a file that no version lists stays at least, where another process may be about to commit it. Whoever
/// has not committed a file after half of that (or of `keep_removed`, if that is longer) writes it anew.
const UNCOMMITTED_KEPT: Duration = Duration::from_secs(60);
/// Most merges of one call to [`Table::compact`]: other tables wait for their turn.
const MERGES_MAX: usize = 16;

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
    committing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) stream: Arc<StreamDeclaration>,
    pub(crate) storage: Storage,
    directory: Directory,
    url: Url,
    journal: String,
    read_only: bool,
    shared: bool,
    keep_removed: Duration,
    engine: Arc<Engine>,
    schema: SchemaRef,
    /// The newest version that was seen.
    current: RwLock<Option<Current>>,
    checkpointing: Mutex<()>,
    unlisted: Arc<Unlisted>,
}

/// What a table is opened with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) storage: Storage,
    pub(crate) engine: Arc<Engine>,
    /// The id of the journal that fills it.
    pub(crate) journal: String,
    pub(crate) read_only: bool,
    /// Whether other processes write to it.
    pub(crate) shared: bool,
    pub(crate) keep_removed: Duration,
}

/// A version, as the kernel and as we know it.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    delta: SnapshotRef,
    ours: Arc<Snapshot>,
    /// Of each of our files.
    places: Arc<[Place]>,
    metadata: Arc<TableMetadata>,
    sources: Arc<Sources>,
}

/// What our metadata in a table says.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct TableMetadata {
    /// The journal that fills it.
    journal: String,
    /// Events that retention removed.
    removed: u64,
    /// The indexes of the first events that another journal brought.
    #[serde(default)]
    adopted: Vec<u64>,
}

impl Table {
    pub(crate) fn open(stream: Arc<StreamDeclaration>, setup: Setup) -> Result<Self, LakeError> {
        let inner = Inner::new(stream, setup)?;
        let current = inner.open_log()?;
        if let Some(current) = &current {
            inner.fit(current)?;
        }
        let table = Self {
            inner: Arc::new(inner),
            committing: Arc::default(),
        };
        if let Some(current) = current {
            table.measure(&current.ours);
        }
        Ok(table)
    }

    /// Lets the journal of `setup` fill a table that another one filled.
    pub(crate) fn adopt(
        stream: Arc<StreamDeclaration>,
        setup: Setup,
        start: &[Position],
    ) -> Result<(), LakeError> {
        let inner = Inner::new(stream, setup)?;
        inner.open_log()?;
        inner.adopt(start).map_err(LakeError::from)
    }

    /// The stream that this is the table of.
    #[must_use]
    pub fn declaration(&self) -> &Arc<StreamDeclaration> {
        &self.inner.stream
    }

    /// The id of the journal that fills it.
    #[must_use]
    pub fn journal(&self) -> &str {
        &self.inner.journal
    }

    /// The newest version. Costs a look for the next commit when nothing changed, and reads only the new commits
    /// when something did.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, LakeError> {
        if let Some(current) = self.inner.newest_at_hand()? {
            return Ok(current.ours);
        }
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
    /// [`LakeError::ReadOnly`]; [`LakeError::SyncFailed`] after a failed fsync (I-8).
    pub fn writer(&self, options: &WriterOptions) -> Result<FileWriter, LakeError> {
        self.writable()?;
        let inner = &self.inner;
        let file = inner.new_file(format!("{}.parquet", uuid::Uuid::new_v4()));
        let schema = Arc::clone(&inner.schema);
        Ok(FileWriter::new(
            file,
            Arc::clone(&schema),
            schema,
            options.clone(),
        ))
    }

    /// Appends files and moves positions in one durable commit, after checking that each `advance.from` is the
    /// stored position. Several files keep their order. An unknown outcome is looked up before this returns.
    ///
    /// # Errors
    /// [`CommitError::Moved`] when the table is past the beginning of the files already, which another process has
    /// brought there, [`CommitError::NotContiguous`] when it ends before; nothing is written then.
    /// [`CommitError::Unknown`] when it cannot be found out whether the commit was made, or made durable.
    ///
    /// # Cancellation
    /// The commit goes on; the table's position tells later whether it was made.
    pub async fn commit(
        &self,
        files: Vec<WrittenFile>,
        advance: &[Advance],
    ) -> Result<Arc<Snapshot>, CommitError> {
        let advance = advance.to_vec();
        self.commit_with(move |inner| inner.commit(&files, &advance))
            .await
    }

    async fn commit_with(
        &self,
        commit: impl FnOnce(&Inner) -> Result<Arc<Snapshot>, CommitError> + Send + 'static,
    ) -> Result<Arc<Snapshot>, CommitError> {
        self.writable()?;
        let one_at_a_time = Arc::clone(&self.committing).lock_owned().await;
        let begun = std::time::Instant::now();
        let inner = Arc::clone(&self.inner);
        let snapshot = run(move || {
            let committed = commit(&inner);
            drop(one_at_a_time);
            committed
        })
        .await?;
        metrics::histogram!("tidemill_lake_commit_seconds").record(begun.elapsed());
        self.measure(&snapshot);
        Ok(snapshot)
    }

    /// Merges small neighbouring files, at most [`MERGES_MAX`] times; no index and no row changes. Call it again
    /// until it removes nothing.
    ///
    /// # Errors
    /// [`LakeError::Store`] when files cannot be read or written; [`LakeError::Damaged`] when a file has other rows
    /// than the log says.
    ///
    /// # Cancellation
    /// The merge that is under way is given up; those before it stay.
    pub async fn compact(
        &self,
        options: &CompactOptions,
        writer: &WriterOptions,
    ) -> Result<CompactReport, LakeError> {
        self.writable()?;
        let cancel = Cancel::default();
        let mut report = CompactReport::default();
        for _ in 0..MERGES_MAX {
            let (inner, flag) = (Arc::clone(&self.inner), cancel.flag());
            let (options, writer) = (options.clone(), writer.clone());
            let Some(merged) = run(move || inner.merge(&options, &writer, &flag)).await? else {
                break;
            };
            let (sources, rows) = (merged.sources.len() as u64, merged.file.rows);
            let one_at_a_time = Arc::clone(&self.committing).lock_owned().await;
            let inner = Arc::clone(&self.inner);
            let replaced = run(move || {
                let replaced = inner.replace(&merged);
                drop(one_at_a_time);
                replaced.map_err(LakeError::from)
            });
            if replaced.await? {
                report.files_removed += sources;
                report.files_added += 1;
                report.rows += rows;
            }
        }
        let inner = Arc::clone(&self.inner);
        run(move || inner.checkpoint_if_due()).await?;
        self.measure(&*self.snapshot().await?);
        Ok(report)
    }

    /// Removes whole oldest files whose newest event is older than the stream's `retention` at `now`, in
    /// microseconds. Gives the number of events removed. Their indexes are never given to other events.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the log cannot be read or written.
    pub async fn expire(&self, now: i64) -> Result<u64, LakeError> {
        self.writable()?;
        let Some(retention) = self.inner.stream.retention else {
            return Ok(0);
        };
        let one_at_a_time = Arc::clone(&self.committing).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        let expired = run(move || {
            let expired = inner.expire(now, retention);
            drop(one_at_a_time);
            expired.map_err(LakeError::from)
        });
        let expired = expired.await?;
        self.measure(&*self.snapshot().await?);
        Ok(expired)
    }

    /// Deletes files and log entries that no version of the last `keep_removed` needs.
    ///
    /// # Errors
    /// [`LakeError::Store`] when a directory cannot be read or a file not be deleted.
    pub async fn vacuum(&self) -> Result<VacuumReport, LakeError> {
        self.writable()?;
        let inner = Arc::clone(&self.inner);
        run(move || inner.vacuum()).await
    }

    /// Waits until an fsync of the lake fails: from then on it takes no writes, and the process shall end so that
    /// the next one starts from what is on disk (I-8). For ever when all is well.
    pub async fn sync_failed(&self) -> LakeError {
        self.inner.storage.sync_failed().await
    }

    /// Whether this table may be written.
    fn writable(&self) -> Result<(), LakeError> {
        if self.inner.read_only {
            return Err(LakeError::ReadOnly);
        }
        self.inner.storage.check()
    }

    fn measure(&self, snapshot: &Snapshot) {
        let stream = self.inner.stream.name.to_string();
        let bytes: u64 = snapshot.files.iter().map(|file| file.bytes).sum();
        metrics::gauge!("tidemill_lake_files", "stream" => stream.clone()).set(snapshot.files.len() as f64);
        metrics::gauge!("tidemill_lake_bytes", "stream" => stream).set(bytes as f64);
    }
}

impl Inner {
    fn new(stream: Arc<StreamDeclaration>, setup: Setup) -> Result<Self, LakeError> {
        let schema = event::schema::lake(&stream);
        let url = setup.storage.url();
        let url = url.map_err(|message| failed(&stream, "name", &message))?;
        Ok(Self {
            stream,
            directory: setup.storage.directory(),
            storage: setup.storage,
            url,
            journal: setup.journal,
            read_only: setup.read_only,
            shared: setup.shared,
            keep_removed: setup.keep_removed,
            engine: setup.engine,
            schema,
            current: RwLock::new(None),
            checkpointing: Mutex::default(),
            unlisted: Arc::default(),
        })
    }

    /// Opens the log, and begins it when it is to be written and is not there.
    fn open_log(&self) -> Result<Option<Current>, LakeError> {
        if !self.read_only {
            let begun = self.storage.begin_log();
            begun.map_err(|error| self.write_failed("open", &error))?;
            self.create_unless_there()?;
        }
        self.refresh()
    }

    /// Compares the table with its journal and declaration, and adds columns that are new in the declaration.
    fn fit(&self, current: &Current) -> Result<(), LakeError> {
        if self.read_only {
            return Ok(());
        }
        let found = &current.metadata.journal;
        if *found != self.journal {
            return Err(LakeError::OtherJournal {
                stream: self.stream.name.to_string(),
                found: found.clone(),
                expected: self.journal.clone(),
            });
        }
        self.add_columns(current.clone())
    }

    /// Whether the log has a first version, or a checkpoint because the entries before it have expired.
    fn is_created(&self) -> Result<bool, LakeError> {
        log::is_begun(&self.storage).map_err(|error| self.failed("look for", &error))
    }

    /// For how long a file stays that no version lists, because another process may be about to commit it.
    fn uncommitted_kept(&self) -> Duration {
        if self.shared {
            self.keep_removed.max(UNCOMMITTED_KEPT)
        } else {
            self.keep_removed
        }
    }

    /// What a new file of this table is made with.
    fn new_file(&self, name: String) -> NewFile {
        NewFile {
            stream: Arc::clone(&self.stream),
            unlisted: self.unlisted.keep(&name),
            name,
            storage: self.storage.clone(),
        }
    }

    fn app_id(&self, partition: Partition) -> String {
        format!("{}{partition}", self.app_ids())
    }

    /// What the names of our positions begin with.
    fn app_ids(&self) -> String {
        format!("tidemill/{}/", self.stream.name)
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

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// An error of something that wrote: after a failed fsync that is what matters (I-8).
    fn write_failed(&self, operation: &'static str, message: &dyn std::fmt::Display) -> LakeError {
        let failed = self.failed(operation, message);
        self.storage.check().err().unwrap_or(failed)
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
