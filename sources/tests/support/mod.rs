//! What the tests of sources stand on: a schema and queues of their own on real servers, a journal on disk, and a way to
//! cut a connection.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::json::EventWriter;
use event::{Batch, Catalog, Partition, Position, StreamDeclaration, StreamName};
use futures::future::BoxFuture;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use journal::{
    AppendError, Batcher, Decoded, Durability, Journal, JournalId, JournalReader, ReadError, RecordDecoder,
};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use sources::{OutboxOptions, Schedule, SourceKind, SourceOptions, SourceProgress, Sources, StateColumn};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// How long anything may take before a test gives up; nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The variable of a server, or `None` with a loud word when the test is to be left out.
pub(crate) fn server(variable: &str) -> Option<String> {
    let url = std::env::var_os(variable).map(|url| url.into_string().expect("UTF-8"));
    if url.is_none() {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
            "{variable} must be set"
        );
        eprintln!("SKIPPED: needs {variable} (cargo xtask services up)");
    }
    url
}

/// The stream that the tests relay into.
pub(crate) fn stream() -> Arc<StreamDeclaration> {
    let text = "[orders]\ntime = \"made\"\n[orders.fields]\nevent_id = \"string\"\nn = { type = \"int\", min = 0 }\n\
                made = \"timestamp\"\nnote = { type = \"string\", optional = true }";
    let mut streams = event::stream::parse_streams(&text.parse().expect("TOML")).expect("right");
    Arc::new(streams.remove(0))
}

pub(crate) fn random() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A journal of one test's own.
pub(crate) struct Log {
    pub(crate) journal: Arc<EmbeddedJournal>,
    _folder: tempfile::TempDir,
}

impl Log {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = EmbeddedOptions::new(folder.path().join("journal"));
        options.disk_reserve_bytes = 0;
        Self {
            journal: EmbeddedJournal::open(options).expect("opens"),
            _folder: folder,
        }
    }

    pub(crate) fn batcher(&self) -> Batcher {
        Batcher::new(Arc::<EmbeddedJournal>::clone(&self.journal))
    }

    /// Every event of a stream, in order.
    pub(crate) async fn events(&self, stream: &Arc<StreamDeclaration>) -> Vec<Value> {
        let end = self.journal.end(&stream.name).await.expect("an end")[0].offset;
        let mut decoder = RecordDecoder::new(Arc::clone(stream));
        let mut found = Vec::new();
        let start = Position::default();
        let mut reader = self.journal.reader(&stream.name, start).await.expect("a reader");
        while reader.position().offset < end {
            for record in reader.next(1 << 20).await.expect("records") {
                if let Decoded::Batch(batch) = decoder.decode(&record).expect("decodes") {
                    found.extend(events_of(stream, &batch));
                }
            }
        }
        found
    }

    /// What was refused.
    pub(crate) async fn rejects(&self) -> Vec<Value> {
        let catalog = Catalog::new([]);
        let rejects = catalog.get(StreamName::rejects().as_str()).expect("built in");
        self.events(rejects).await
    }
}

fn events_of(stream: &StreamDeclaration, batch: &Batch) -> Vec<Value> {
    let writer = EventWriter::new(stream, &batch.rows);
    let event = |row| {
        let mut text = Vec::new();
        writer.write(row, &mut text).expect("writes");
        serde_json::from_slice(&text).expect("JSON")
    };
    (0..batch.len()).map(event).collect()
}

/// The ids of events, sorted.
pub(crate) fn ids(events: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = events
        .iter()
        .map(|event| event["event_id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

pub(crate) async fn connect(url: &str) -> (Client, JoinSet<()>) {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("the server answers");
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    (client, driver)
}

/// A schema of one test's own, with the table `orders` in it.
pub(crate) struct Database {
    pub(crate) admin: Client,
    pub(crate) url: String,
    schema: String,
    _driver: JoinSet<()>,
}

impl Database {
    pub(crate) async fn new(base: &str) -> Self {
        let (admin, driver) = connect(base).await;
        let schema = format!("tidemill_test_{}", random());
        let table = "CREATE TABLE orders (event_id text PRIMARY KEY, n bigint, made timestamptz NOT NULL DEFAULT now(), \
                     note text, state text NOT NULL DEFAULT 'pending', reason text)";
        admin
            .batch_execute(&format!(
                "CREATE SCHEMA {schema}; SET search_path = {schema}; {table}"
            ))
            .await
            .expect("a schema");
        let separator = if base.contains('?') { '&' } else { '?' };
        Self {
            admin,
            url: format!("{base}{separator}options=-csearch_path%3D{schema}"),
            schema,
            _driver: driver,
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.admin.batch_execute(sql).await.expect("runs");
    }

    /// Writes rows `from..to`, each a number.
    pub(crate) async fn insert(&self, from: i64, to: i64) {
        self.run(&format!(
            "INSERT INTO orders (event_id, n) SELECT 'e' || i, i FROM generate_series({from}, {}) i",
            to - 1
        ))
        .await;
    }

    /// How many rows are in each state, as `state=count` in order.
    pub(crate) async fn states(&self) -> String {
        let sql = "SELECT coalesce(string_agg(s, ' ' ORDER BY s), '') FROM \
                   (SELECT state || '=' || count(*) AS s FROM orders GROUP BY state) x";
        self.admin.query_one(sql, &[]).await.expect("a query").get(0)
    }

    pub(crate) async fn drop_schema(self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.schema)).await;
    }

    /// A relay of the table, which looks all the time.
    pub(crate) fn outbox(&self) -> OutboxOptions {
        OutboxOptions {
            url: self.url.clone(),
            table: "orders".to_owned(),
            id: "event_id".to_owned(),
            columns: None,
            state: StateColumn {
                column: "state".to_owned(),
                pending: Some("pending".to_owned()),
                sent: "sent".to_owned(),
                refused: "refused".to_owned(),
                reason: Some("reason".to_owned()),
            },
            order: Some("made".to_owned()),
            schedule: Schedule::every(Duration::from_millis(20)),
            batch: 100,
            responses: None,
        }
    }
}

/// Runs one source.
pub(crate) fn start(batcher: &Batcher, kind: SourceKind) -> Sources {
    start_into(batcher, &stream(), kind)
}

pub(crate) fn start_into(batcher: &Batcher, stream: &Arc<StreamDeclaration>, kind: SourceKind) -> Sources {
    let options = SourceOptions {
        name: "test".to_owned(),
        stream: Arc::clone(stream),
        kind,
    };
    Sources::start(&Handle::current(), batcher, vec![options]).expect("options")
}

/// How one part of the source is.
pub(crate) fn part(sources: &Sources, name: &str) -> SourceProgress {
    let all = sources.progress().read();
    all.into_iter()
        .find(|one| one.part == name)
        .expect("there is such a part")
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A journal that keeps what it appended to itself, or refuses, as long as it is told to.
#[derive(Debug)]
pub(crate) struct Gate {
    journal: Arc<EmbeddedJournal>,
    pub(crate) mode: watch::Sender<Mode>,
    /// Appends that are durable and were not told.
    pub(crate) silent: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    Silent,
    Refusing,
}

impl Gate {
    pub(crate) fn new(log: &Log, mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            journal: Arc::clone(&log.journal),
            mode: watch::channel(mode).0,
            silent: watch::channel(0).0,
        })
    }
}

impl Journal for Gate {
    fn id(&self) -> JournalId {
        self.journal.id()
    }
    fn stream_id(&self, stream: &StreamName) -> JournalId {
        self.journal.stream_id(stream)
    }
    fn durability(&self) -> Durability {
        self.journal.durability()
    }
    fn partitions(&self, stream: &StreamName) -> u32 {
        self.journal.partitions(stream)
    }
    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        Box::pin(async move {
            let mode = *self.mode.borrow();
            if mode == Mode::Refusing {
                return Err(AppendError::Unavailable {
                    message: "the test refuses".to_owned(),
                });
            }
            let appended = self.journal.append(group).await;
            if mode == Mode::Silent {
                self.silent.send_modify(|count| *count += 1);
                std::future::pending::<()>().await;
            }
            appended
        })
    }
    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.journal.end(stream)
    }
    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        self.journal.start(stream)
    }
    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        self.journal.reader(stream, from)
    }
    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        self.journal.retain(stream, stored)
    }
}

/// A way to a server that can be cut.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens before a server, `host:port`.
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (open, watched) = watch::channel(true);
        let server = server.to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.expect("accepts");
                if !*watched.borrow() {
                    continue;
                }
                let (server, mut cut) = (server.clone(), watched.clone());
                connections.spawn(async move {
                    let mut far = TcpStream::connect(&server).await.expect("the server is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self {
            address,
            open,
            _tasks: tasks,
        }
    }
}

/// Where a URL's server is, and the URL with another one.
pub(crate) fn authority(url: &str) -> String {
    let parsed = url::Url::parse(url).expect("a URL");
    format!(
        "{}:{}",
        parsed.host_str().expect("a host"),
        parsed.port().expect("a port")
    )
}

pub(crate) fn through(url: &str, proxy: &Proxy) -> String {
    let address = proxy.address.to_string();
    url.replace(&authority(url), &address)
}

/// The broker, for the test itself.
pub(crate) struct Broker {
    pub(crate) url: String,
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Broker {
    pub(crate) async fn new(url: &str) -> Self {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(url, properties)
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            url: url.to_owned(),
            connection,
            channel,
        }
    }

    /// Declares a durable queue.
    pub(crate) async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(name.into(), options, arguments)
            .await
            .expect("a queue");
    }

    pub(crate) async fn send(&self, queue: &str, body: &str) {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = self
            .channel
            .basic_publish("".into(), queue.into(), options, body.as_bytes(), properties)
            .await;
        sent.expect("published").await.expect("confirmed");
    }

    /// Messages that wait in a queue, and consumers that it has.
    pub(crate) async fn counts(&self, name: &str) -> (u32, u32) {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self
            .channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await;
        let queue = queue.expect("the queue is there");
        (queue.message_count(), queue.consumer_count())
    }

    /// Takes the next message, if there is one.
    pub(crate) async fn take(&self, name: &str) -> Option<String> {
        let message = self
            .channel
            .basic_get(name.into(), BasicGetOptions::default())
            .await
            .expect("a queue")?;
        message
            .ack(BasicAckOptions::default())
            .await
            .expect("acknowledged");
        Some(String::from_utf8(message.delivery.data).expect("UTF-8"))
    }

    pub(crate) async fn delete(&self, name: &str) {
        let deleted = self
            .channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await;
        deleted.expect("deleted");
    }
}

/// For rows that the test reads as text.
pub(crate) async fn one(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect("a row").get(0)
}

/// The first partition; the tests' journals have no other.
pub(crate) const FIRST: Partition = Partition(0);
