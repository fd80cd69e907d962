//! What is answered before everything is open: brokers may come after us, and a journal is recovered after a crash.
//!
//! The process lives, and takes nothing yet: `/livez` is 200, everything else is 503 with `Retry-After`, whoever asks.

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::json;

use super::problem::{answer, problem};

/// Seconds after which a client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Answers a request.
pub(super) fn respond<B>(request: &Request<B>) -> Response<Body> {
    if request.uri().path() == "/livez" {
        let body = format!("{}\n", json!({ "live": true }));
        return answer(StatusCode::OK, "application/json", body);
    }
    let detail = "the server is starting; `/readyz` says when it is ready, and its log what it waits for";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    // A body that nobody reads must not be taken for the next request.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
