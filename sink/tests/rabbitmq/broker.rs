//! What the tests stand on: a broker, names of their own in it, a journal on disk, and a way that can be cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::{Batch, Partition, Span, StreamDeclaration, TraceId};
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use sink::{DatabaseOptions, DatabaseSink, RabbitmqDatabase, RabbitmqOptions, StreamProgress};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// The shared broker's URL, or `None` with a loud word when the test is to be left out.
pub(crate) fn shared() -> Option<String> {
    let url = std::env::var_os("AMQP_URL").map(|url| url.into_string().expect("UTF-8"));
    if url.is_none() {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
            "AMQP_URL must be set"
        );
        eprintln!("SKIPPED: needs AMQP_URL (cargo xtask services up)");
    }
    url
}

/// A journal with one stream, and names of one test's own at a broker.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) stream: Arc<StreamDeclaration>,
    pub(crate) journal: Arc<EmbeddedJournal>,
    pub(crate) channel: Channel,
    _connection: Connection,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = EmbeddedOptions::new(folder.path().join("journal"));
        options.disk_reserve_bytes = 0;
        let text = "[orders.fields]\nevent_id = \"uuid\"\nn = \"int\"\nmade = { type = \"timestamp\", unit = \"ms\" }\n\
                    page = { type = \"string\", optional = true, from = \"at.page\" }";
        let mut streams = event::stream::parse_streams(&text.parse().expect("TOML")).expect("right");
        let (connection, channel) = connect(url).await;
        Self {
            url: url.to_owned(),
            name: format!("test.{:016x}", rand::random::<u64>()),
            stream: Arc::new(streams.remove(0)),
            journal: EmbeddedJournal::open(options).expect("opens"),
            channel,
            _connection: connection,
            _folder: folder,
        }
    }

    /// Appends events `from..to` as one record.
    pub(crate) async fn append(&self, from: u64, to: u64) {
        let lines: Vec<_> = (from..to).map(event).collect();
        let mut decoder = Decoder::new(Arc::clone(&self.stream), Format::Ndjson);
        decoder.push(Bytes::from(lines.join("\n"))).expect("lines");
        let mut decoded = decoder.finish().expect("lines");
        assert_eq!(decoded.rejects.total(), 0, "{:?}", decoded.rejects.described);
        let rows = decoded.batches.remove(0);
        let span = Span {
            rows: u32::try_from(rows.num_rows()).expect("few"),
            trace_id: TraceId::from_bytes([7; 16]),
            received_at: 1_700_000_000_123_456,
            idempotency_key: None,
            producer: None,
        };
        let batch = Batch {
            stream: self.stream.name.clone(),
            partition: Partition(0),
            version: 1,
            spans: vec![span],
            rows,
        };
        self.journal.append(vec![batch]).await.expect("appends");
    }

    /// A destination's settings: the default exchange and a queue of the test's.
    pub(crate) fn options(&self) -> RabbitmqOptions {
        RabbitmqOptions {
            url: self.url.clone(),
            group: format!("{}.group", self.name),
            exchange: String::new(),
            routing_key: None,
            queue: Some(self.name.clone()),
            message_id: Some("event_id".to_owned()),
        }
    }

    pub(crate) fn start(&self, options: &RabbitmqOptions) -> DatabaseSink {
        let database = Arc::new(RabbitmqDatabase::new(options).expect("a URL"));
        let journal = Arc::<EmbeddedJournal>::clone(&self.journal);
        let bounds = RabbitmqDatabase::bounds(DatabaseOptions {
            name: "test".to_owned(),
            group: options.group.clone(),
            retry_first: Duration::from_millis(20),
            retry_longest: Duration::from_millis(300),
            connect_timeout: Duration::from_secs(2),
            transaction_timeout: Duration::from_secs(10),
            ..DatabaseOptions::default()
        });
        let streams = [Arc::clone(&self.stream)];
        DatabaseSink::start(&Handle::current(), journal, &streams, database, bounds).expect("maps")
    }

    /// Takes every message of a queue: bodies and properties, in order.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<(serde_json::Value, BasicProperties)> {
        drain(&self.channel, queue).await
    }

    /// Removes what the test made.
    pub(crate) async fn remove(self) {
        let group = format!("{}.group.orders.0", self.name);
        for queue in [
            self.name.clone(),
            format!("{group}.position"),
            format!("{group}.begun"),
        ] {
            let options = QueueDeleteOptions::default();
            self.channel
                .queue_delete(queue.into(), options)
                .await
                .expect("deleted");
        }
    }
}

pub(crate) async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

pub(crate) async fn drain(channel: &Channel, queue: &str) -> Vec<(serde_json::Value, BasicProperties)> {
    let mut found = Vec::new();
    while let Some(message) = channel
        .basic_get(queue.into(), BasicGetOptions::default())
        .await
        .expect("a queue")
    {
        message
            .ack(BasicAckOptions::default())
            .await
            .expect("acknowledged");
        let body = serde_json::from_slice(&message.data).expect("JSON");
        found.push((body, message.properties.clone()));
    }
    found
}

/// Messages that wait in a queue.
pub(crate) async fn waiting(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await;
    queue.expect("the queue is there").message_count()
}

/// The id of event `n`.
pub(crate) fn id(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn event(n: u64) -> String {
    format!(
        "{{\"event_id\":\"{}\",\"n\":{n},\"made\":{},\"at\":{{\"page\":\"/{n}\"}}}}",
        id(n),
        1_700_000_000_000 + n
    )
}

/// How the only partition is.
pub(crate) async fn progress(sink: &DatabaseSink) -> StreamProgress {
    sink.progress().read().await.remove(0)
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn caught_up(sink: &DatabaseSink) {
    until("everything is published", async || {
        let progress = progress(sink).await;
        assert_eq!(progress.stopped, None);
        progress.assigned && progress.committed == progress.end
    })
    .await;
}

/// A way to a server that can be cut.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (open, watched) = watch::channel(true);
        let server = authority(url);
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

    pub(crate) fn url(&self, url: &str) -> String {
        url.replace(&authority(url), &self.address.to_string())
    }
}

fn authority(url: &str) -> String {
    let parsed = url::Url::parse(url).expect("a URL");
    format!(
        "{}:{}",
        parsed.host_str().expect("a host"),
        parsed.port().expect("a port")
    )
}

/// A broker of one test's own, which may be killed.
pub(crate) struct OwnBroker {
    pub(crate) url: String,
    ports: [u16; 3],
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl OwnBroker {
    /// Starts one; `None` with a loud word when there is no RabbitMQ on this machine.
    pub(crate) async fn start() -> Option<Self> {
        if !Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
            eprintln!("SKIPPED: needs RabbitMQ on this machine (Debian: rabbitmq-server)");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("tidemill-rabbitmq-")
            .tempdir()
            .expect("a folder");
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let ports = [port(), port(), port()];
        let mut broker = Self {
            url: format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports[0]),
            ports,
            child: None,
            folder,
        };
        broker.up().await;
        Some(broker)
    }

    /// Starts it over what it has on disk, and waits until it answers.
    pub(crate) async fn up(&mut self) {
        let [port, distribution, mapper] = self.ports;
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        std::fs::write(
            path("rabbitmq.conf"),
            format!("listeners.tcp.1 = 127.0.0.1:{port}\n"),
        )
        .expect("written");
        std::fs::write(path("plugins"), "[].\n").expect("written");
        let log = std::fs::File::create(path("log")).expect("created");
        let start =
            "epmd -port \"$ERL_EPMD_PORT\" -address 127.0.0.1 & exec /usr/lib/rabbitmq/bin/rabbitmq-server";
        let child = Command::new("bash")
            .args(["-c", start])
            .env("RABBITMQ_NODENAME", format!("t{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", path("no-environment"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("data"))
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cloned"))
            .stderr(log)
            .spawn()
            .expect("starts");
        self.child = Some(child);
        until("the broker answers", async || {
            Connection::connect(&self.url, ConnectionProperties::default())
                .await
                .is_ok()
        })
        .await;
    }

    /// Ends it as a power cut of its process would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The mapper, and nobody else's.
        let _ = Command::new("epmd")
            .args(["-port", &self.ports[2].to_string(), "-kill"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.kill();
    }
}
