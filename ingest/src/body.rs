//! Reads a body to its end: transport chunks → (inflated pieces) → the decoder, within the limits.
//!
//! # Where the work is done
//! On the connection's own task, in slices of at most [`SLICE_BYTES`] with a yield between them. A slice is
//! some hundred microseconds of decoding, about what other connections may wait; handing chunks to a pool
//! would cost two thread switches each and cold caches, and connections already spread over the threads.
//! An uncompressed slice is a view of hyper's buffer, cut at a line's end, so nothing is copied.

use std::error::Error;
use std::pin::Pin;

use bytes::Bytes;
use event::decode::{BodyError, Decoded, Decoder};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;

use crate::admission::Reservation;
use crate::http::BodyReadError;
use crate::inflate::{InflateError, Inflater};
use crate::request::{self, Head, QUERY_BODY_BYTES_MAX};
use crate::{IngestOptions, Problem};

/// Most bytes that are decoded before other tasks of the thread get their turn.
const SLICE_BYTES: usize = 256 << 10;

/// Bytes of columns for each byte of the largest body. Columns are mostly smaller than their lines; but `{}` is
/// a whole event where every field is optional, and 64 MiB of those would be gigabytes of nulls.
const COLUMNS_PER_BODY_MAX: usize = 4;

/// Any error of a body's transport.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("body exceeds {limit_bytes} bytes as {what}")]
    TooLarge { limit_bytes: usize, what: &'static str },
    #[error("byte budget is used up")]
    Overload,
    #[error("body arrives too slowly: {0}")]
    Slow(String),
    #[error("body cannot be read: {0}")]
    Transport(String),
    #[error("decompressor cannot be made: {0}")]
    Memory(std::io::Error),
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Reads `body` into `decoder`.
///
/// # Cancellation
/// Nothing is stored before the body has ended, so nothing is lost or kept.
pub(crate) async fn receive<B>(
    mut body: B,
    decoder: Decoder,
    head: &Head,
    reservation: &mut Reservation,
    options: &IngestOptions,
) -> Result<Decoded, ReceiveError>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    let mut receiver = Receiver {
        decoder,
        reservation,
        inflated: 0,
        limit: options.body_bytes_max,
        batches_seen: 0,
        column_bytes: 0,
    };
    let mut inflater = Inflater::new(head.encoding).map_err(ReceiveError::Memory)?;
    let limit = request::body_limit(head.encoding, options);
    let mut received = 0;
    while let Some(frame) = Pin::new(&mut body).frame().await {
        let frame = frame.map_err(|error| transport_error(error.into()))?;
        // Trailers say nothing that we use.
        let Ok(mut chunk) = frame.into_data() else {
            continue;
        };
        received += chunk.len();
        if received > limit {
            return Err(ReceiveError::TooLarge {
                limit_bytes: limit,
                what: "sent",
            });
        }
        match &mut inflater {
            None => receiver.take(chunk).await?,
            Some(inflater) => loop {
                let piece = inflater.step(&mut chunk)?;
                if piece.is_empty() && chunk.is_empty() {
                    break;
                }
                receiver.take(piece).await?;
                tokio::task::yield_now().await;
            },
        }
    }
    if let Some(inflater) = inflater {
        receiver.take(inflater.finish()?).await?;
    }
    receiver.finish().await
}

/// Reads a body that means nothing, so that the connection can go on.
pub(crate) async fn discard<B>(mut body: B) -> Result<(), ReceiveError>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    let mut received = 0;
    while let Some(frame) = Pin::new(&mut body).frame().await {
        let frame = frame.map_err(|error| transport_error(error.into()))?;
        received += frame.into_data().map_or(0, |chunk| chunk.len());
        if received > QUERY_BODY_BYTES_MAX {
            return Err(ReceiveError::TooLarge {
                limit_bytes: QUERY_BODY_BYTES_MAX,
                what: "sent",
            });
        }
    }
    Ok(())
}

struct Receiver<'a> {
    decoder: Decoder,
    reservation: &'a mut Reservation,
    inflated: usize,
    limit: usize,
    batches_seen: usize,
    column_bytes: usize,
}

impl Receiver<'_> {
    /// Decodes bytes of the inflated body, within its limit and the budget.
    async fn take(&mut self, mut bytes: Bytes) -> Result<(), ReceiveError> {
        self.inflated += bytes.len();
        if self.inflated > self.limit {
            return Err(ReceiveError::TooLarge {
                limit_bytes: self.limit,
                what: "inflated",
            });
        }
        if !self.reservation.grow_to(self.inflated) {
            return Err(ReceiveError::Overload);
        }
        while bytes.len() > SLICE_BYTES {
            let newline = bytes[..SLICE_BYTES].iter().rposition(|byte| *byte == b'\n');
            let slice = bytes.split_to(newline.map_or(SLICE_BYTES, |at| at + 1));
            self.decode(slice)?;
            tokio::task::yield_now().await;
        }
        if bytes.is_empty() {
            Ok(())
        } else {
            self.decode(bytes)
        }
    }

    fn decode(&mut self, slice: Bytes) -> Result<(), ReceiveError> {
        self.decoder.push(slice)?;
        let closed = self.decoder.closed_batches();
        for batch in &closed[self.batches_seen..] {
            self.column_bytes += batch.get_array_memory_size();
        }
        self.batches_seen = closed.len();
        self.check_columns()
    }

    /// Ends the body. What its envelope adds to every event is bounded before it is there.
    async fn finish(mut self) -> Result<Decoded, ReceiveError> {
        self.column_bytes += self.decoder.end()?;
        self.check_columns()?;
        while self.decoder.fill_next()? {
            tokio::task::yield_now().await;
        }
        Ok(self.decoder.finish()?)
    }

    fn check_columns(&mut self) -> Result<(), ReceiveError> {
        let limit_bytes = self.limit.saturating_mul(COLUMNS_PER_BODY_MAX);
        if self.column_bytes > limit_bytes {
            return Err(ReceiveError::TooLarge {
                limit_bytes,
                what: "columns",
            });
        }
        if self.reservation.grow_to(self.column_bytes) {
            Ok(())
        } else {
            Err(ReceiveError::Overload)
        }
    }
}

fn transport_error(error: BoxError) -> ReceiveError {
    match error.downcast_ref::<BodyReadError>() {
        Some(BodyReadError::Slow { .. }) => ReceiveError::Slow(error.to_string()),
        Some(BodyReadError::Transport(_)) | None => ReceiveError::Transport(error.to_string()),
    }
}

impl ReceiveError {
    /// The answer. The body was not read to its end, so the connection ends with it.
    pub(crate) fn problem(self, options: &IngestOptions) -> Problem {
        let bad = |kind, detail: String| Problem::new(StatusCode::BAD_REQUEST, kind, detail);
        let problem = match self {
            Self::TooLarge { limit_bytes, what } => request::body_too_large(None, limit_bytes, what),
            Self::Overload => overload(options),
            Self::Slow(detail) => Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", detail),
            Self::Transport(detail) => bad("incomplete-body", format!("the body cannot be read: {detail}")),
            Self::Memory(error) => {
                let detail = format!("the decompressor cannot be made: {error}");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out-of-memory", detail)
                    .retry_after(options.outage_retry_after)
            }
            Self::Inflate(error) => bad("invalid-encoding", error.to_string()),
            Self::Body(error) => body_problem(&error),
        };
        problem.close()
    }
}

/// The 400 of a body, or of parameters, that are not what they are to be.
pub(crate) fn body_problem(error: &BodyError) -> Problem {
    let kind = match error {
        BodyError::NotJson { .. } => "invalid-json",
        BodyError::NoEnvelope { .. } => "invalid-envelope",
        BodyError::BadParameters { .. } => "invalid-query",
    };
    Problem::new(StatusCode::BAD_REQUEST, kind, error.to_string())
}

/// The 429 of a request that the byte budget has no room for.
pub(crate) fn overload(options: &IngestOptions) -> Problem {
    let detail = format!(
        "requests in flight use up the budget of {} bytes; send again later",
        options.in_flight_bytes_max
    );
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "overload", detail).retry_after(options.overload_retry_after)
}
