//! Which stage answers a request.
//!
//! The server's own routes come first, then what posts events, and everything else is a question.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use ingest::http::HttpOptions;
use ingest::{Ingest, TraceContext};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tower::ServiceExt;

use super::Phase;
use super::admin::Admin;
use super::problem::problem;
use super::sockets::Accepted;
use super::stages::Stages;

/// Every stage that answers requests in this process.
pub(super) struct Routes {
    admin: Admin,
    ingest: Option<Ingest>,
    questions: Option<axum::Router>,
}

impl Routes {
    /// The routes of the stages that are open.
    pub(super) fn new(stages: &mut Stages, metrics: PrometheusHandle) -> Self {
        Self {
            admin: Admin::new(&stages.catalog, metrics, stages.readiness()),
            ingest: stages.ingest.clone(),
            questions: stages.questions.take(),
        }
    }

    /// Says that a shutdown has begun: not ready any more, nothing new is taken.
    pub(super) fn drain(&self) {
        self.admin.readiness.drain();
        if let Some(ingest) = &self.ingest {
            ingest.close();
        }
    }

    /// Answers one request.
    pub(super) async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let takes = self.takes(request.method(), path);
        if let Some(ingest) = self.ingest.as_ref().filter(|_| takes) {
            return ingest.handle(request).await.map(Body::new);
        }
        let trace = TraceContext::from_headers(request.headers());
        let mut response = if Admin::has(path) {
            self.admin.answer(request.method(), path).await
        } else if takes {
            problem(StatusCode::NOT_FOUND, "this process has not the role `ingest`")
        } else {
            self.question(request).await
        };
        trace.echo(response.headers_mut());
        response
    }

    async fn question<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &self.questions {
            Some(router) => {
                let answered = router.clone().oneshot(request.map(Body::new)).await;
                answered.unwrap_or_else(|never| match never {})
            }
            None => problem(
                StatusCode::NOT_FOUND,
                "there is no such route here: this process has not the role `analytics`",
            ),
        }
    }

    /// Whether a request is about taking events. Only the path of a stream's events answers questions as well;
    /// a stream's own routes only take.
    fn takes(&self, method: &Method, path: &str) -> bool {
        if Admin::has(path) {
            return false;
        }
        let known = self
            .ingest
            .as_ref()
            .is_some_and(|ingest| ingest.route(path).is_some());
        let asks = method == Method::GET || method == Method::HEAD;
        if path.starts_with("/v1/streams/") {
            (known || path.ends_with("/events")) && !asks
        } else {
            known
        }
    }
}

/// Serves one connection until its client, a deadline or the shutdown ends it.
pub(super) async fn serve(
    routes: Arc<Routes>,
    accepted: Accepted,
    options: HttpOptions,
    mut phase: watch::Receiver<Phase>,
) {
    let Accepted { stream, peer, place } = accepted;
    let mut draining = phase.clone();
    let drain = async move {
        // An error means that the server is gone, which ends the connection as well.
        let _ = draining.wait_for(|phase| *phase >= Phase::Draining).await;
    };
    let service = move |request| Arc::clone(&routes).answer(request);
    let connection = ingest::http::serve(stream, service, options, drain);
    metrics::gauge!("tidemill_connections").increment(1.0);
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        _ = phase.wait_for(|phase| *phase == Phase::Cut) => {
            tracing::debug!(%peer, "connection cut short by the shutdown");
        }
    }
    metrics::gauge!("tidemill_connections").decrement(1.0);
    drop(place);
}
