//! A server on a loopback socket, and a client that sends the bytes that it is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use event::{Catalog, FieldDeclaration, FieldType, StreamDeclaration, StreamName};
use ingest::http::{HttpOptions, serve};
use ingest::{Ingest, IngestOptions};
use journal::Batcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::journal::MemoryJournal;

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) ingest: Ingest,
    shutdown: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// `n` is a required int, `word` an optional string.
pub(crate) fn numbers() -> StreamDeclaration {
    let field = |name: &str, kind, optional| FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    };
    let int = FieldType::Int {
        min: 0,
        max: i64::MAX,
    };
    StreamDeclaration {
        name: StreamName::parse("numbers").unwrap(),
        routes: vec!["/stats/numbers".to_owned()],
        fields: vec![
            field("n", int, false),
            field("word", FieldType::String { max_bytes: 100 }, true),
        ],
        ..StreamDeclaration::rejects()
    }
}

/// Twenty optional ints, so that `{}` is an event.
fn wide() -> StreamDeclaration {
    let mut stream = numbers();
    let int = stream.fields[0].clone();
    stream.routes.clear();
    stream.name = StreamName::parse("wide").unwrap();
    stream.fields = (0..20)
        .map(|number| FieldDeclaration {
            name: format!("n{number}"),
            optional: true,
            path: vec![format!("n{number}")],
            ..int.clone()
        })
        .collect();
    stream
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(IngestOptions::default(), HttpOptions::default()).await
    }

    pub(crate) async fn with(options: IngestOptions, http: HttpOptions) -> Self {
        let journal = Arc::new(MemoryJournal::default());
        let batcher = Batcher::new(Arc::clone(&journal) as Arc<dyn journal::Journal>);
        let ingest = Ingest::new(Catalog::new([numbers(), wide()]), batcher, options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, stopped) = watch::channel(false);
        let accepting =
            tokio::runtime::Handle::current().spawn(accept(listener, ingest.clone(), http, stopped));
        Self {
            address,
            journal,
            ingest,
            shutdown,
            accepting,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            socket: TcpStream::connect(self.address).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// One POST on a connection of its own.
    pub(crate) async fn post(&self, target: &str, headers: &str, body: &[u8]) -> Answer {
        let mut client = self.connect().await;
        client.post(target, headers, body).await
    }

    pub(crate) async fn post_lines(&self, lines: &str) -> Answer {
        self.post(EVENTS, NDJSON, lines.as_bytes()).await
    }

    /// Shuts down as a server does, and waits until every connection has ended.
    pub(crate) async fn stop(self) {
        self.ingest.close();
        self.shutdown.send_replace(true);
        tokio::time::timeout(PATIENCE, self.accepting)
            .await
            .expect("connections end")
            .unwrap();
    }

    /// Tells connections to end after the request in progress.
    pub(crate) fn drain(&self) {
        self.shutdown.send_replace(true);
    }
}

async fn accept(listener: TcpListener, ingest: Ingest, http: HttpOptions, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let ingest = ingest.clone();
        let mut stop = stopped.clone();
        connections.spawn(async move {
            let service = move |request| {
                let ingest = ingest.clone();
                async move { ingest.handle(request).await }
            };
            // How a connection ended is seen by its client.
            let _ = serve(socket, service, http, async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .await;
        });
    }
    connections.join_all().await;
}

pub(crate) const EVENTS: &str = "/v1/streams/numbers/events";
pub(crate) const NDJSON: &str = "content-type: application/x-ndjson\r\n";

pub(crate) struct Client {
    socket: TcpStream,
    read: Vec<u8>,
}

/// An answer: status, head in lower case, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

pub(crate) fn head(target: &str, headers: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {length}\r\n\r\n")
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends; an error when the server has closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        tokio::time::timeout(PATIENCE, self.socket.write_all(bytes))
            .await
            .expect("the server reads")
    }

    pub(crate) async fn post(&mut self, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.send(head(target, headers, body.len()).as_bytes()).await;
        self.send(body).await;
        self.answer().await
    }

    /// Reads one answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// Reads one answer, or `None` when the server closes without one.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.read_more().await == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect())
            .unwrap()
            .to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        while self.read.len() < length {
            assert_ne!(self.read_more().await, 0, "the answer is complete");
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    async fn read_more(&mut self) -> usize {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.read));
        read.await.expect("the server answers or closes").unwrap_or(0)
    }

    /// Whether the server has closed the connection.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read_more().await == 0
    }

    /// The socket itself.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }
}
