//! Errors as RFC 9457 `application/problem+json`, in the same shape as every stage's.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{Fault, QueryError};

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = match (&self, self.fault()) {
            (Self::Busy { .. }, _) => StatusCode::TOO_MANY_REQUESTS,
            (_, Fault::Input) => StatusCode::BAD_REQUEST,
            (_, Fault::Absent) => StatusCode::NOT_FOUND,
            (_, Fault::Removed) => StatusCode::GONE,
            (_, Fault::Unacceptable) => StatusCode::NOT_ACCEPTABLE,
            (_, Fault::Overload) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Fault::Timeout) => StatusCode::REQUEST_TIMEOUT,
            (_, Fault::Outage | Fault::Fatal) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if self.fault() == Fault::Outage {
            tracing::error!(error = %self, "question failed");
        }
        let again = matches!(self.fault(), Fault::Overload);
        let mut response = match &self {
            Self::WorkerDied(_) | Self::WorkerKilled(_) => typed(
                status,
                "urn:tidemill:query-worker-died",
                "The query's worker process ended",
                &self.to_string(),
            ),
            _ => answer(status, &self.to_string()),
        };
        let headers = response.headers_mut();
        if again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A problem as an answer.
pub(crate) fn answer(status: StatusCode, detail: &str) -> Response {
    // A type of `about:blank` means that the status says it all, and has the status's own words as its title.
    let title = status.canonical_reason().unwrap_or("Error");
    typed(status, "about:blank", title, detail)
}

/// A problem that clients may want to tell from others.
fn typed(status: StatusCode, kind: &str, title: &str, detail: &str) -> Response {
    let body = json!({"type": kind, "title": title, "status": status.as_u16(), "detail": detail});
    let mut response = (status, format!("{body}\n")).into_response();
    let problem = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, problem);
    response
}
