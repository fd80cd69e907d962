//! Routes that take events in a form of their own: in an envelope or in the query string, and with answers that the
//! clients of another system already know.
//!
//! Only the first and the last step of a request differ from `/v1/streams/{stream}/events`. Admission, limits, what is
//! accepted, and when it is durable are the same (I-1, I-4): a fixed success answer stands where the counts would
//! stand, so it too comes after the events are in the journal.

use std::sync::Arc;

use bytes::Bytes;
use event::decode::{Envelope, Format, ParameterDecoder};
use event::{Reject, StreamDeclaration, StreamName, Template};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;

use crate::answer::EVENTS_REJECTED;
use crate::{Problem, TraceContext};

/// The place in the body of an [`InvalidAnswer`] that gets what was wrong, in words.
pub const MESSAGE_PLACE: &str = "message";

/// A declared route of ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostRoute {
    /// Its path, which a request must match exactly.
    pub path: String,
    /// The stream that its events belong to.
    pub stream: StreamName,
    /// Where a request has its events.
    pub source: PostSource,
    /// What a body is whose `Content-Type` is missing or none that has events; a 415 when absent.
    pub untyped: Option<Format>,
    /// What is answered when at least one event is stored; our counts when absent.
    pub answer: Option<FixedAnswer>,
    /// What is answered where it would be 400 or 422.
    pub invalid: Option<InvalidAnswer>,
}

/// Where a request has its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostSource {
    /// The body is events.
    #[default]
    Body,
    /// The body is one JSON object that has them.
    Envelope(Envelope),
    /// The parameters of the query string are one event.
    Query,
}

/// An answer that is the same for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body; none when absent. It has no places.
    pub body: Option<Template>,
}

/// What is answered when nothing of a request was accepted, or its body is not what it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAnswer {
    /// The status, instead of 400 and 422.
    pub status: StatusCode,
    /// The body, which may have the place [`MESSAGE_PLACE`]; the problem, or the list of rejections, when absent.
    pub body: Option<Template>,
}

/// A route, ready for requests.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) stream: Arc<StreamDeclaration>,
    pub(crate) form: Form,
    /// What a body without a usable `Content-Type` is.
    pub(crate) untyped: Option<Format>,
    answer: Option<Success>,
    pub(crate) invalid: Option<InvalidAnswer>,
}

/// A success answer as it is sent.
#[derive(Debug)]
pub(crate) struct Success {
    status: StatusCode,
    body: Option<Bytes>,
}

/// How events are read.
#[derive(Debug)]
pub(crate) enum Form {
    Body,
    Envelope(Arc<Envelope>),
    Query(ParameterDecoder),
}

impl Post {
    /// A route that takes events as `/v1/streams/{stream}/events` does.
    pub(crate) fn plain(stream: &Arc<StreamDeclaration>) -> Self {
        Self {
            stream: Arc::clone(stream),
            form: Form::Body,
            untyped: None,
            answer: None,
            invalid: None,
        }
    }

    /// A declared route of that stream.
    pub(crate) fn new(stream: &Arc<StreamDeclaration>, route: &PostRoute) -> Self {
        Self {
            stream: Arc::clone(stream),
            form: match &route.source {
                PostSource::Body => Form::Body,
                PostSource::Envelope(envelope) => Form::Envelope(Arc::new(envelope.clone())),
                PostSource::Query => Form::Query(ParameterDecoder::new(stream)),
            },
            untyped: route.untyped,
            answer: route.answer.as_ref().map(|answer| Success {
                status: answer.status,
                body: answer.body.as_ref().map(|body| written(body, "")),
            }),
            invalid: route.invalid.clone(),
        }
    }

    /// The route's own answer to a request of which so many events were accepted, if it is to have one. An envelope whose
    /// list of events is empty gets it, too: all that it has is stored.
    pub(crate) fn success(&self, accepted: u64, submitted: u64) -> Option<&Success> {
        let empty = submitted == 0 && matches!(self.form, Form::Envelope(_));
        self.answer.as_ref().filter(|_| accepted > 0 || empty)
    }
}

impl Success {
    pub(crate) fn response(&self, rejected: u64, trace: &TraceContext) -> Response<Full<Bytes>> {
        fixed(self.status, self.body.clone(), rejected, trace)
    }
}

/// The route's own answer to a request of which nothing was accepted; `None` when ours has only another status.
pub(crate) fn all_rejected(
    invalid: &InvalidAnswer,
    rejected: u64,
    first: Option<&Reject>,
    trace: &TraceContext,
) -> Option<Response<Full<Bytes>>> {
    let body = invalid.body.as_ref()?;
    let message = first.map_or_else(String::new, |reject| match &reject.field {
        Some(field) => format!("`{field}`: {}", reject.message),
        None => reject.message.clone(),
    });
    Some(fixed(
        invalid.status,
        Some(written(body, &message)),
        rejected,
        trace,
    ))
}

/// A declared answer, with the headers that every answer has.
fn fixed(
    status: StatusCode,
    body: Option<Bytes>,
    rejected: u64,
    trace: &TraceContext,
) -> Response<Full<Bytes>> {
    let typed = body.is_some();
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if typed {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if rejected > 0 {
        headers.insert(EVENTS_REJECTED, HeaderValue::from(rejected));
    }
    trace.echo(headers);
    response
}

fn written(body: &Template, message: &str) -> Bytes {
    let mut text = Vec::new();
    let written = body.write(&mut text, |_, text| serde_json::to_writer(text, message));
    written.expect("writing text to memory does not fail");
    Bytes::from(text)
}

/// The answer to a request that failed. Only 400 and 422 are the route's to word: who may not, what is too much and
/// what has to wait is as HTTP means it.
pub(crate) fn refuse(
    mut problem: Problem,
    invalid: Option<&InvalidAnswer>,
    trace: &TraceContext,
    version: Version,
) -> Response<Full<Bytes>> {
    let declared = matches!(
        problem.status,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    );
    let Some(invalid) = invalid.filter(|_| declared) else {
        return problem.into_response(trace, version);
    };
    problem.status = invalid.status;
    match &invalid.body {
        None => problem.into_response(trace, version),
        Some(body) => {
            let body = written(body, &problem.detail);
            let content_type = HeaderValue::from_static("application/json");
            problem.into_response_with(body, content_type, trace, version)
        }
    }
}
