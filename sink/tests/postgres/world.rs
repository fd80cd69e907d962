//! What the tests of the PostgreSQL destination stand on: a schema of their own on a real server, a journal on disk,
//! and servers that may be killed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::{
    Batch, FieldDeclaration, FieldType, Partition, Span, StreamDeclaration, StreamName, TraceId,
    UnknownFields,
};
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use sink::database::{Database, DatabaseProgress, Rows};
use sink::{DatabaseOptions, DatabaseSink, PostgresDatabase, PostgresOptions, TableMapping};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// When every event of the tests was received.
pub(crate) const RECEIVED_AT: i64 = 1_700_000_000_123_456;

/// The URL of the shared server, or `None` with a loud word when the test is to be left out.
pub(crate) fn shared_url(test: &str) -> Option<String> {
    let url = std::env::var_os("POSTGRES_URL").map(|url| url.into_string().expect("UTF-8"));
    if url.is_none() {
        skipped(test, "POSTGRES_URL (cargo xtask services up)");
    }
    url
}

fn skipped(test: &str, what: &str) {
    assert!(
        std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
        "{test} needs {what}"
    );
    eprintln!("SKIPPED: {test} needs {what}");
}

pub(crate) fn field(name: &str, kind: FieldType) -> FieldDeclaration {
    FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional: false,
        description: String::new(),
        path: vec![name.to_owned()],
    }
}

pub(crate) fn optional(name: &str, kind: FieldType) -> FieldDeclaration {
    FieldDeclaration {
        optional: true,
        ..field(name, kind)
    }
}

pub(crate) fn int() -> FieldType {
    FieldType::Int {
        min: i64::MIN,
        max: i64::MAX,
    }
}

pub(crate) fn text() -> FieldType {
    FieldType::String { max_bytes: 65_535 }
}

pub(crate) fn stream(name: &str, fields: Vec<FieldDeclaration>) -> Arc<StreamDeclaration> {
    Arc::new(StreamDeclaration {
        name: StreamName::parse(name).expect("allowed"),
        unknown_fields: UnknownFields::Keep,
        fields,
        ..StreamDeclaration::rejects()
    })
}

/// A number and a text, which may be absent.
pub(crate) fn simple(name: &str) -> Arc<StreamDeclaration> {
    stream(name, vec![field("n", int()), optional("note", text())])
}

/// The rows of some lines, as one batch.
pub(crate) fn batch(stream: &Arc<StreamDeclaration>, lines: &[String]) -> Batch {
    let mut decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
    decoder.push(Bytes::from(lines.join("\n"))).expect("lines");
    let mut decoded = decoder.finish().expect("lines");
    assert_eq!(decoded.rejects.total(), 0, "{:?}", decoded.rejects.described);
    assert_eq!(decoded.batches.len(), 1, "one record's worth");
    let rows = decoded.batches.remove(0);
    Batch {
        stream: stream.name.clone(),
        partition: Partition(0),
        version: stream.version,
        spans: vec![Span {
            rows: u32::try_from(rows.num_rows()).expect("few"),
            trace_id: TraceId::from_bytes([7; 16]),
            received_at: RECEIVED_AT,
            idempotency_key: None,
            producer: None,
        }],
        rows,
    }
}

/// Lines `{"n":from}` … of a simple stream.
pub(crate) fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// A schema and a journal of one test's own.
pub(crate) struct World {
    pub(crate) admin: Client,
    pub(crate) schema: String,
    /// With the schema as the only one on the search path.
    pub(crate) url: String,
    pub(crate) journal: Arc<EmbeddedJournal>,
    folder: tempfile::TempDir,
    base: String,
    _driver: JoinSet<()>,
}

pub(crate) async fn connect(url: &str) -> Result<(Client, JoinSet<()>), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    Ok((client, driver))
}

impl World {
    pub(crate) async fn new(base: &str) -> Self {
        let (admin, driver) = connect(base).await.expect("the server answers");
        let schema = format!("tidemill_test_{:016x}", rand::random::<u64>());
        admin
            .batch_execute(&format!(
                "CREATE SCHEMA {schema}; SET search_path = {schema}; SET TIME ZONE 'UTC'"
            ))
            .await
            .expect("a schema");
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = EmbeddedOptions::new(folder.path().join("journal"));
        options.disk_reserve_bytes = 0;
        let separator = if base.contains('?') { '&' } else { '?' };
        Self {
            admin,
            url: format!("{base}{separator}options=-csearch_path%3D{schema}"),
            schema,
            journal: EmbeddedJournal::open(options).expect("opens"),
            folder,
            base: base.to_owned(),
            _driver: driver,
        }
    }

    /// A folder that goes with the test.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn drop_schema(self) {
        // A test may have ended the first connection.
        let (admin, _driver) = connect(&self.base).await.expect("the server answers");
        admin
            .batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema))
            .await
            .expect("dropped");
    }

    pub(crate) async fn append(&self, stream: &Arc<StreamDeclaration>, lines: &[String]) {
        self.journal
            .append(vec![batch(stream, lines)])
            .await
            .expect("appends");
    }

    pub(crate) fn postgres(&self) -> PostgresOptions {
        PostgresOptions {
            url: self.url.clone(),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            ..PostgresOptions::default()
        }
    }

    pub(crate) fn database(&self) -> Arc<dyn Database> {
        Arc::new(PostgresDatabase::new(&self.postgres()).expect("a URL"))
    }

    pub(crate) fn start(&self, streams: &[Arc<StreamDeclaration>], options: DatabaseOptions) -> DatabaseSink {
        let journal = Arc::<EmbeddedJournal>::clone(&self.journal);
        DatabaseSink::start(&Handle::current(), journal, streams, self.database(), options).expect("maps")
    }

    /// Runs a sink until it has everything, and ends it.
    pub(crate) async fn run(&self, streams: &[Arc<StreamDeclaration>], options: DatabaseOptions) {
        let sink = self.start(streams, options);
        caught_up(&sink.progress()).await;
        sink.shutdown().await;
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        one(&self.admin, &format!("SELECT count(*) FROM {what}")).await
    }

    /// Everything that a query gives, as text, with `null` for null.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = self.admin.simple_query(sql).await.expect("a query");
        let mut rows = Vec::new();
        for message in messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let text = |column| row.get(column).unwrap_or("null").to_owned();
                rows.push((0..row.len()).map(text).collect());
            }
        }
        rows
    }
}

pub(crate) async fn one(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a query").get(0)
}

/// Small transactions and short waits.
pub(crate) fn options() -> DatabaseOptions {
    DatabaseOptions {
        name: "test".to_owned(),
        batch_rows: 5_000,
        commit_every: Duration::from_millis(20),
        retry_first: Duration::from_millis(10),
        retry_longest: Duration::from_millis(200),
        transaction_timeout: Duration::from_secs(10),
        ..DatabaseOptions::default()
    }
}

pub(crate) fn mapped(stream: &Arc<StreamDeclaration>, mapping: TableMapping) -> DatabaseOptions {
    DatabaseOptions {
        mappings: BTreeMap::from([(stream.name.clone(), mapping)]),
        ..options()
    }
}

pub(crate) async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn caught_up(progress: &DatabaseProgress) {
    until("everything is written", Duration::from_secs(60), async || {
        let all = progress.read().await;
        for one in &all {
            assert_eq!(one.stopped, None);
        }
        all.iter().all(|one| one.committed == one.end)
    })
    .await;
}

/// Rows of a batch as the sink has them, for tests that drive a session themselves.
pub(crate) fn rows(stream: &Arc<StreamDeclaration>, offset: u64, lines: &[String]) -> Arc<Rows> {
    let (partition, from) = (Partition(0), event::Offset(offset));
    let mut rows = Rows::new(partition, from);
    let lake = event::schema::to_lake(&batch(stream, lines), from, stream).expect("fits");
    rows.push(lake, from.next());
    Arc::new(rows)
}

/// A server of one test's own, which may be killed.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    port: u16,
    binaries: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts one; `None` with a loud word when there is no PostgreSQL on this machine.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(binaries) = binaries() else {
            skipped(test, "the programs of PostgreSQL (Debian: postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("tidemill-postgres-")
            .tempdir()
            .expect("a folder");
        let data = folder.path().join("data");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let server = Self {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            data,
            port,
            binaries,
            _folder: folder,
        };
        server.create();
        server.up();
        Some(server)
    }

    fn create(&self) {
        if is_root() {
            let folder = self.data.parent().expect("it has one");
            run(Command::new("chown").arg("postgres").arg(folder));
        }
        let data = self.data.to_str().expect("UTF-8");
        run(self.program("initdb").args([
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
            "--locale=C",
            "-E",
            "UTF8",
        ]));
        let settings = format!(
            "port={}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\nshared_buffers=32MB\n\
             max_connections=20\n",
            self.port
        );
        let file = self.data.join("postgresql.conf");
        let old = std::fs::read_to_string(&file).expect("there");
        std::fs::write(&file, old + &settings).expect("written");
    }

    /// Writes a file of the server's, which nobody else may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.data.join(name);
        std::fs::write(&file, text).expect("written");
        run(Command::new("chmod").arg("600").arg(&file));
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&file));
        }
    }

    /// Starts it and waits until it answers.
    pub(crate) fn up(&self) {
        let data = self.data.to_str().expect("UTF-8");
        let log = self.data.join("log");
        let log = log.to_str().expect("UTF-8");
        run(self
            .program("pg_ctl")
            .args(["-D", data, "-l", log, "-w", "-t", "60", "start"]));
    }

    /// Ends it as a power cut would end its processes.
    pub(crate) fn kill(&self) {
        for process in self.processes() {
            signal("KILL", process);
        }
        let begun = Instant::now();
        while self.processes().iter().any(|process| alive(*process)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_file(self.data.join("postmaster.pid"));
    }

    pub(crate) fn pause(&self) {
        for process in self.processes() {
            signal("STOP", process);
        }
    }

    pub(crate) fn resume(&self) {
        for process in self.processes() {
            signal("CONT", process);
        }
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(master) = file.lines().next().and_then(|line| line.parse::<u32>().ok()) else {
            return Vec::new();
        };
        let children = std::fs::read_dir("/proc")
            .expect("Linux")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|process| parent(*process) == Some(master));
        std::iter::once(master).chain(children).collect()
    }

    fn program(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        for process in self.processes() {
            signal("KILL", process);
        }
        let begun = Instant::now();
        while self.processes().iter().any(|process| alive(*process))
            && begun.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// `/proc/…/stat` is: id (name) state parent …
fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

fn alive(process: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    // A zombie waits for its parent only.
    status.is_ok_and(|status| !status.contains(") Z "))
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn run(command: &mut Command) {
    // Inherited pipes would keep the test's output open as long as the server lives.
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}
