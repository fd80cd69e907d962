//! The routes about the process itself: `/livez /readyz /metrics /version /openapi.json /docs`.

use axum::body::Body;
use bytes::Bytes;
use event::Catalog;
use http::{Method, Response, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use super::problem::{answer, problem};
use super::readiness::Readiness;
use super::{docs, openapi};

const JSON: &str = "application/json";

/// What these routes answer from.
pub(super) struct Admin {
    metrics: PrometheusHandle,
    openapi: Bytes,
    docs: Bytes,
    pub(super) readiness: Readiness,
}

impl Admin {
    pub(super) fn new(catalog: &Catalog, metrics: PrometheusHandle, readiness: Readiness) -> Self {
        let document = openapi::document(catalog);
        Self {
            metrics,
            docs: docs::page(catalog, &document).into(),
            openapi: document.to_string().into(),
            readiness,
        }
    }

    /// Whether a path belongs to these routes.
    pub(super) fn has(path: &str) -> bool {
        matches!(
            path,
            "/livez" | "/readyz" | "/metrics" | "/version" | "/openapi.json" | "/docs"
        )
    }

    /// Answers a request for one of these paths; the body of the request does not matter.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "this route answers GET and HEAD");
            let allowed = header::HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            return response;
        }
        match path {
            "/livez" => answer(StatusCode::OK, JSON, format!("{}\n", json!({ "live": true }))),
            "/readyz" => {
                let (ready, body) = self.readiness.look().await;
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                answer(status, JSON, format!("{body}\n"))
            }
            "/metrics" => answer(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics.render(),
            ),
            "/version" => {
                let body = json!({ "name": "tidemill", "version": crate::version::TEXT });
                answer(StatusCode::OK, JSON, format!("{body}\n"))
            }
            "/openapi.json" => kept(JSON, &self.openapi),
            "/docs" => kept("text/html; charset=utf-8", &self.docs),
            _ => problem(StatusCode::NOT_FOUND, "there is no such route"),
        }
    }
}

/// A body that never changes, shared and not copied.
fn kept(content_type: &'static str, body: &Bytes) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, String::new());
    *response.body_mut() = Body::from(body.clone());
    response
}
