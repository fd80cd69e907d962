//! Request errors as RFC 9457 `application/problem+json`, for every route.

use bytes::Bytes;
use event::Position;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;
use serde::Serialize;

use crate::TraceContext;
use crate::answer::Place;

/// What every `type` begins with; what follows is the kind. Not an address: the kinds are documented as such.
const TYPE_PREFIX: &str = "urn:tidemill:problem:";

/// Why a request was not answered with what it asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status code.
    pub status: StatusCode,
    /// The kind, in words joined by hyphens: the end of the `type`, and with spaces the `title`.
    pub kind: &'static str,
    /// This occurrence, for a person.
    pub detail: String,
    /// After how many seconds the same request may pass.
    pub retry_after: Option<u64>,
    /// Whether the connection ends with this answer, because the body was not read to its end.
    pub close: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Up to where events of the request are durable although it failed.
    positions: Vec<Position>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    positions: Vec<Place>,
}

impl Problem {
    /// A problem of a kind such as `body-too-large`.
    #[must_use]
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            retry_after: None,
            close: false,
            headers: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Says after how many seconds the same may pass, in the body and as `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Ends the connection with this answer.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Adds a header to the answer, such as `Allow`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names what is durable of a request that failed in part, as the answer to one that succeeded does.
    #[must_use]
    pub fn positions(mut self, positions: Vec<Position>) -> Self {
        self.positions = positions;
        self
    }

    /// The answer to a request of that identity and HTTP version.
    #[must_use]
    pub fn into_response(self, trace: &TraceContext, version: Version) -> Response<Full<Bytes>> {
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{}", self.kind),
            title: title(self.kind),
            status: self.status.as_u16(),
            detail: &self.detail,
            trace_id: trace.trace_id.to_string(),
            retry_after: self.retry_after,
            positions: self.positions.iter().copied().map(Place::from).collect(),
        };
        let mut body = serde_json::to_vec(&document).expect("texts and numbers are always JSON");
        body.push(b'\n');
        let content_type = HeaderValue::from_static("application/problem+json");
        self.into_response_with(Bytes::from(body), content_type, trace, version)
    }

    /// The answer with a body that somebody else declared.
    pub(crate) fn into_response_with(
        self,
        body: Bytes,
        content_type: HeaderValue,
        trace: &TraceContext,
        version: Version,
    ) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // HTTP/2 has no such header: a stream ends alone.
        if self.close && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.extend(
            self.headers
                .into_iter()
                .map(|(name, value)| (Some(name), value))
                .collect::<Vec<_>>(),
        );
        trace.echo(headers);
        response
    }
}

fn title(kind: &str) -> String {
    let words = kind.replace('-', " ");
    match words.split_at_checked(1) {
        Some((first, rest)) => format!("{}{rest}", first.to_ascii_uppercase()),
        None => words,
    }
}
