//! Opens the stages of the configured roles, in the order in which data flows, and closes them in that order.
//!
//! # Roles over the embedded journal
//! Whoever takes events or removes segments holds the journal's lock, so `ingest` and `sink` belong into one
//! process; `ingest` alone is allowed and warned about, because its journal only grows. `analytics` alone opens
//! journal and lake for reading, beside a process that writes them.
//!
//! # Roles over Kafka
//! Every role may be a process of its own, and there may be several of each. `ingest` alone knows no lake; sinks share
//! the partitions as members of a group; each process keeps its own catalog in its own data directory.

use std::path::PathBuf;
use std::sync::Arc;

use analytics::rollup::Rollups;
use analytics::{Analytics, AnalyticsOptions, SqlPlace};
use event::{Catalog, Offset, Position, StreamDeclaration, StreamName};
use futures::future::{join, join_all};
use ingest::{Ingest, IngestOptions, PostRoute};
use journal::{Batcher, Journal};
use lake::{Lake, LakeOptions, Table};
use sink::{DatabaseSink, LakeSink};
use sources::Sources;

use super::assigning::{self, Assigning};
use super::catalog::{self, CatalogError};
use super::destinations;
use super::event_sources;
use super::live::{self, Announcing, Progress, Watching};
use super::open_journal::{JournalHealth, OpenJournal};
use super::priority::{Runtimes, let_others_go_first};
use super::readiness::Readiness;
use super::rollups;
use super::sql_workers;
use super::timed::TimedJournal;
use crate::config::{AssignConfig, Config, JournalKind, Roles, RouteConfig, RouteKind};

/// Where queries keep per-file aggregates and spill, in the data directory.
const QUERIES: &str = "analytics";

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("create the data directory `{}`", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory holds nothing that could be read.
    #[error("`{}` holds no catalog: nothing was ever served from it", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The declared streams cannot be served.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The journal cannot be opened.
    #[error("open the journal")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread that opened something panicked.
    #[error("the opening thread ended: {0}")]
    Thread(String),
    /// The lake cannot be opened.
    #[error("open the lake")]
    Lake(#[from] lake::LakeError),
    /// The lake has what the journal does not know of.
    #[error(
        "the lake has stream `{stream}` up to {stored}, and the journal ends at {end}: it is an older copy or lost its \
         end, and would give out offsets twice. Put the right journal back; when it is gone, move this one away \
         and let the new one be taken with `tidemill lake adopt`"
    )]
    Ahead {
        /// The stream.
        stream: StreamName,
        /// The position that its table carries.
        stored: Position,
        /// Where the journal ends.
        end: Position,
    },
    /// A destination cannot have the tables that it is configured with, or its URL is none.
    #[error("destination `{name}`")]
    Destination {
        /// Its name in the configuration.
        name: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A source contradicts itself.
    #[error("start the sources")]
    Sources(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Questions cannot be answered.
    #[error("start analytics")]
    Analytics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Events cannot be handed to people.
    #[error("start assigning")]
    Assign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Those who watch events arrive cannot be served as it is configured.
    #[error("open what can be watched")]
    Live(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Tokens or certificates cannot be used.
    #[error(transparent)]
    Access(#[from] crate::access::AccessError),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// The metrics recorder cannot be installed.
    #[error("{0}")]
    Metrics(String),
}

/// The open stages of one process.
pub(super) struct Stages {
    pub(super) catalog: Catalog,
    pub(super) ingest: Option<Ingest>,
    pub(super) questions: Option<Analytics>,
    pub(super) assign: Option<Assigning>,
    sources: Option<Sources>,
    /// Absent where nothing needs one.
    open_journal: Option<OpenJournal>,
    pub(super) watching: Option<Watching>,
    announcing: Option<Announcing>,
    tables: Vec<Arc<Table>>,
    sink: Option<LakeSink>,
    databases: Vec<DatabaseSink>,
    rollups: Option<Rollups>,
    /// Its lock keeps other processes from writing to a lake that is this one's alone.
    _lake: Option<Arc<Lake>>,
    /// End after the sink and the journal.
    _runtimes: Option<Runtimes>,
}

/// Opens every stage of the configured roles.
pub(super) async fn open(config: &Config) -> Result<Stages, StartError> {
    let Roles {
        ingest,
        sink,
        analytics,
        sources,
        assign,
    } = config.roles;
    let assign = config.assign.as_ref().filter(|_| assign);
    if let Some(assign) = assign
        && !(ingest || sink || analytics || sources)
        && let Some(started) = assigning::start_with_servers(assign)?
    {
        return Ok(Stages::of_servers(started));
    }
    let writes = ingest || sink || sources || assign.is_some_and(AssignConfig::is_embedded);
    let runtimes = Runtimes::start().map_err(|error| StartError::Thread(error.to_string()))?;
    let_others_go_first();
    // Processes around Kafka share no data directory, so each keeps the catalog for itself.
    let own_catalog = writes || config.journal.kind == JournalKind::Kafka;
    let catalog = open_catalog(config, own_catalog)?;
    let open_journal =
        OpenJournal::open_patiently(config, &streams_of(&catalog), writes, runtimes.first()).await?;
    let journal: Arc<dyn Journal> = Arc::new(TimedJournal::new(open_journal.journal()));
    let kafka = config.journal.kind == JournalKind::Kafka;
    // Who takes events only needs no lake; of an embedded journal it must know that it is not an old copy.
    let lake = if sink || analytics || !kafka {
        Some(open_lake(config, journal.as_ref(), !sink).await?)
    } else {
        None
    };
    let mut tables = match &lake {
        Some(lake) => tables_of(lake, &*journal, &catalog).await?,
        None => Vec::new(),
    };
    if sink || ((ingest || sources) && !kafka) {
        check_positions(&*journal, &tables).await?;
    }
    let archive = tables.clone();
    if !sink && !analytics {
        if !kafka {
            tracing::warn!("the role `sink` is missing here: the journal grows until a process with it runs");
        }
        tables = Vec::new();
    }
    let lake_sink = sink.then(|| {
        let (journal, tables) = (Arc::clone(&journal), tables.clone());
        LakeSink::start(runtimes.of_sink(), journal, tables, config.lake.sink.clone())
    });
    let databases = if sink {
        let taken = declared(config, &catalog);
        let taken: Vec<_> = taken
            .iter()
            .filter(|stream| !stream.name.is_built_in())
            .cloned()
            .collect();
        destinations::start(config, runtimes.first(), &journal, &taken, &tables)?
    } else {
        Vec::new()
    };
    let progress = || Progress::of(lake_sink.as_ref(), &databases);
    let announcing = live::announce(config, &journal, progress)?;
    let questions = match &lake {
        Some(lake) if analytics => {
            let sql = sql_workers::place(config);
            Some(open_questions(config, &catalog, &journal, lake, sql).await?)
        }
        _ => None,
    };
    let kept = || questions.as_ref().map(Analytics::kept);
    let watching = live::open(config, &catalog, &journal, &tables, &progress(), kept())?;
    let assigned = match assign {
        Some(assign) => Some(assigning::start(config, assign, &catalog, &journal, &archive).await?),
        None => None,
    };
    let rollups = rollups::start(config, &declared(config, &catalog), &journal, &tables, kept()).await?;
    let ingest = ingest.then(|| {
        let options = IngestOptions {
            durability: journal.durability(),
            in_flight_bytes_max: usize::try_from(config.ingest.in_flight_bytes).unwrap_or(usize::MAX),
            routes: post_routes(config),
            ..IngestOptions::default()
        };
        Ingest::new(
            taken(config, &catalog),
            Batcher::new(Arc::clone(&journal)),
            options,
        )
    });
    let sources = if sources {
        let taken = streams_of(&declared(config, &catalog));
        Some(event_sources::start(config, &journal, &taken)?)
    } else {
        None
    };
    Ok(Stages {
        catalog,
        ingest,
        questions,
        sources,
        assign: assigned,
        open_journal: Some(open_journal),
        watching,
        announcing,
        tables,
        sink: lake_sink,
        databases,
        rollups,
        _lake: lake,
        _runtimes: Some(runtimes),
    })
}

impl Stages {
    /// A process that only assigns, around servers: it has no journal and no lake.
    fn of_servers(assign: Assigning) -> Self {
        Self {
            catalog: Catalog::new([]),
            ingest: None,
            questions: None,
            sources: None,
            assign: Some(assign),
            open_journal: None,
            watching: None,
            announcing: None,
            tables: Vec::new(),
            sink: None,
            databases: Vec::new(),
            rollups: None,
            _lake: None,
            _runtimes: None,
        }
    }

    /// What readiness is found out from.
    pub(super) fn readiness(&self) -> Readiness {
        Readiness {
            takes_events: self.ingest.is_some() || self.sources.is_some(),
            journal: self.journal_health(),
            tables: self.tables.clone(),
            sink: self.sink.as_ref().map(LakeSink::progress),
            databases: self.databases.iter().map(DatabaseSink::progress).collect(),
            sources: self.sources.as_ref().map(Sources::progress),
            assign: self.assign.as_ref().map(|assign| assign.service.clone()),
            draining: false.into(),
        }
    }

    /// Whether the journal takes events, now and later.
    pub(super) fn journal_health(&self) -> JournalHealth {
        let open = self.open_journal.as_ref();
        open.map_or(JournalHealth::Absent, OpenJournal::health)
    }

    /// Waits until an fsync of the lake fails, and gives the reason (I-8). For ever when all is well.
    pub(super) async fn lake_stopped(&self) -> String {
        // They lie in one store, which stops as a whole.
        match self.tables.first() {
            Some(table) => table.sync_failed().await.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Ends the stages behind the sockets: sources, which take events in as sockets do, rollups, sink, journal.
    pub(super) async fn shutdown(self) {
        if let Some(sources) = self.sources {
            sources.shutdown().await;
        }
        drop(self.questions);
        drop(self.ingest);
        if let Some(assign) = self.assign {
            assign.service.shutdown().await;
        }
        rollups::stop(self.rollups).await;
        drop(self.watching);
        // Side by side: one that is away must not take the time of the others (I-5).
        let databases = join_all(self.databases.into_iter().map(DatabaseSink::shutdown));
        let lake = async {
            if let Some(sink) = self.sink {
                sink.shutdown().await;
            }
        };
        join(lake, databases).await;
        if let Some(announcing) = self.announcing {
            announcing.finish().await;
        }
        if let Some(open_journal) = self.open_journal {
            open_journal.close().await;
        }
    }
}

/// The declared streams that events may be posted to.
fn taken(config: &Config, catalog: &Catalog) -> Catalog {
    let own = config
        .assign
        .as_ref()
        .map_or_else(Vec::new, AssignConfig::own_streams);
    let declared = declared(config, catalog);
    let posted = declared.iter().filter(|stream| !own.contains(&stream.name));
    Catalog::new(posted.map(|stream| StreamDeclaration::clone(stream)))
}

/// The configured routes that take events.
fn post_routes(config: &Config) -> Vec<PostRoute> {
    let route = |route: &RouteConfig| match &route.kind {
        RouteKind::Post(post) => Some(post.route(&route.path)),
        RouteKind::Get(_) | RouteKind::Ws(_) => None,
    };
    config.routes.iter().filter_map(route).collect()
}

/// The streams that events are taken for. What is stored and no longer declared can still be asked for.
fn declared(config: &Config, catalog: &Catalog) -> Catalog {
    let is_declared =
        |stream: &&Arc<StreamDeclaration>| config.streams.iter().any(|declared| declared.name == stream.name);
    Catalog::new(
        catalog
            .iter()
            .filter(is_declared)
            .map(|stream| StreamDeclaration::clone(stream)),
    )
}

/// A journal that ends before what the lake has from it would lose what comes next: the sink takes it for old.
async fn check_positions(journal: &dyn Journal, tables: &[Arc<Table>]) -> Result<(), StartError> {
    for table in tables {
        let stream = &table.declaration().name;
        let ends = journal.end(stream).await;
        let ends = ends.map_err(|error| StartError::Journal(error.into()))?;
        for stored in &table.snapshot().await?.positions {
            let end = ends.iter().find(|end| end.partition == stored.partition);
            let end = end.copied().unwrap_or(Position::new(stored.partition, Offset(0)));
            if stored.offset > end.offset {
                let (stream, stored) = (stream.clone(), *stored);
                return Err(StartError::Ahead { stream, stored, end });
            }
        }
    }
    Ok(())
}

pub(super) fn open_catalog(config: &Config, writes: bool) -> Result<Catalog, StartError> {
    if writes {
        let path = &config.data_dir;
        std::fs::create_dir_all(path).map_err(|source| StartError::DataDir {
            path: path.clone(),
            source,
        })?;
        return Ok(catalog::open(path, config.streams.clone())?);
    }
    catalog::stored(&config.data_dir)?.ok_or_else(|| StartError::Empty {
        path: config.data_dir.clone(),
    })
}

/// Every stream, in the order of their names.
pub(super) fn streams_of(catalog: &Catalog) -> Vec<Arc<StreamDeclaration>> {
    catalog.iter().cloned().collect()
}

pub(super) async fn open_lake(
    config: &Config,
    journal: &dyn Journal,
    read_only: bool,
) -> Result<Arc<Lake>, StartError> {
    let options = LakeOptions {
        read_only,
        store: config.lake.store.clone(),
        // Around Kafka there may be several sinks.
        shared: config.journal.kind == JournalKind::Kafka,
        keep_removed: config.lake.keep_removed,
        ..LakeOptions::new(config.lake.location.clone(), journal.id().to_string())
    };
    Ok(Lake::open(options).await?)
}

pub(super) async fn tables_of(
    lake: &Lake,
    journal: &dyn Journal,
    catalog: &Catalog,
) -> Result<Vec<Arc<Table>>, StartError> {
    let mut tables = Vec::new();
    for stream in catalog.iter() {
        let filled_by = journal.stream_id(&stream.name).to_string();
        tables.push(lake.table_of(Arc::clone(stream), &filled_by).await?);
    }
    Ok(tables)
}

pub(super) async fn open_questions(
    config: &Config,
    catalog: &Catalog,
    journal: &Arc<dyn Journal>,
    lake: &Arc<Lake>,
    sql: SqlPlace,
) -> Result<Analytics, StartError> {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut options = AnalyticsOptions::new(config.data_dir.join(QUERIES));
    options.tail_bytes = count(config.analytics.tail_bytes);
    options.memory_bytes = count(config.analytics.memory_bytes);
    options.queries_max = count(config.analytics.queries);
    options.timeout_max = config.analytics.sql_timeout;
    options.sql_bytes_max = count(config.analytics.sql_bytes);
    options.sql_rows_max = config.analytics.sql_rows;
    options.timeout = options.timeout.min(options.timeout_max);
    options.sql = sql;
    sql_workers::divide(&mut options, config);
    let opened = Analytics::open(catalog.clone(), Arc::clone(lake), Arc::clone(journal), options).await;
    opened.map_err(|error| StartError::Analytics(error.into()))
}
