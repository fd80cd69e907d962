//! The checked configuration: what the server is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use event::StreamDeclaration;
use lake::{Location, StoreSettings};

use super::access::{self, AccessConfig};
use super::assign::AssignConfig;
use super::check::{Checked, Values};
use super::cors::{self, CorsConfig, CorsPolicy};
use super::demo::{self, DemoConfig};
use super::destinations::DestinationConfig;
use super::event_sources::EventSourceConfig;
use super::live::{self, LiveConfig};
use super::problem::Problems;
use super::routes::RouteConfig;
use super::secret::Properties;
use super::worker::WorkerSettings;

/// Everything that the server is started with. Made by [`super::load`] only, so every value is within bounds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Whether listeners may be reachable from other machines.
    pub allow_remote: bool,
    /// Who may do what.
    pub access: AccessConfig,
    /// Which web pages may talk to which routes.
    pub cors: CorsConfig,
    /// Directory of journal, catalog and lake.
    pub data_dir: PathBuf,
    /// What this process does.
    pub roles: Roles,
    /// An ordered shutdown takes at most this long.
    pub shutdown_timeout: Duration,
    /// The journal.
    pub journal: JournalConfig,
    /// The lake and its sink.
    pub lake: LakeConfig,
    /// Sockets and admission.
    pub ingest: IngestConfig,
    /// Queries.
    pub analytics: AnalyticsConfig,
    /// The page at `/demo`, when there is one.
    pub demo: Option<DemoConfig>,
    /// Those who watch events arrive.
    pub live: LiveConfig,
    /// What sinks write to besides the lake.
    pub destinations: Vec<DestinationConfig>,
    /// Where events come from besides HTTP.
    pub sources: Vec<EventSourceConfig>,
    /// The declared streams, or the starter streams.
    pub streams: Vec<StreamDeclaration>,
    /// Further routes.
    pub routes: Vec<RouteConfig>,
    /// Which events are handed to people; nobody's when absent.
    pub assign: Option<AssignConfig>,
    /// Every setting's value, for `check`.
    pub(super) values: Values,
    /// What a process that only runs SQL is started with.
    pub(super) for_worker: WorkerSettings,
}

/// What one process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes events.
    pub ingest: bool,
    /// Writes destinations.
    pub sink: bool,
    /// Answers questions.
    pub analytics: bool,
    /// Brings events from databases and brokers; never without a configured source.
    pub sources: bool,
    /// Hands events to people; only when that is configured.
    pub assign: bool,
}

/// Where accepted events become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// In files of this process.
    Embedded,
    /// In topics of Kafka.
    Kafka,
}

/// Settings of the journal on Kafka.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Brokers to begin with.
    pub brokers: String,
    /// Begins the names of topics that are not declared.
    pub topic_prefix: String,
    /// Whether missing topics are made.
    pub create_topics: bool,
    /// Partitions of each topic, when configured.
    pub partitions: Option<u32>,
    /// Replicas of each topic, when configured.
    pub replication: Option<u16>,
    /// For how long the broker keeps records, when configured.
    pub retention: Option<Duration>,
    /// What the broker has not taken by then has failed.
    pub timeout: Duration,
    /// A sink that is silent for so long loses its partitions.
    pub session_timeout: Duration,
    /// Further properties of librdkafka, secrets among them.
    pub properties: Properties,
}

/// Settings of the journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Which one.
    pub kind: JournalKind,
    /// What concerns Kafka.
    pub kafka: KafkaConfig,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// For how long records stay although the lake has them.
    pub retain: Duration,
    /// Bytes that stay free on the disk.
    pub disk_reserve_bytes: u64,
    /// Bytes of records that may wait to be written.
    pub queue_bytes: u64,
}

/// Settings of the lake and of what writes it.
#[derive(Clone, Debug)]
pub struct LakeConfig {
    /// Where it lies.
    pub location: Location,
    /// How a bucket is reached: what the environment says.
    pub store: StoreSettings,
    /// For how long removed files stay.
    pub keep_removed: Duration,
    /// When files are rolled and tables maintained.
    pub sink: sink::LakeSinkOptions,
}

/// Settings of sockets and admission.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Bytes of bodies that may be in flight.
    pub in_flight_bytes: u64,
    /// Most open connections.
    pub connections: u64,
    /// A request's head must be there after this time.
    pub head_timeout: Duration,
    /// A body must not pause longer than this.
    pub body_timeout: Duration,
    /// A connection without a request is closed after this time.
    pub idle_timeout: Duration,
}

/// Settings of queries.
#[derive(Clone, Debug)]
pub struct AnalyticsConfig {
    /// Bytes of decoded tail that are kept in memory.
    pub tail_bytes: u64,
    /// Bytes of memory of all queries together.
    pub memory_bytes: u64,
    /// Queries that run at once.
    pub queries: u64,
    /// Processes that run SQL.
    pub sql_workers: u64,
    /// Begins the names of the groups that elect who computes a rollup.
    pub rollup_group: String,
    /// Bytes of the longest SQL text.
    pub sql_bytes: u64,
    /// Longest time of a query.
    pub sql_timeout: Duration,
    /// Most rows of a streamed answer.
    pub sql_rows: u64,
}

/// Takes values by key; every key is in the table of settings, so a missing one is a slip that a test finds.
struct Taken<'a>(&'a Values);

impl Taken<'_> {
    fn number(&self, key: &str) -> u64 {
        match &self.0[key] {
            Checked::Number(number) => *number,
            other => unreachable!("`{key}` is {other:?}, not a number"),
        }
    }
    fn span(&self, key: &str) -> Duration {
        match &self.0[key] {
            Checked::Span(span) => *span,
            other => unreachable!("`{key}` is {other:?}, not a time"),
        }
    }
    fn flag(&self, key: &str) -> bool {
        matches!(&self.0[key], Checked::Flag(true))
    }
    fn text(&self, key: &str) -> &str {
        match &self.0[key] {
            Checked::Text(text) => text,
            other => unreachable!("`{key}` is {other:?}, not text"),
        }
    }
    fn journal_kind(&self) -> JournalKind {
        match self.text("journal.kind") {
            "kafka" => JournalKind::Kafka,
            _ => JournalKind::Embedded,
        }
    }
    fn properties(&self, key: &str) -> &Properties {
        match &self.0[key] {
            Checked::Properties(properties) => properties,
            other => unreachable!("`{key}` is {other:?}, not a table of texts"),
        }
    }
    fn words(&self, key: &str) -> &[String] {
        match &self.0[key] {
            Checked::Words(words) => words,
            // A default is one word.
            Checked::Text(text) => std::slice::from_ref(text),
            other => unreachable!("`{key}` is {other:?}, not a list of words"),
        }
    }
    fn addresses(&self, key: &str) -> &[SocketAddr] {
        match &self.0[key] {
            Checked::Addresses(addresses) => addresses,
            other => unreachable!("`{key}` is {other:?}, not a list of addresses"),
        }
    }
}

/// Makes the configuration of checked values, and checks what concerns several of them.
pub(super) fn build(
    values: &Values,
    streams: Vec<StreamDeclaration>,
    destinations: Vec<DestinationConfig>,
    problems: &mut Problems,
) -> Config {
    let taken = Taken(values);
    let data_dir = PathBuf::from(taken.text("data_dir"));
    if data_dir.as_os_str().is_empty() {
        problems.push("data_dir", "`` is not a directory");
    }
    let listen = taken.addresses("listen").to_vec();
    let allow_remote = taken.flag("allow_remote");
    let files = ["tokens_file", "tls.certificate_file", "tls.key_file"].map(|key| taken.text(key));
    let access = access::build(files[0], files[1], files[2], problems);
    access::check_remote(&listen, allow_remote, &access, problems);
    let page = ["demo.stream", "demo.track", "demo.events"].map(|key| taken.text(key));
    let demo = demo::build(page, &streams, problems);
    let cors = CorsConfig {
        everywhere: everywhere(&taken, problems),
        ..CorsConfig::default()
    };
    let location = match taken.text("lake.url") {
        "" => Location::Directory(data_dir.join("lake")),
        url => Location::parse(url).unwrap_or_else(|error| {
            problems.push("lake.url", error.to_string());
            Location::Directory(PathBuf::new())
        }),
    };
    let lake = lake(&taken, location);
    if lake.sink.compact.small_bytes > lake.sink.compact.target_bytes {
        problems.push(
            "lake.compact.small",
            "is above `lake.compact.target`: merged files would be merged again",
        );
    }
    if lake.keep_removed <= taken.span("analytics.sql_timeout") {
        problems.push(
            "lake.keep_removed",
            "is not above `analytics.sql_timeout`: files would go while a query reads them",
        );
    }
    let roles = roles(taken.words("roles"));
    let live = live(&taken, roles, &destinations, problems);
    Config {
        listen,
        allow_remote,
        access,
        cors,
        roles,
        shutdown_timeout: taken.span("shutdown_timeout"),
        journal: JournalConfig {
            kind: taken.journal_kind(),
            kafka: kafka(&taken, problems),
            segment_bytes: taken.number("journal.segment_size"),
            retain: taken.span("journal.retain"),
            disk_reserve_bytes: taken.number("journal.disk_reserve"),
            queue_bytes: taken.number("journal.queue"),
        },
        lake,
        ingest: IngestConfig {
            in_flight_bytes: taken.number("ingest.in_flight"),
            connections: taken.number("ingest.connections"),
            head_timeout: taken.span("ingest.head_timeout"),
            body_timeout: taken.span("ingest.body_timeout"),
            idle_timeout: taken.span("ingest.idle_timeout"),
        },
        analytics: AnalyticsConfig {
            tail_bytes: taken.number("analytics.tail_bytes"),
            memory_bytes: taken.number("analytics.memory"),
            queries: taken.number("analytics.queries"),
            sql_workers: taken.number("analytics.sql_workers"),
            rollup_group: taken.text("analytics.rollup_group").to_owned(),
            sql_bytes: taken.number("analytics.sql_bytes"),
            sql_timeout: taken.span("analytics.sql_timeout"),
            sql_rows: taken.number("analytics.sql_rows"),
        },
        live,
        data_dir,
        demo,
        destinations,
        sources: Vec::new(),
        streams,
        routes: Vec::new(),
        // Read when everything that it is about is known.
        assign: None,
        values: values.clone(),
        for_worker: WorkerSettings::default(),
    }
}

/// The policy of `[cors]`, when it names origins.
fn everywhere(taken: &Taken<'_>, problems: &mut Problems) -> Option<CorsPolicy> {
    let texts = |key| taken.words(key).iter().map(String::as_str).collect::<Vec<_>>();
    let written = cors::Written {
        origins: texts("cors.origins"),
        credentials: taken.flag("cors.credentials"),
        headers: texts("cors.headers"),
        max_age: taken.span("cors.max_age"),
    };
    (!written.origins.is_empty()).then(|| cors::policy("cors", &written, problems))
}

fn kafka(taken: &Taken<'_>, problems: &mut Problems) -> KafkaConfig {
    let mut properties = taken.properties("journal.kafka.properties").clone();
    let key = "journal.kafka.sasl_password_file";
    let file = taken.text(key);
    if !file.is_empty() {
        match std::fs::read_to_string(file) {
            Ok(password) => {
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                properties.0.insert("sasl.password".to_owned(), password);
            }
            Err(error) => problems.push(key, format!("read `{file}`: {error}")),
        }
    }
    let when_given = |number: u64| (number > 0).then_some(number);
    let retention = taken.span("journal.kafka.retention");
    KafkaConfig {
        brokers: taken.text("journal.kafka.brokers").to_owned(),
        topic_prefix: taken.text("journal.kafka.topic_prefix").to_owned(),
        create_topics: taken.flag("journal.kafka.create_topics"),
        partitions: when_given(taken.number("journal.kafka.partitions"))
            .and_then(|count| u32::try_from(count).ok()),
        replication: when_given(taken.number("journal.kafka.replication"))
            .and_then(|count| u16::try_from(count).ok()),
        retention: (!retention.is_zero()).then_some(retention),
        timeout: taken.span("journal.kafka.timeout"),
        session_timeout: taken.span("journal.kafka.session_timeout"),
        properties,
    }
}

fn live(
    taken: &Taken<'_>,
    roles: Roles,
    destinations: &[DestinationConfig],
    problems: &mut Problems,
) -> LiveConfig {
    let bus = live::bus(taken.text("live.bus"), destinations, problems);
    let around = live::Surroundings {
        roles,
        journal: taken.journal_kind(),
        destinations,
        bus: bus.is_some(),
    };
    LiveConfig {
        clients: taken.number("live.clients"),
        memory_bytes: taken.number("live.memory"),
        after: live::after("live.after", taken.text("live.after"), &around, problems),
        bus,
        bus_channel: taken.text("live.bus_channel").to_owned(),
        poll: taken.span("live.poll"),
    }
}

fn roles(words: &[String]) -> Roles {
    let has = |word: &str| words.iter().any(|one| one == word || one == "all");
    Roles {
        ingest: has("ingest"),
        sink: has("sink"),
        analytics: has("analytics"),
        sources: has("sources"),
        assign: has("assign"),
    }
}

fn lake(taken: &Taken<'_>, location: Location) -> LakeConfig {
    let sink = sink::LakeSinkOptions {
        group: taken.text("lake.group").to_owned(),
        roll_bytes: taken.number("lake.roll.size"),
        roll_every: taken.span("lake.roll.every"),
        tail_bytes: taken.number("lake.roll.tail"),
        writer: lake::WriterOptions {
            row_group_rows: usize::try_from(taken.number("lake.row_group_rows")).unwrap_or(usize::MAX),
            lz4: taken.flag("lake.lz4"),
        },
        compact: lake::CompactOptions {
            small_bytes: taken.number("lake.compact.small"),
            target_bytes: taken.number("lake.compact.target"),
        },
        compact_every: taken.span("lake.compact.every"),
        vacuum_every: taken.span("lake.vacuum.every"),
        expire_every: taken.span("lake.retention.every"),
        // A third of the time for reading on, the rest for the commit and for everybody else.
        drain: taken.span("shutdown_timeout") / 3,
        maintenance_stop: taken.span("shutdown_timeout") / 6,
        ..sink::LakeSinkOptions::default()
    };
    LakeConfig {
        location,
        store: StoreSettings::of_environment(),
        keep_removed: taken.span("lake.keep_removed"),
        sink,
    }
}
