//! The configured GET routes: which one a request means, and what answers it.
//!
//! Fixed answers need no stage, so every process gives them; a view needs the role `analytics`. A path that is looked
//! at here may also take events: by method, as every route.

use std::sync::Arc;

use analytics::views::View;
use analytics::{Analytics, Readable};
use axum::body::Body;
use event::Template;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::problem::{answer, problem};
use super::readiness::Readiness;
use crate::config::{AnswerConfig, GetConfig, RouteConfig, RouteKind, RoutePath};

/// The configured GET routes of one process.
pub(super) struct Views {
    /// Those that say more come first.
    routes: Vec<(RoutePath, GetConfig)>,
    /// Absent without the role.
    analytics: Option<Analytics>,
}

/// What a request means.
pub(super) struct Meant<'a> {
    route: &'a GetConfig,
    /// The values of the path's parameters.
    parameters: Vec<(String, String)>,
}

impl Views {
    /// The GET routes among these.
    pub(super) fn new(routes: &[RouteConfig], analytics: Option<Analytics>) -> Self {
        let mut routes: Vec<_> = routes
            .iter()
            .filter_map(|route| match &route.kind {
                RouteKind::Get(get) => Some((route.path.clone(), get.clone())),
                RouteKind::Post(_) | RouteKind::Ws(_) => None,
            })
            .collect();
        routes.sort_by(|(one, _), (other, _)| one.precedence(other));
        Self { routes, analytics }
    }

    /// The route of a request by its path alone.
    pub(super) fn at(&self, path: &str) -> Option<Meant<'_>> {
        self.routes.iter().find_map(|(pattern, route)| {
            let parameters = pattern.fit(path)?;
            Some(Meant { route, parameters })
        })
    }

    /// Answers it.
    pub(super) async fn answer(
        &self,
        meant: Meant<'_>,
        method: &Method,
        query: Option<&str>,
        readable: &Readable,
        readiness: &Readiness,
    ) -> Response<Body> {
        let mut response = match meant.route {
            GetConfig::Fixed(fixed) => match &fixed.unready {
                Some(unready) if !readiness.look().await.0 => declared(unready),
                _ => declared(&fixed.answer),
            },
            GetConfig::View(view) => match &self.analytics {
                Some(analytics) => analytics.view(view, meant.parameters, query, readable).await,
                None => problem(StatusCode::NOT_FOUND, "this process has not the role `analytics`"),
            },
        };
        if *method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response
    }
}

impl Meant<'_> {
    /// The view, when it is one.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        match self.route {
            GetConfig::View(view) => Some(view),
            GetConfig::Fixed(_) => None,
        }
    }
}

/// Whether a configured GET route answers requests of this method.
pub(super) fn asks(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The answer to a method that a configured route knows nothing of.
pub(super) fn not_allowed() -> Response<Body> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "this route answers GET and HEAD");
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// An answer as it is declared.
fn declared(config: &AnswerConfig) -> Response<Body> {
    let status = StatusCode::from_u16(config.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let Some(body) = &config.body else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        return response;
    };
    answer(status, "application/json", format!("{}\n", text(body)))
}

/// A body that has no places.
fn text(body: &Template) -> String {
    let mut bytes = Vec::new();
    let never: Result<(), std::convert::Infallible> = body.write(&mut bytes, |_, _| Ok(()));
    never.unwrap_or_else(|never| match never {});
    String::from_utf8_lossy(&bytes).into_owned()
}
