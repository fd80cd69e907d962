//! The service: one POST of events from head to durable answer.
//!
//! # Order
//! Head checks, then admission, then the body, so that a refusal never polls the body and `Expect:
//! 100-continue` keeps clients from sending what will be refused. Accepted rows and the rows of `_rejects` are
//! appended as one group; the answer is made when all of it is durable (I-1).
//!
//! # An empty body
//! A request without an event is answered 400: 200 promises that at least one is stored and 422 that some were
//! refused, and nearly always something went wrong at the sender. An envelope that says that it has no events, on a
//! route with an answer of its own, gets that answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Instant, SystemTime};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;
use event::decode::{Decoded, Decoder, Decoders, Format};
use event::{
    Batch, Catalog, Partition, Position, Reject, Span, StreamDeclaration, StreamName, partition, reject_rows,
};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use journal::{AppendError, Batcher, Fault};

use crate::admission::Admission;
use crate::answer::Outcome;
use crate::body::{self, BoxError};
use crate::media::Encoding;
use crate::post::{self, Form, Post};
use crate::request::{self, Head};
use crate::route::{Route, Routes};
use crate::{IngestOptions, Problem, TraceContext, counts};

/// What a body of unknown length reserves before its first byte is read; it grows from there.
const RESERVATION_BYTES_MIN: usize = 64 << 10;

/// Answers requests that bring events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    routes: Routes,
    /// By the stream's name.
    decoders: HashMap<StreamName, Decoders>,
    batcher: Batcher,
    admission: Admission,
    options: IngestOptions,
    closed: AtomicBool,
    /// Where rows without a key go next.
    turn: AtomicU32,
}

/// One request as its answer and its metrics need it.
struct Exchange {
    trace: TraceContext,
    received_at: i64,
    stream: Option<Arc<StreamDeclaration>>,
    /// How the route takes events, when it is not `/v1/streams/{stream}/events`.
    post: Option<Arc<Post>>,
}

impl Ingest {
    /// Ingest into `batcher` for the streams of `catalog`.
    #[must_use]
    pub fn new(catalog: Catalog, batcher: Batcher, mut options: IngestOptions) -> Self {
        options.in_flight_bytes_max = options.in_flight_bytes_max.max(options.body_bytes_max);
        let decoders = catalog
            .iter()
            .map(|stream| (stream.name.clone(), Decoders::new(Arc::clone(stream))));
        Self {
            shared: Arc::new(Shared {
                decoders: decoders.collect(),
                routes: Routes::new(catalog, &options.routes),
                batcher,
                admission: Admission::new(options.in_flight_bytes_max),
                options,
                closed: AtomicBool::new(false),
                turn: AtomicU32::new(0),
            }),
        }
    }

    /// What a path means to ingest; `None` when it has nothing to do with it.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<Route> {
        self.shared.routes.find(path)
    }

    /// Refuses every request from now on with 503; those in flight finish (I-7).
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    /// Bytes of bodies in flight that are reserved now.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.admission.used()
    }

    /// Answers one request. Never fails: what goes wrong is a problem document.
    ///
    /// # Cancellation
    /// Before the body has ended nothing is stored. Afterwards the events may become durable all the same.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin + Send,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let mut exchange = Exchange {
            trace: TraceContext::from_headers(request.headers()),
            received_at: microseconds_now(),
            stream: None,
            post: None,
        };
        let version = request.version();
        let response = match self.shared.answer(request, &mut exchange).await {
            Ok(response) => response,
            Err(problem) => {
                let invalid = exchange.post.as_ref().and_then(|post| post.invalid.as_ref());
                post::refuse(problem, invalid, &exchange.trace, version)
            }
        };
        counts::count_request(exchange.stream.as_deref(), response.status(), started);
        response
    }
}

impl Shared {
    async fn answer<B>(
        &self,
        request: Request<B>,
        exchange: &mut Exchange,
    ) -> Result<Response<Full<Bytes>>, Problem>
    where
        B: Body<Data = Bytes> + Unpin + Send,
        B::Error: Into<BoxError>,
    {
        let (parts, mut body) = request.into_parts();
        let head = self.check_head(&parts, body.is_end_stream(), exchange);
        // None of these has polled the body, so the connection cannot go on unless it is empty.
        let (stream, head) = head.map_err(|problem| {
            if body.is_end_stream() {
                problem
            } else {
                problem.close()
            }
        })?;
        let mut reservation = self
            .admission
            .reserve(self.reservation_bytes(&head))
            .ok_or_else(|| body::overload(&self.options).close())?;
        let decoder = match exchange.post.as_ref().map(|post| &post.form) {
            None | Some(Form::Body) => self.decoder(&stream, head.format),
            Some(Form::Envelope(envelope)) => Decoder::enveloped(&stream, Arc::clone(envelope)),
            Some(Form::Query(decoder)) => {
                let discarded = body::discard(&mut body).await;
                discarded.map_err(|error| error.problem(&self.options))?;
                let parameters = request::parameters(parts.uri.query().unwrap_or_default())?;
                let decoded = decoder.decode(&parameters);
                let decoded = decoded.map_err(|error| body::body_problem(&error))?;
                counts::count_body(&stream, &decoded);
                return self.store(&stream, &head, decoded, exchange).await;
            }
        };
        let decoded = body::receive(body, decoder, &head, &mut reservation, &self.options)
            .await
            .map_err(|error| error.problem(&self.options))?;
        counts::count_body(&stream, &decoded);
        self.store(&stream, &head, decoded, exchange).await
    }

    fn decoder(&self, stream: &Arc<StreamDeclaration>, format: Format) -> Decoder {
        match self.decoders.get(&stream.name) {
            Some(decoders) => decoders.decoder(format),
            None => Decoder::new(Arc::clone(stream), format),
        }
    }

    fn check_head(
        &self,
        parts: &http::request::Parts,
        body_is_empty: bool,
        exchange: &mut Exchange,
    ) -> Result<(Arc<StreamDeclaration>, Head), Problem> {
        if self.closed.load(Ordering::Acquire) {
            let detail = "the server is shutting down";
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", detail)
                    .retry_after(self.options.outage_retry_after)
                    .close(),
            );
        }
        let path = parts.uri.path();
        let stream = match self.routes.find(path) {
            Some(Route::Stream(stream)) => stream,
            Some(Route::BuiltIn(_)) => {
                return Err(request::method_not_allowed(&parts.method, "GET, HEAD"));
            }
            Some(Route::Unknown(name)) => {
                let detail = format!("there is no stream `{name}`");
                return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-stream", detail));
            }
            None => {
                let path: String = path.chars().take(200).collect();
                let detail = format!("no stream is posted to at `{path}`");
                return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", detail));
            }
        };
        exchange.stream = Some(Arc::clone(&stream));
        exchange.post = self.routes.post(path).map(Arc::clone);
        if parts.method != Method::POST {
            let allow = if exchange.post.is_some() {
                "POST"
            } else {
                self.options.events_allow
            };
            return Err(request::method_not_allowed(&parts.method, allow));
        }
        let post = exchange.post.as_deref();
        let head = Head::check(parts, body_is_empty, post, &self.options)?;
        Ok((stream, head))
    }

    /// The length that is claimed when the body is sent as it is; else a little, and more as it arrives.
    fn reservation_bytes(&self, head: &Head) -> usize {
        let claimed = head.content_length.and_then(|bytes| usize::try_from(bytes).ok());
        match (head.encoding, claimed) {
            (Encoding::Identity, Some(bytes)) => bytes,
            _ => claimed
                .unwrap_or(RESERVATION_BYTES_MIN)
                .min(self.options.body_bytes_max),
        }
    }

    async fn store(
        &self,
        stream: &Arc<StreamDeclaration>,
        head: &Head,
        decoded: Decoded,
        exchange: &Exchange,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let bad = decoded.rejects.total();
        let submitted = decoded.accepted + bad;
        let post = exchange.post.as_deref();
        if submitted == 0 {
            if let Some(success) = post.and_then(|post| post.success(0, 0)) {
                return Ok(success.response(0, &exchange.trace));
            }
            let detail = "the body holds no event";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "no-events", detail));
        }
        let refused = head.all_or_nothing && bad > 0;
        let span = Span {
            rows: 0,
            trace_id: exchange.trace.trace_id,
            received_at: exchange.received_at,
            idempotency_key: head.idempotency_key.clone(),
            producer: None,
        };
        let rows = if refused { Vec::new() } else { decoded.batches };
        let rejects: &[_] = if bad > 0 { &decoded.rejects.described } else { &[] };
        let group = self.group(stream, rows, rejects, &span);
        let (group, accepted_batches) = group.map_err(|error| {
            self.append_problem(&AppendError::Encode {
                message: error.to_string(),
            })
        })?;
        let positions = self.batcher.append(group).await.map_err(|error| match &error {
            AppendError::Partial { durable, .. } => {
                let own = durable.iter().take(accepted_batches).flatten().copied();
                self.append_problem(&error).positions(highest(own))
            }
            _ => self.append_problem(&error),
        })?;
        let accepted = if refused { 0 } else { decoded.accepted };
        counts::count_events(stream, accepted, &decoded.rejects);
        if let Some(success) = post.and_then(|post| post.success(accepted, submitted)) {
            return Ok(success.response(submitted - accepted, &exchange.trace));
        }
        let outcome = Outcome {
            accepted,
            rejected: submitted - accepted,
            durability: self.options.durability,
            positions: stream_positions(positions, accepted_batches, bad > 0),
            rejects: &decoded.rejects.described,
            bad,
        };
        let invalid = post.and_then(|post| post.invalid.as_ref());
        Ok(outcome.into_response(invalid, &exchange.trace))
    }

    /// What one request appends: its rows by partition, then those of `_rejects`. Gives how many batches come first.
    fn group(
        &self,
        stream: &StreamDeclaration,
        rows: Vec<RecordBatch>,
        rejects: &[Reject],
        span: &Span,
    ) -> Result<(Vec<Batch>, usize), ArrowError> {
        // Rows of one request without a key stay together, and the next request's go elsewhere.
        let turn = Partition(self.turn.fetch_add(1, Ordering::Relaxed));
        let journal = self.batcher.journal();
        let partitions = journal.partitions(&stream.name);
        let mut group = Vec::with_capacity(rows.len() + 1);
        for rows in rows {
            group.extend(partition::split(
                batch(stream, rows, span),
                stream,
                partitions,
                turn,
            )?);
        }
        let accepted_batches = group.len();
        if !rejects.is_empty() {
            let mut rows = reject_rows::batch(&stream.name, rejects, span)?;
            rows.partition = Partition(turn.0 % journal.partitions(&rows.stream).max(1));
            group.push(rows);
        }
        Ok((group, accepted_batches))
    }

    fn append_problem(&self, error: &AppendError) -> Problem {
        let detail = error.to_string();
        match error.fault() {
            Fault::Input => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "record-too-large", detail),
            Fault::Overload => Problem::new(StatusCode::TOO_MANY_REQUESTS, "overload", detail)
                .retry_after(self.options.overload_retry_after),
            Fault::Outage => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "journal-unavailable", detail)
                .retry_after(self.options.outage_retry_after),
            Fault::Fatal => {
                tracing::error!(%error, "journal no longer takes events");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "journal-stopped", detail)
                    .retry_after(self.options.outage_retry_after)
            }
        }
    }
}

fn batch(stream: &StreamDeclaration, rows: RecordBatch, span: &Span) -> Batch {
    let span = Span {
        // A record has at most `RECORD_ROWS_MAX` rows.
        rows: rows.num_rows() as u32,
        ..span.clone()
    };
    Batch {
        stream: stream.name.clone(),
        partition: Partition(0),
        version: stream.version,
        spans: vec![span],
        rows,
    }
}

/// The stream's own positions, the highest of each partition.
fn stream_positions(positions: Vec<Position>, accepted_batches: usize, with_rejects: bool) -> Vec<Position> {
    if accepted_batches == 0 {
        return Vec::new();
    }
    // `_rejects` comes last in the group, so its position comes last in the result.
    let own = positions.len() - usize::from(with_rejects && !positions.is_empty());
    highest(positions[..own].iter().copied())
}

/// The highest position of each partition.
fn highest(positions: impl Iterator<Item = Position>) -> Vec<Position> {
    let mut highest = BTreeMap::new();
    for position in positions {
        let offset = highest.entry(position.partition).or_insert(position.offset);
        *offset = (*offset).max(position.offset);
    }
    highest
        .into_iter()
        .map(|(partition, offset)| Position::new(partition, offset))
        .collect()
}

fn microseconds_now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
    })
}
