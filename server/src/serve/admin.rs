//! The routes about the process itself: `/livez /readyz /metrics /version /openapi.json /docs /redoc`.
//!
//! Who asks decides what is shown: streams that a token does not reach are left out. `/livez` and `/readyz` answer
//! everybody, so that whoever watches over the process needs no token; what readiness found is for `admin`. The pages of
//! `/docs` and `/redoc` hold nothing about this server, and are everybody's as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use event::{Catalog, StreamDeclaration, StreamName};
use http::{Method, Request, Response, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

use super::problem::{answer, problem};
use super::readiness::Readiness;
use super::{docs, openapi};
use crate::access::{Caller, Scope, Streams};
use crate::config::RouteConfig;

const JSON: &str = "application/json";

/// What these routes answer from.
pub(super) struct Admin {
    metrics: PrometheusHandle,
    catalog: Catalog,
    /// What the configuration adds to the routes.
    routes: Vec<RouteConfig>,
    /// Whether requests need a token, which the documents then say.
    secured: bool,
    /// The streams that assigning writes itself, where this process assigns.
    people: Option<Vec<StreamName>>,
    /// The document about every stream; others are made when they are asked for.
    openapi: Bytes,
    pub(super) readiness: Readiness,
}

impl Admin {
    pub(super) fn new(
        catalog: &Catalog,
        routes: &[RouteConfig],
        metrics: PrometheusHandle,
        readiness: Readiness,
        secured: bool,
    ) -> Self {
        let openapi = document(catalog.iter().map(Arc::clone).collect(), routes, secured, None);
        Self {
            metrics,
            catalog: catalog.clone(),
            routes: routes.to_vec(),
            secured,
            people: None,
            openapi,
            readiness,
        }
    }

    /// The same in a process that assigns, and writes these streams itself.
    pub(super) fn with_people(mut self, own: &[StreamName]) -> Self {
        let streams = self.catalog.iter().map(Arc::clone).collect();
        self.openapi = document(streams, &self.routes, self.secured, Some(own));
        self.people = Some(own.to_vec());
        self
    }

    /// Whether a path belongs to these routes.
    pub(super) fn has(path: &str) -> bool {
        let own = ["/livez", "/readyz", "/metrics", "/version", "/openapi.json"];
        own.contains(&path) || docs::has(path)
    }

    /// Answers a request for one of these paths; the body of the request does not matter.
    pub(super) async fn answer<B>(&self, request: &Request<B>, caller: &Caller) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
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
                let body = readiness_for(caller.streams(Scope::Admin), body);
                answer(status, JSON, format!("{body}\n"))
            }
            "/metrics" => {
                let text = self.metrics_for(caller.streams(Scope::Admin));
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/version" => {
                let body = json!({ "name": "tidemill", "version": crate::version::TEXT });
                answer(StatusCode::OK, JSON, format!("{body}\n"))
            }
            "/openapi.json" => kept(JSON, self.document_for(caller)),
            _ => docs::get(path, request.headers()),
        }
    }

    /// OpenAPI about the streams that somebody may know of.
    fn document_for(&self, caller: &Caller) -> Bytes {
        let sees = |stream: &&Arc<StreamDeclaration>| caller.sees(stream.name.as_str());
        let seen: Vec<_> = self.catalog.iter().filter(sees).map(Arc::clone).collect();
        if seen.len() == self.catalog.iter().count() {
            return self.openapi.clone();
        }
        document(seen, &self.routes, self.secured, self.people.as_deref())
    }

    fn metrics_for(&self, streams: &Streams) -> String {
        let names = self.catalog.iter().map(|stream| stream.name.as_str());
        let hidden: BTreeSet<_> = names.filter(|name| !streams.has(name)).collect();
        let text = self.metrics.render();
        if hidden.is_empty() {
            return text;
        }
        without(&text, &hidden)
    }
}

fn document(
    streams: Vec<Arc<StreamDeclaration>>,
    routes: &[RouteConfig],
    secured: bool,
    people: Option<&[StreamName]>,
) -> Bytes {
    let mut document = openapi::document(&streams, routes, secured);
    if let Some(own) = people {
        openapi::people::add(&mut document, own);
    }
    document.to_string().into()
}

/// What readiness found, for who may look into these streams: reasons name files and other streams.
fn readiness_for(streams: &Streams, found: Value) -> Value {
    if *streams == Streams::All {
        return found;
    }
    let mut shown = json!({ "ready": found["ready"], "draining": found["draining"] });
    if let (Streams::Named(_), Value::Array(sink)) = (streams, &found["sink"]) {
        let own = |one: &&Value| one["stream"].as_str().is_some_and(|stream| streams.has(stream));
        shown["sink"] = sink.iter().filter(own).cloned().collect();
    }
    shown
}

/// Metrics without the samples that have a hidden name as a word in a label's value. Samples without such a label are
/// about the process.
fn without(text: &str, hidden: &BTreeSet<&str>) -> String {
    let names_hidden = |line: &str| {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        // From the first value on: quotes may be inside of values, so values and keys are not told apart, and a stream
        // that is called like a label hides more than it must.
        let values = labels.split_once('"').map_or("", |(_, values)| values);
        let mut words = values.split(|letter: char| !is_of_name(letter));
        words.any(|word| hidden.contains(word))
    };
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') || !names_hidden(line) {
            shown.push_str(line);
        }
    }
    shown
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// A body that is shared and not copied.
fn kept(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, String::new());
    *response.body_mut() = Body::from(body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_about_hidden_streams_are_left_out() {
        let text = "# TYPE rows counter\nrows{stream=\"running\"} 1\nrows{stream=\"music\"} 2\n\
                    lag{topic=\"tidemill.music\",group=\"a\"} 3\nrows{stream=\"music_x\"} 4\nopen 5\n";
        let shown = without(text, &BTreeSet::from(["music", "stream"]));
        assert_eq!(
            shown,
            "# TYPE rows counter\nrows{stream=\"running\"} 1\nrows{stream=\"music_x\"} 4\nopen 5\n"
        );
    }

    #[test]
    fn readiness_tells_its_reasons_to_who_may_look_into_everything() {
        let found = json!({"ready": false, "draining": false, "journal": {"ok": false, "reason": "/secret/path"},
            "sink": [{"stream": "running", "lag_records": 1}, {"stream": "music", "lag_records": 2}]});
        assert_eq!(readiness_for(&Streams::All, found.clone()), found);
        let named = Streams::Named(BTreeSet::from(["music".to_owned()]));
        assert_eq!(
            readiness_for(&named, found.clone()),
            json!({"ready": false, "draining": false, "sink": [{"stream": "music", "lag_records": 2}]})
        );
        assert_eq!(
            readiness_for(&Streams::No, found),
            json!({"ready": false, "draining": false})
        );
    }
}
