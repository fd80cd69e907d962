//! The stage: what every question shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use event::{Catalog, Position, RecordFormat, StreamDeclaration};
use journal::Journal;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::files::Files;
use crate::key_filters::KeyFilters;
use crate::partial_store::PartialStore;
use crate::pin::{LakeTables, Pin, Pinner, Tables};
use crate::question::Question;
use crate::session::{SessionLimits, base};
use crate::tail::Tail;
use crate::tail_partials::TailPartials;
use crate::tail_rows::{self, TailRows};
use crate::worker::{self, Pool, WorkerOptions};
use crate::{Format, QueryError, SqlAnswer, SqlRequest};

/// Stack of a query thread, in bytes. Planning recurses over what a statement nests; what the guard lets in needs
/// far less.
pub const STACK_BYTES: usize = 32 << 20;

/// Threads that wait for disks in a process that only runs SQL, at the most: each has a stack, and the bound of such
/// a process's memory counts stacks as well. It has one query at a time, so nothing waits behind another's.
pub const BLOCKING_THREADS_MAX: usize = 16;
/// The same where many questions share them.
const SHARED_BLOCKING_THREADS_MAX: usize = 512;

/// Where ad-hoc SQL runs.
#[derive(Clone, Debug)]
pub enum SqlPlace {
    /// In this process, which a statement can end.
    Here,
    /// In this process, which does nothing else: it answers no REST questions.
    OnlyHere,
    /// In worker processes.
    Workers(WorkerOptions),
}

/// Bounds and places.
#[derive(Clone, Debug)]
pub struct AnalyticsOptions {
    /// Where per-file partial aggregates are kept over restarts and queries spill.
    pub cache_directory: PathBuf,
    /// Decoded tail rows that are kept, in bytes.
    pub tail_bytes: usize,
    /// Memory of all queries together, in bytes.
    pub memory_bytes: usize,
    /// Disk for spilling of all queries together, in bytes.
    pub spill_bytes: u64,
    /// Most REST questions at once, and most SQL queries at once that run or wait for a worker; one more gets 429.
    pub queries_max: usize,
    /// Time of a query that names none.
    pub timeout: Duration,
    /// Longest time that a query may ask for.
    pub timeout_max: Duration,
    /// Longest SQL text, in bytes.
    pub sql_bytes_max: usize,
    /// Most rows of a streamed answer; beyond is an error that ends it so that a client notices.
    pub sql_rows_max: u64,
    /// Threads that compute.
    pub threads: usize,
    /// Where SQL runs.
    pub sql: SqlPlace,
}

impl AnalyticsOptions {
    /// The defaults, keeping caches under `cache_directory`.
    #[must_use]
    pub fn new(cache_directory: PathBuf) -> Self {
        Self {
            cache_directory,
            tail_bytes: 128 << 20,
            memory_bytes: 512 << 20,
            spill_bytes: 8 << 30,
            queries_max: 16,
            timeout: Duration::from_secs(30),
            timeout_max: Duration::from_secs(300),
            // Room for an IN list of some thousand uuids.
            sql_bytes_max: 256 << 10,
            sql_rows_max: 100_000_000,
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            sql: SqlPlace::Here,
        }
    }
}

/// Threads for work that computes, apart from those that wait for sockets. Ends without waiting, because it may
/// be dropped inside another runtime.
pub(crate) struct Compute(Option<Runtime>);

impl Compute {
    pub(crate) fn start(threads: usize, blocking_max: usize, name: &str) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(blocking_max)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("is there until dropped").handle().clone()
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What every question shares.
pub(crate) struct Shared {
    pub(crate) catalog: Catalog,
    pub(crate) pinner: Arc<Pinner>,
    pub(crate) base: SessionState,
    /// Threads of REST questions.
    pub(crate) compute: Compute,
    sql: SqlEngine,
    pub(crate) files: Arc<Files>,
    pub(crate) key_filters: KeyFilters,
    pub(crate) partials: PartialStore,
    pub(crate) tail_partials: TailPartials,
    pub(crate) options: AnalyticsOptions,
    questions: Arc<Semaphore>,
    queries: Arc<Semaphore>,
}

/// What runs ad-hoc SQL.
enum SqlEngine {
    /// Threads of its own, which it can keep busy: REST questions never wait for it.
    Here(Compute),
    Workers(Arc<Pool>),
}

impl Shared {
    /// A place among the REST questions that may run.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        self.place(&self.questions)
    }

    /// A place among the SQL queries that may run or wait. They are counted apart, so that a client that asks
    /// too much in SQL takes nobody's place who asks for an event.
    pub(crate) fn admit_sql(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        self.place(&self.queries)
    }

    fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, QueryError> {
        let permit = Arc::clone(places).try_acquire_owned();
        permit.map_err(|_| QueryError::Busy {
            limit: self.options.queries_max,
        })
    }

    /// The declaration of a stream.
    pub(crate) fn stream(&self, name: &str) -> Result<&Arc<StreamDeclaration>, QueryError> {
        let found = self.catalog.get(name);
        found.ok_or_else(|| QueryError::no_stream(name))
    }

    /// Fixes what a question about `name` reads, once the journal has reached `positions`.
    pub(crate) async fn pin(&self, name: &str, positions: &[Position]) -> Result<Pin, QueryError> {
        let stream = self.stream(name)?;
        self.pinner.reached(stream, positions).await?;
        self.pinner.pin(stream).await
    }
}

/// Where this process spills. What processes that ended without cleaning up have left there goes.
fn own_spill(root: &std::path::Path) -> PathBuf {
    let alive = |process: &str| std::path::Path::new("/proc").join(process).exists();
    // Without /proc nobody can tell, and nothing goes.
    if alive("self") {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if !alive(&entry.file_name().to_string_lossy())
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, path = %entry.path().display(), "old spill files not removed");
            }
        }
    }
    root.join(std::process::id().to_string())
}

/// Answers questions. Cheap to clone.
#[derive(Clone)]
pub struct Analytics {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Analytics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analytics").finish_non_exhaustive()
    }
}

impl Analytics {
    /// Opens the stage over a lake and a journal, either of which may be read-only. Tables are opened when they
    /// are first asked for.
    ///
    /// # Errors
    /// [`QueryError::Storage`] when the cache directory cannot be made or threads cannot be started.
    pub async fn open(
        catalog: Catalog,
        lake: Arc<lake::Lake>,
        journal: Arc<dyn Journal>,
        options: AnalyticsOptions,
    ) -> Result<Self, QueryError> {
        let bucket = lake.object_store();
        let opened = Self::over(
            catalog,
            Box::new(LakeTables::new(lake, Arc::clone(&journal))),
            journal,
            options,
        )?;
        if let Some((url, store)) = bucket {
            // Every session is a copy of the base, with the same environment.
            opened
                .shared
                .base
                .runtime_env()
                .register_object_store(&url, store);
        }
        Ok(opened)
    }

    /// The same over any source of snapshots.
    pub(crate) fn over(
        catalog: Catalog,
        tables: Box<dyn Tables>,
        journal: Arc<dyn Journal>,
        options: AnalyticsOptions,
    ) -> Result<Self, QueryError> {
        let spill = own_spill(&options.cache_directory.join("spill"));
        let partials = options.cache_directory.join("partials");
        std::fs::create_dir_all(&spill)?;
        std::fs::create_dir_all(&partials)?;
        let tail = Arc::new(Tail::new(Arc::clone(&journal), options.tail_bytes));
        let limits = SessionLimits {
            memory_bytes: options.memory_bytes,
            spill_bytes: options.spill_bytes,
            spill_directory: spill,
            threads: options.threads.max(1),
        };
        let answers_rest = !matches!(options.sql, SqlPlace::OnlyHere);
        let (rest_threads, blocking_max) = if answers_rest {
            (options.threads, SHARED_BLOCKING_THREADS_MAX)
        } else {
            (1, BLOCKING_THREADS_MAX)
        };
        let sql = match &options.sql {
            SqlPlace::Here | SqlPlace::OnlyHere => {
                SqlEngine::Here(Compute::start(options.threads, blocking_max, "tidemill-sql")?)
            }
            SqlPlace::Workers(workers) => SqlEngine::Workers(Pool::new(workers.clone())),
        };
        let messages = catalog.iter().any(|stream| stream.format == RecordFormat::Json);
        let files = Arc::new(Files::new());
        let shared = Shared {
            catalog,
            base: base(&limits, Arc::clone(&tail), Arc::clone(&files))?,
            pinner: Arc::new(Pinner {
                tables,
                rows: TailRows::new(Arc::clone(&journal), Arc::clone(&tail)),
                journal,
                tail,
                messages,
            }),
            compute: Compute::start(rest_threads, blocking_max, "tidemill-rest")?,
            sql,
            files,
            key_filters: KeyFilters::default(),
            partials: PartialStore::new(partials),
            tail_partials: TailPartials::default(),
            questions: Arc::new(Semaphore::new(options.queries_max)),
            queries: Arc::new(Semaphore::new(options.queries_max)),
            options,
        };
        if answers_rest {
            let streams = shared.catalog.iter().map(Arc::clone).collect();
            let counting = tail_rows::follow(Arc::downgrade(&shared.pinner), streams);
            drop(shared.compute.handle().spawn(counting));
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Answers a question in SQL.
    ///
    /// # Errors
    /// [`QueryError`]; its [`fault`](QueryError::fault) says who must act.
    ///
    /// # Cancellation
    /// Dropping the future or the answer's stream ends the query.
    pub async fn sql(&self, request: SqlRequest, format: Format) -> Result<SqlAnswer, QueryError> {
        self.answer(Question::new(request, format, &self.shared.options)?)
            .await
    }

    /// Answers a question that is within bounds.
    pub(crate) async fn answer(&self, question: Question) -> Result<SqlAnswer, QueryError> {
        match &self.shared.sql {
            SqlEngine::Here(compute) => {
                crate::sql::answer(Arc::clone(&self.shared), &compute.handle(), question).await
            }
            SqlEngine::Workers(pool) => worker::ask(&self.shared, pool, question).await,
        }
    }

    /// The threads that run SQL, when they are this process's own.
    pub(crate) fn compute_of_sql(&self) -> Option<tokio::runtime::Handle> {
        match &self.shared.sql {
            SqlEngine::Here(compute) => Some(compute.handle()),
            SqlEngine::Workers(_) => None,
        }
    }

    /// The routes of all questions.
    pub fn router(&self) -> axum::Router {
        crate::http::router(self.clone())
    }
}
