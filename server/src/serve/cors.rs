//! Pages of other origins: preflights, and the headers without which a browser shows a page nothing.
//!
//! One layer around every route, of ingest and of questions, refusals included: a page that may not read an answer
//! could not tell why. A preflight is answered before anybody asks for a token, since browsers send none with it, and
//! tells no more than the configuration says about that path.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Body;
use event::StreamName;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::needs;
use super::problem::problem;
use crate::config::{Config, CorsOrigins, CorsPolicy, RouteMethod, RoutePath};

/// Headers of answers that a page may read, besides those that it always may.
const EXPOSED: &str = "Allow, Content-Encoding, ETag, Events-Rejected, Location, Retry-After, traceparent, WWW-Authenticate, X-Request-Id";

/// Methods that some route answers.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
];

/// Every policy, by what it covers.
pub(super) struct Cors {
    everywhere: Option<Arc<Policy>>,
    streams: BTreeMap<String, Arc<Policy>>,
    /// Streams' own paths, which take events.
    paths: HashMap<String, Arc<Policy>>,
    /// Declared routes, those that say more first.
    routes: Vec<(RouteMethod, RoutePath, Arc<Policy>)>,
}

/// A policy, ready for answers.
struct Policy {
    origins: CorsOrigins,
    credentials: bool,
    headers: HeaderValue,
    max_age: HeaderValue,
}

/// What the answer to one request needs.
pub(super) struct Visit {
    policy: Arc<Policy>,
    origin: Option<HeaderValue>,
}

impl Cors {
    /// The policies of a configuration; `None` when there are none.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let ready = |policy: &CorsPolicy| Arc::new(Policy::new(policy));
        let of_stream = |name: &StreamName| config.cors.streams.get(name);
        let mut paths = HashMap::new();
        for stream in &config.streams {
            if let Some(policy) = of_stream(&stream.name) {
                let policy = ready(policy);
                let own = stream.routes.iter();
                paths.extend(own.map(|path| (path.clone(), Arc::clone(&policy))));
            }
        }
        let mut routes = Vec::new();
        for route in &config.routes {
            // Of a route over several streams no single one can speak for all.
            let stream = route.stream().and_then(of_stream);
            if let Some(policy) = route.cors.as_ref().or(stream) {
                routes.push((route.method(), route.path.clone(), ready(policy)));
            }
        }
        routes.sort_by(|(_, one, _), (_, other, _)| one.precedence(other));
        let streams = config.cors.streams.iter();
        let cors = Self {
            everywhere: config.cors.everywhere.as_ref().map(ready),
            streams: streams
                .map(|(name, policy)| (name.as_str().to_owned(), ready(policy)))
                .collect(),
            paths,
            routes,
        };
        let none = cors.everywhere.is_none() && cors.streams.is_empty() && cors.routes.is_empty();
        (!none).then_some(cors)
    }

    /// The answer to a preflight; `None` when the request is none, or no policy covers what it asks about.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if request.method() != Method::OPTIONS {
            return None;
        }
        let origin = request.headers().get(ORIGIN)?;
        let asked = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let method = METHODS.iter().find(|method| asked == method.as_str())?;
        let policy = self.policy(method, request.uri().path())?;
        if !policy.allows(origin) {
            let mut response = problem(
                StatusCode::FORBIDDEN,
                "pages of this origin may not talk to this path",
            );
            response
                .headers_mut()
                .append(VARY, HeaderValue::from_static("origin"));
            return Some(response);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        policy.allow(Some(origin), headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, policy.headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, policy.max_age.clone());
        Some(response)
    }

    /// What the answer to a request needs, when a policy covers it.
    pub(super) fn visit<B>(&self, request: &Request<B>) -> Option<Visit> {
        let policy = self.policy(request.method(), request.uri().path())?;
        Some(Visit {
            policy: Arc::clone(policy),
            origin: request.headers().get(ORIGIN).cloned(),
        })
    }

    /// The policy that is closest to a path.
    fn policy(&self, method: &Method, path: &str) -> Option<&Arc<Policy>> {
        let declared = self.routes.iter().find(|(known, route, _)| {
            let known = match known {
                RouteMethod::Post => method == Method::POST,
                // A WebSocket begins as a GET, and HEAD asks what GET would.
                RouteMethod::Get | RouteMethod::Ws => method == Method::GET || method == Method::HEAD,
            };
            known && route.fit(path).is_some()
        });
        let own = || self.paths.get(path).filter(|_| method == Method::POST);
        let stream = || self.streams.get(&*needs::stream_of(path)?);
        declared
            .map(|(_, _, policy)| policy)
            .or_else(own)
            .or_else(stream)
            .or(self.everywhere.as_ref())
    }
}

impl Visit {
    /// Adds to an answer what the browser wants to see.
    pub(super) fn end(self, headers: &mut HeaderMap) {
        let Self { policy, origin } = self;
        policy.allow(origin.as_ref(), headers);
        if origin.is_some() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

impl Policy {
    fn new(policy: &CorsPolicy) -> Self {
        let headers = HeaderValue::try_from(policy.headers.join(", "));
        Self {
            origins: policy.origins.clone(),
            credentials: policy.credentials,
            headers: headers.expect("names of headers were checked with the configuration"),
            max_age: HeaderValue::from(policy.max_age.as_secs()),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match &self.origins {
            CorsOrigins::All => true,
            CorsOrigins::Listed(listed) => listed.iter().any(|known| origin == known.as_str()),
        }
    }

    /// Says to whom an answer may be shown.
    fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins == CorsOrigins::All {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return;
        }
        // The answer differs by origin, also for whoever sends none: a cache must know.
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}
