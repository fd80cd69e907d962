//! A request body that must arrive at a minimum pace, so that slow senders do not hold sockets and budget.
//!
//! Only time spent waiting for the sender counts, not the time in which we decode what came. A body may wait
//! for [`Pace::idle`] at once, and in all for [`Pace::grace`] plus the time that its bytes take at
//! [`Pace::bytes_per_second_min`].

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// How slowly a body may arrive.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest pause between two chunks.
    pub idle: Duration,
    /// Waiting that is free.
    pub grace: Duration,
    /// The rate that earns more waiting.
    pub bytes_per_second_min: u64,
}

impl Default for Pace {
    /// A phone on a bad line sends 32 KiB/s; at that rate 64 MiB take 34 minutes, which is allowed.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15),
            grace: Duration::from_secs(30),
            bytes_per_second_min: 32 << 10,
        }
    }
}

/// Why a body could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum BodyReadError {
    /// The sender is slower than [`Pace`] allows; the answer is 408.
    #[error("the body arrived too slowly: {received_bytes} bytes after waiting {} ms", waited.as_millis())]
    Slow {
        /// Bytes that had arrived.
        received_bytes: u64,
        /// Time spent waiting for them.
        waited: Duration,
    },
    /// The connection broke, or its framing did.
    #[error("{0}")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
}

/// A body under a [`Pace`].
#[derive(Debug)]
pub struct PacedBody<B = Incoming> {
    body: B,
    pace: Pace,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    /// Puts `body` under a pace.
    #[must_use]
    pub fn new(body: B, pace: Pace) -> Self {
        Self {
            body,
            pace,
            received: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: None,
        }
    }

    fn patience_left(&self) -> Duration {
        let earned = Duration::from_secs(self.received / self.pace.bytes_per_second_min.max(1));
        (self.pace.grace + earned)
            .saturating_sub(self.waited)
            .min(self.pace.idle)
    }

    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<BodyReadError> {
        let since = match self.waiting_since {
            Some(since) => since,
            None => {
                let now = Instant::now();
                let deadline = now + self.patience_left();
                self.waiting_since = Some(now);
                match &mut self.timer {
                    Some(timer) => timer.as_mut().reset(deadline),
                    None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
                }
                now
            }
        };
        let late = self
            .timer
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(context).is_ready());
        if !late {
            return Poll::Pending;
        }
        Poll::Ready(BodyReadError::Slow {
            received_bytes: self.received,
            waited: self.waited + since.elapsed(),
        })
    }
}

impl<B> Body for PacedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyReadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyReadError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            return this.poll_patience(context).map(|error| Some(Err(error)));
        };
        if let Some(since) = this.waiting_since.take() {
            this.waited += since.elapsed();
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| BodyReadError::Transport(error.into()))?;
            this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
