//! Serving one connection: HTTP/1.1 or HTTP/2 with prior knowledge (h2c), with the limits, deadlines and
//! strictness that every route needs. Both of the server's listeners use [`serve`] for everything.
//!
//! # What is done where
//! | concern | by |
//! |---|---|
//! | head size, number of headers, chunk framing, invalid lengths | hyper |
//! | slow heads, idle connections, unread answers, closing | `tap` |
//! | `Content-Length` with `Transfer-Encoding` | `head`, answered here |
//! | `Host`, `:authority` | `strict` |
//! | slow bodies | [`PacedBody`] |
//! | HTTP/2 streams, resets, windows, pings | h2, by [`HttpOptions`] and the constants here |
//! | how many connections there are | the server |
//!
//! # Chunks
//! hyper hands a body out in the pieces in which it read it. Its buffer begins at 8 KiB and doubles while reads
//! fill it, up to [`HttpOptions::read_buffer_bytes_max`]; so large bodies come in few large chunks, and an idle
//! connection holds little.

mod head;
mod pace;
mod strict;
mod tap;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::JoinSet;

pub use pace::{BodyReadError, Pace, PacedBody};

use crate::TraceContext;
use tap::{Activity, Exchange, Tap};

/// What a client with prior knowledge of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of request headers; more is 431.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Most streams of one HTTP/2 connection at a time.
const H2_STREAMS_MAX: u32 = 128;

/// Bytes that may be on their way in one HTTP/2 stream, and in a whole connection, before we have read them.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 4 << 20;

/// HTTP/2 pings: a peer that is gone is noticed after the sum of the two.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Resets of streams that were not yet accepted, and that we had to send, before a connection is ended.
const H2_PENDING_RESETS_MAX: usize = 20;
const H2_LOCAL_RESETS_MAX: usize = 256;

/// Settings of connections.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// A head must be complete this long after its beginning.
    pub head_timeout: Duration,
    /// A connection without a request in progress is closed after this.
    pub idle_timeout: Duration,
    /// An answer of which the client takes no byte for this long is given up.
    pub write_timeout: Duration,
    /// How slowly bodies may arrive.
    pub pace: Pace,
    /// Most bytes that are read at once, and so the largest chunk of a body.
    pub read_buffer_bytes_max: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            pace: Pace::default(),
            read_buffer_bytes_max: 1 << 20,
        }
    }
}

/// How a connection ended, other than well. For diagnostics; nothing is to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed, or nothing came in time, before the first request.
    #[error("connection ends before a request")]
    Io(#[from] std::io::Error),
    /// hyper gave the connection up.
    #[error("connection ends")]
    Http(#[from] hyper::Error),
}

/// Serves one accepted connection to its end. `service` answers every request that has passed the checks here.
/// Once `shutdown` is ready, requests in progress finish and the connection ends; how long that may take is the
/// caller's to limit, by dropping this future. A connection whose answer is 101 ends here as well: it is handed over to
/// whoever waits for the upgrade, still with the deadline of writes.
///
/// # Errors
/// [`ConnectionError`] when the connection did not end well.
///
/// # Cancellation
/// Requests in progress are dropped with the connection.
pub async fn serve<I, S, F, B>(
    mut io: I,
    service: S,
    options: HttpOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<PacedBody>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tokio::pin!(shutdown);
    let prefix = tokio::select! {
        prefix = tokio::time::timeout(options.head_timeout, read_prefix(&mut io)) => {
            prefix.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??
        }
        () = &mut shutdown => return Ok(()),
    };
    let http2 = prefix.starts_with(PREFACE);
    let activity = Activity::new();
    let gate = Arc::new(Gate {
        service,
        activity: Arc::clone(&activity),
        pace: options.pace,
        heads: AtomicU64::new(0),
    });
    let tap = TokioIo::new(Tap::new(io, prefix, !http2, activity, options));
    let service = service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(gate.answer(request).await) }
    });
    if http2 {
        let tasks = Tasks::default();
        let _tasks = AbortOnDrop(tasks.clone());
        let connection = http2_builder(tasks).serve_connection(tap, service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = shutdown => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    } else {
        let connection = http1_builder(&options)
            .serve_connection(tap, service)
            .with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = shutdown => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

/// Reads until it is clear whether this is HTTP/2: until the bytes differ from the preface, or are all of it.
async fn read_prefix<I: AsyncRead + Unpin>(io: &mut I) -> std::io::Result<Bytes> {
    let mut prefix = BytesMut::with_capacity(4 << 10);
    while prefix.len() < PREFACE.len() && PREFACE.starts_with(&prefix) {
        if io.read_buf(&mut prefix).await? == 0 {
            break;
        }
    }
    Ok(prefix.freeze())
}

fn http1_builder(options: &HttpOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The deadlines of heads are kept by the tap, which can tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(options.read_buffer_bytes_max);
    builder
}

fn http2_builder(tasks: Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_LOCAL_RESETS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Where every request of a connection passes on its way to the service.
struct Gate<S> {
    service: S,
    activity: Arc<Activity>,
    pace: Pace,
    /// Requests that hyper has parsed; in HTTP/1 they come in the order of their heads.
    heads: AtomicU64,
}

impl<S> Gate<S> {
    async fn answer<F, B>(&self, request: Request<Incoming>) -> Response<AnswerBody<B>>
    where
        S: Fn(Request<PacedBody>) -> F,
        F: Future<Output = Response<B>>,
    {
        let exchange = self.activity.exchange();
        let head = self.heads.fetch_add(1, Ordering::AcqRel) + 1;
        let (parts, body) = request.into_parts();
        let checked = if self.activity.ambiguous_head() == head {
            Err(strict::ambiguous_framing())
        } else {
            strict::check_host(&parts)
        };
        let response = match checked {
            Err(problem) => problem
                .into_response(&TraceContext::from_headers(&parts.headers), parts.version)
                .map(Either::Left),
            Ok(()) => {
                let request = Request::from_parts(parts, PacedBody::new(body, self.pace));
                (self.service)(request).await.map(Either::Right)
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.activity.upgrade();
        }
        response.map(|body| AnswerBody {
            body,
            _exchange: exchange,
        })
    }
}

/// The body of an answer; the exchange is in progress until it is handed over.
struct AnswerBody<B> {
    body: Either<Full<Bytes>, B>,
    _exchange: Exchange,
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The tasks of the streams of one HTTP/2 connection.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended tasks are let go here, so the set is never larger than the streams of the connection.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Streams may hold their executor, so dropping the connection's own handle would not be enough.
struct AbortOnDrop(Tasks);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}
