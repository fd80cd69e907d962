//! A server between the lake and its bucket that loses answers, or is the bucket itself and answers what it likes.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    head: String,
    body: Vec<u8>,
}

/// What becomes of a request.
pub(crate) enum Fate {
    /// It is passed on, and its answer back.
    Pass,
    /// It is passed on, and nobody hears of its answer.
    LoseAnswer,
    /// It is passed on, and this is the answer.
    Answered(&'static str),
    /// It is not passed on; this is the answer.
    Answer(&'static str),
}

type Decide = dyn Fn(&Request) -> Fate + Send + Sync;

/// The server. It ends when it is dropped.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) endpoint: String,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Starts one before `upstream`, an endpoint.
    pub(crate) async fn start(
        upstream: &str,
        decide: impl Fn(&Request) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let upstream: Arc<str> = upstream
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .into();
        let decide: Arc<Decide> = Arc::new(decide);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (upstream, decide) = (Arc::clone(&upstream), Arc::clone(&decide));
                connections.spawn(async move {
                    // A client that goes away is no failure.
                    serve(connection, &upstream, &*decide).await.ok();
                });
            }
        });
        Self {
            endpoint,
            _serving: serving,
        }
    }
}

/// One request, one answer; then the connection ends.
async fn serve(mut connection: TcpStream, upstream: &str, decide: &Decide) -> io::Result<()> {
    let request = read(&mut connection).await?;
    let fate = decide(&request);
    if let Fate::Answer(answer) = fate {
        connection.write_all(answer.as_bytes()).await?;
        return connection.shutdown().await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    let head = request.head.trim_end();
    server
        .write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    server.write_all(&request.body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    match fate {
        Fate::Pass => connection.write_all(&answer).await?,
        Fate::Answered(answer) | Fate::Answer(answer) => connection.write_all(answer.as_bytes()).await?,
        Fate::LoseAnswer => return Ok(()),
    }
    connection.shutdown().await
}

async fn read(connection: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = bytes.split_off(end);
    while body.len() < length.unwrap_or(0) {
        if connection.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut words = head.split_whitespace().map(str::to_owned);
    Ok(Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        head,
        body,
    })
}
