//! Refusals of the routes that belong to the server itself, as RFC 9457 `application/problem+json`.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::json;

/// A refusal with `detail` for a person.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("refused"),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string())
}

/// An answer with a body of that type.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}
