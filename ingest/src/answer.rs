//! The answer to an ingest request, as design §5 shows it.

use bytes::Bytes;
use event::limits::REJECTS_DESCRIBED_MAX;
use event::{Position, Reject, TraceId};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use journal::Durability;
use serde::Serialize;

use crate::TraceContext;
use crate::post::{self, InvalidAnswer};

pub(crate) const EVENTS_REJECTED: HeaderName = HeaderName::from_static("events-rejected");

/// What became of a request, all of it durable.
pub(crate) struct Outcome<'a> {
    /// Events that are stored.
    pub(crate) accepted: u64,
    /// Lines that are not.
    pub(crate) rejected: u64,
    /// What "stored" means.
    pub(crate) durability: Durability,
    /// One for each partition.
    pub(crate) positions: Vec<Position>,
    /// The bad lines, the first of them.
    pub(crate) rejects: &'a [Reject],
    /// How many lines were bad; less than `rejected` under `on_error=reject`.
    pub(crate) bad: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    accepted: u64,
    rejected: u64,
    durability: &'static str,
    trace_id: String,
    positions: Vec<Place>,
    rejections: Vec<Rejection<'a>>,
    rejections_truncated: bool,
}

/// A position as answers write it.
#[derive(Serialize)]
pub(crate) struct Place {
    partition: u32,
    offset: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self {
            partition: position.partition.0,
            offset: position.offset.0,
        }
    }
}

#[derive(Serialize)]
struct Rejection<'a> {
    line: u64,
    code: &'static str,
    field: Option<&'a str>,
    message: &'a str,
    retryable: bool,
}

impl Outcome<'_> {
    /// 200 when at least one event is stored, else 422.
    pub(crate) fn status(&self) -> StatusCode {
        if self.accepted > 0 {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    }

    /// The HTTP answer; `invalid` is what the route says when nothing was accepted.
    pub(crate) fn into_response(
        self,
        invalid: Option<&InvalidAnswer>,
        trace: &TraceContext,
    ) -> Response<Full<Bytes>> {
        let invalid = invalid.filter(|_| self.accepted == 0);
        let declared = invalid
            .and_then(|invalid| post::all_rejected(invalid, self.rejected, self.rejects.first(), trace));
        if let Some(response) = declared {
            return response;
        }
        let mut body =
            serde_json::to_vec(&self.document(trace.trace_id)).expect("texts and numbers are always JSON");
        // For the prompt of whoever asked with curl.
        body.push(b'\n');
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = invalid.map_or_else(|| self.status(), |invalid| invalid.status);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.rejected > 0 {
            headers.insert(EVENTS_REJECTED, HeaderValue::from(self.rejected));
        }
        trace.echo(headers);
        response
    }

    fn document(&self, trace_id: TraceId) -> Document<'_> {
        let rejections: Vec<_> = self
            .rejects
            .iter()
            .take(REJECTS_DESCRIBED_MAX)
            .map(|reject| Rejection {
                line: reject.line,
                code: reject.code.as_str(),
                field: reject.field.as_deref(),
                message: &reject.message,
                // The same line will be refused again: nothing about it depends on load.
                retryable: false,
            })
            .collect();
        Document {
            accepted: self.accepted,
            rejected: self.rejected,
            durability: self.durability.as_str(),
            trace_id: trace_id.to_string(),
            positions: self.positions.iter().copied().map(Place::from).collect(),
            rejections_truncated: self.bad > rejections.len() as u64,
            rejections,
        }
    }
}
