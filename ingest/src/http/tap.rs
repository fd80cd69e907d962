//! The stream between socket and hyper: watches heads, keeps deadlines, and closes so that answers arrive.
//!
//! # Deadlines
//! - a head must be complete `head_timeout` after its first byte, the first one after the connection began;
//! - a connection without an exchange in progress is closed after `idle_timeout`;
//! - a client that does not read its answer is given up after `write_timeout` without a byte taken; this goes on for
//!   what becomes of a connection that was upgraded (a WebSocket), which has its own idea of being idle.
//!
//! hyper's own `header_read_timeout` also runs while a kept-alive connection is idle, so it cannot be short for
//! heads and long for idling; that is why deadlines are here. One timer per connection is set when first needed
//! and looks again when it fires, so requests on a busy connection do not touch it.
//!
//! # Closing
//! When a body was refused unread, closing the socket at once would reset the connection, and the client might
//! never read why. So the write side is closed, and what still arrives is discarded for a short time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::HttpOptions;
use super::head::{Phase, Scanner};

/// How long, and how many bytes, a connection that ends early is read on.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// Sent when the first head of a connection does not come in time; nothing else can be in flight then.
const TIMEOUT_ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What the stream and the service of one connection tell each other.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Exchanges in progress: request heads read whose answers are not yet handed over.
    exchanges: AtomicUsize,
    /// When the last exchange ended, in milliseconds after `began`.
    ended_ms: AtomicU64,
    /// The number of the head that is ambiguous; 0 for none.
    ambiguous_head: AtomicU64,
    /// Whether this is HTTP no longer.
    upgraded: AtomicBool,
}

/// One exchange; ends when dropped.
#[derive(Debug)]
pub(super) struct Exchange(Arc<Activity>);

/// The stream.
#[derive(Debug)]
pub(super) struct Tap<I> {
    io: I,
    /// Bytes that were read before hyper began.
    prefix: Bytes,
    /// Absent for HTTP/2, whose frames have no such ambiguity.
    scanner: Option<Scanner>,
    activity: Arc<Activity>,
    options: HttpOptions,
    head_since: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    timer: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            exchanges: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
            ambiguous_head: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
        })
    }

    /// Says that what follows the answer is not HTTP: no heads to watch, nothing to wait for.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    fn upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    pub(super) fn exchange(self: &Arc<Self>) -> Exchange {
        self.exchanges.fetch_add(1, Ordering::AcqRel);
        Exchange(Arc::clone(self))
    }

    pub(super) fn ambiguous_head(&self) -> u64 {
        self.ambiguous_head.load(Ordering::Acquire)
    }

    fn busy(&self) -> bool {
        self.exchanges.load(Ordering::Acquire) > 0
    }

    fn idle_since(&self) -> Instant {
        self.began + Duration::from_millis(self.ended_ms.load(Ordering::Acquire))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let elapsed = self.0.began.elapsed().as_millis();
        self.0
            .ended_ms
            .store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Release);
        self.0.exchanges.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<I> Tap<I> {
    /// `prefix` was read from `io` already; `http1` says that heads are to be watched.
    pub(super) fn new(
        io: I,
        prefix: Bytes,
        http1: bool,
        activity: Arc<Activity>,
        options: HttpOptions,
    ) -> Self {
        Self {
            io,
            prefix,
            scanner: http1.then(Scanner::default),
            head_since: Some(activity.began),
            activity,
            options,
            read_timer: None,
            write_timer: None,
            lingering: None,
        }
    }

    fn watch(&mut self, bytes: &[u8]) {
        let Some(scanner) = &mut self.scanner else {
            return;
        };
        if self.activity.upgraded() {
            return;
        }
        let heads = scanner.heads();
        scanner.scan(bytes);
        if let Some(head) = scanner.ambiguous_head() {
            self.activity.ambiguous_head.store(head, Ordering::Release);
        }
        if scanner.heads() > heads {
            self.head_since = None;
        }
        if scanner.phase() == Phase::Head && self.head_since.is_none() {
            self.head_since = Some(Instant::now());
        }
    }

    /// When reading must have gone on; `None` while a body comes, which has its own pace.
    fn read_deadline(&mut self) -> Option<Instant> {
        if self.activity.upgraded() {
            return None;
        }
        let idle_since = self.activity.idle_since();
        let phase = self.scanner.as_ref().map_or(Phase::Idle, Scanner::phase);
        let first = self.scanner.as_ref().is_some_and(|scanner| scanner.heads() == 0);
        if phase == Phase::Body {
            return None;
        }
        if self.activity.busy() {
            // Only a reason to look again: an answer is being made or read.
            return Some(Instant::now() + self.options.idle_timeout.min(self.options.head_timeout));
        }
        if phase == Phase::Head || first {
            let since = self.head_since.map_or(idle_since, |since| since.max(idle_since));
            return Some(since + self.options.head_timeout);
        }
        Some(idle_since + self.options.idle_timeout)
    }

    /// Ready when the deadline of reading has passed.
    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.read_deadline() else {
                return Poll::Pending;
            };
            let timer = self
                .read_timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(context));
            if deadline <= Instant::now() && !self.activity.busy() {
                return Poll::Ready(());
            }
            // It fired for an earlier deadline; wait for the one of now.
            timer.as_mut().reset(deadline);
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if !this.prefix.is_empty() {
            let bytes = this.prefix.len().min(buffer.remaining());
            buffer.put_slice(&this.prefix[..bytes]);
            this.prefix.advance(bytes);
            this.watch(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.io).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                this.watch(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(this.poll_read_deadline(context));
                let first = this.scanner.as_ref().is_some_and(|scanner| scanner.heads() == 0);
                let begun = this
                    .scanner
                    .as_ref()
                    .is_some_and(|scanner| scanner.phase() == Phase::Head);
                if first && begun {
                    // As much as the socket takes at once: whoever is too slow is not waited for.
                    let _ = Pin::new(&mut this.io).poll_write(context, TIMEOUT_ANSWER);
                }
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request in time")))
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.poll_write_deadline(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.poll_write_deadline(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
            let idle = |scanner: &Scanner| scanner.phase() == Phase::Idle;
            let clean = this.activity.upgraded() || this.scanner.as_ref().is_none_or(idle);
            if clean {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(context).map(Ok)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Tap<I> {
    fn poll_write_deadline(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let timeout = self.options.write_timeout;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the answer is not read",
        )))
    }

    /// Discards what arrives until the client closes, or time or bytes are used up.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            timer: Box::pin(tokio::time::sleep(LINGER)),
            bytes: 0,
        });
        let mut scratch = [0; 8 << 10];
        while lingering.bytes < LINGER_BYTES_MAX && lingering.timer.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            lingering.bytes += buffer.filled().len();
        }
        Poll::Ready(())
    }
}
