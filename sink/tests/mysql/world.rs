//! A journal in a folder of its own, a database of its own on a real server, and a server of its own for tests that
//! kill or pause it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::stream::parse_streams;
use event::{Batch, Partition, Span, StreamDeclaration, TraceId};
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use rand::RngExt;
use sink::{DatabaseOptions, DatabaseSink, LoadData, MysqlDatabase, MysqlOptions};
use tokio::runtime::Handle;

/// Where the servers are, or `None` after saying loudly that the test is skipped.
pub(crate) fn mysql_url() -> Option<String> {
    match std::env::var_os("MYSQL_URL") {
        Some(url) => Some(url.into_string().expect("MYSQL_URL is text")),
        None => {
            let required = std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_some_and(|value| value == "1");
            assert!(!required, "MYSQL_URL is not set (cargo xtask services up)");
            println!("SKIPPED: needs MYSQL_URL (cargo xtask services up)");
            None
        }
    }
}

pub(crate) fn soak() -> bool {
    std::env::var_os("TIDEMILL_SOAK").is_some_and(|value| value == "1")
}

/// The same URL with another database.
fn with_database(url: &str, database: &str) -> String {
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let host_end = head.find("://").map_or(0, |at| at + 3);
    let path = head[host_end..].find('/').map_or(head.len(), |at| host_end + at);
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    };
    format!("{}/{database}{query}", &head[..path])
}

/// One test's surroundings.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) journal: Arc<EmbeddedJournal>,
    pub(crate) url: String,
    pub(crate) database: String,
    server_url: String,
    next_received_at: std::sync::atomic::AtomicI64,
}

impl World {
    /// A new journal, and a new database on the server.
    pub(crate) async fn new(server_url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = EmbeddedOptions::new(folder.path().join("journal"));
        (options.disk_reserve_bytes, options.segment_bytes) = (0, 64 << 10);
        let journal = EmbeddedJournal::open(options).expect("opens");
        let database = format!("tidemill_test_{:016x}", rand::rng().random::<u64>());
        let mut conn = connect(server_url).await;
        conn.query_drop(format!("CREATE DATABASE `{database}`"))
            .await
            .expect("creates a database");
        conn.disconnect().await.expect("disconnects");
        Self {
            _folder: folder,
            journal,
            url: with_database(server_url, &database),
            database,
            server_url: server_url.to_owned(),
            next_received_at: 1_700_000_000_000_000.into(),
        }
    }

    pub(crate) fn journal(&self) -> Arc<dyn Journal> {
        Arc::<EmbeddedJournal>::clone(&self.journal)
    }

    pub(crate) fn mysql(&self, load_data: LoadData) -> Arc<MysqlDatabase> {
        let options = MysqlOptions {
            url: self.url.clone(),
            load_data,
            ..MysqlOptions::default()
        };
        Arc::new(MysqlDatabase::new(&options).expect("a URL"))
    }

    /// Starts a sink of `streams` with options that are quick to try again.
    pub(crate) fn sink(&self, streams: &[Arc<StreamDeclaration>], options: DatabaseOptions) -> DatabaseSink {
        self.sink_by(streams, options, LoadData::Auto)
    }

    pub(crate) fn sink_by(
        &self,
        streams: &[Arc<StreamDeclaration>],
        options: DatabaseOptions,
        load_data: LoadData,
    ) -> DatabaseSink {
        let database = self.mysql(load_data);
        DatabaseSink::start(&Handle::current(), self.journal(), streams, database, options).expect("starts")
    }

    /// Appends one record of these lines.
    pub(crate) async fn append(&self, stream: &Arc<StreamDeclaration>, lines: &str) {
        let received_at = self
            .next_received_at
            .fetch_add(1_000_001, std::sync::atomic::Ordering::SeqCst);
        let batch = batch(stream, lines, received_at);
        self.journal.append(vec![batch]).await.expect("appends");
    }

    pub(crate) async fn conn(&self) -> Conn {
        connect(&self.url).await
    }

    /// All rows of a query as text, NULL as `None`.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let mut conn = self.conn().await;
        let rows: Vec<mysql_async::Row> = conn.query(query).await.expect(query);
        conn.disconnect().await.expect("disconnects");
        rows.into_iter()
            .map(|row| row.unwrap().into_iter().map(mysql_async::from_value).collect())
            .collect()
    }

    /// The one number that a query gives.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let rows = self.rows(query).await;
        rows[0][0].as_ref().expect("a number").parse().expect("a number")
    }

    pub(crate) async fn run(&self, statement: &str) {
        let mut conn = self.conn().await;
        conn.query_drop(statement).await.expect(statement);
        conn.disconnect().await.expect("disconnects");
    }

    /// Removes the database.
    pub(crate) async fn remove(self) {
        let mut conn = connect(&self.server_url).await;
        conn.query_drop(format!("DROP DATABASE `{}`", self.database))
            .await
            .expect("drops");
        conn.disconnect().await.expect("disconnects");
        self.journal.close().await;
    }
}

pub(crate) async fn connect(url: &str) -> Conn {
    let mut conn = Conn::new(Opts::from_url(url).expect("a URL"))
        .await
        .expect("connects");
    conn.query_drop("SET NAMES utf8mb4").await.expect("sets names");
    conn
}

/// Options that commit often and try again quickly.
pub(crate) fn quick() -> DatabaseOptions {
    DatabaseOptions {
        name: "warehouse".to_owned(),
        commit_every: Duration::from_millis(10),
        retry_first: Duration::from_millis(5),
        retry_longest: Duration::from_millis(100),
        ..DatabaseOptions::default()
    }
}

/// A declared stream.
pub(crate) fn stream(text: &str) -> Arc<StreamDeclaration> {
    let table: toml::Table = text.parse().expect("TOML");
    let mut streams = parse_streams(&table).expect("a declaration");
    Arc::new(streams.remove(0))
}

pub(crate) fn batch(stream: &Arc<StreamDeclaration>, lines: &str, received_at: i64) -> Batch {
    let mut decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
    decoder
        .push(Bytes::copy_from_slice(lines.as_bytes()))
        .expect("takes lines");
    let mut decoded = decoder.finish().expect("ends");
    assert_eq!(
        decoded.rejects.total(),
        0,
        "a test's lines are right: {:?}",
        decoded.rejects
    );
    assert_eq!(decoded.batches.len(), 1, "a test's record is one batch");
    let rows = decoded.batches.remove(0);
    Batch {
        stream: stream.name.clone(),
        partition: Partition(0),
        version: stream.version,
        spans: vec![Span {
            rows: rows.num_rows().try_into().expect("few rows"),
            trace_id: TraceId::from_bytes([7; 16]),
            received_at,
            idempotency_key: None,
            producer: None,
        }],
        rows,
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited too long until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every stream's end is committed.
pub(crate) async fn until_caught_up(sink: &DatabaseSink) {
    let progress = sink.progress();
    until("the database has everything", async || {
        let all = progress.read().await;
        if let Some(stopped) = all.iter().find_map(|one| one.stopped.clone()) {
            panic!("stopped: {stopped}");
        }
        all.iter().all(|one| one.committed == one.end)
    })
    .await;
}

/// A server that a test may kill and pause.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Child,
}

impl Server {
    /// Starts a new server, or gives `None` where none is installed and none is required.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        mysql_url()?;
        let folder = tempfile::tempdir().expect("a folder");
        // Of several at once that share a directory of temporary files some fail.
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).expect("a folder");
        let installed = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--user={}", user()))
            .arg(format!("--datadir={}", folder.path().join("data").display()))
            .arg(format!("--tmpdir={}", temporary.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("mariadb-install-db runs");
        assert!(installed.success(), "mariadb-install-db: {installed}");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = spawn(folder.path(), port, &arguments);
        let server = Self {
            folder,
            port,
            arguments,
            process,
        };
        server.wait().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port)
    }

    /// Ends it without a word and starts it again.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.process.kill().expect("kills");
        self.process.wait().expect("ends");
        self.process = spawn(self.folder.path(), self.port, &self.arguments);
        self.wait().await;
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    async fn wait(&self) {
        let url = self.url();
        until("the server answers", async || {
            Conn::new(Opts::from_url(&url).expect("a URL")).await.is_ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a process that is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    Command::new("mariadbd")
        .arg("--no-defaults")
        .arg(format!("--user={}", user()))
        .arg(format!("--datadir={}", folder.join("data").display()))
        // A server that starts removes the temporary tables of all that have the same directory for them.
        .arg(format!("--tmpdir={}", folder.display()))
        .arg(format!("--port={port}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg("--innodb-buffer-pool-size=64M")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd runs")
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(output.stdout)
        .expect("a name")
        .trim()
        .to_owned()
}
