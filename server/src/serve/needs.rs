//! What a request asks for, by method and path: the table of routes as access sees it.
//!
//! | path | need |
//! |---|---|
//! | `/livez`, `/readyz`, `/docs`, `/docs/…`, `/redoc`, the page `/demo` | nothing |
//! | `/version`, `/openapi.json`, `/demo/config.json` | any token |
//! | `/metrics` | `admin` |
//! | `/v1/streams`, `/v1/stats`, `/v1/sql` | `read`; the answer is about the streams that may be read |
//! | `GET /v1/streams/{stream}…` | `read` of the stream |
//! | another method on `/v1/streams/{stream}/events`, a stream's own routes | `write` of the stream |
//! | a configured view | `read` of each of its streams; nothing for a fixed answer |
//! | `GET /health` where events are handed to people | nothing |
//! | `/users/…`, `/assignments/…` there | `write` of the stream of assignments |
//! | anything else | to know which paths there are |
//!
//! What is forgotten here stays closed: a path that is not in the table needs the most, and whatever reaches the
//! questions carries along what may be read.

use std::borrow::Cow;
use std::sync::Arc;

use analytics::views::View;
use http::Method;
use ingest::Route;
use percent_encoding::percent_decode_str;

use super::demo::Demo;
use super::docs;
use crate::access::{Need, Scope};

/// The stream that a path names, decoded as the routes decode it.
pub(super) fn stream_of(path: &str) -> Option<Cow<'_, str>> {
    let name = path.strip_prefix("/v1/streams/")?.split('/').next()?;
    Some(percent_decode_str(name).decode_utf8_lossy())
}

/// The need of a request for a configured route that asks; `view` is absent when its answer is always the same, which
/// is for whoever watches over the process.
pub(super) fn of_view(view: Option<&Arc<View>>) -> Need<'_> {
    view.map_or(Need::Nothing, |view| Need::OwnView(view.streams()))
}

/// The need of a request about people and their assignments, which are of that stream.
pub(super) fn of_assigning<'a>(path: &str, assignments: &'a str) -> Need<'a> {
    match path {
        "/health" => Need::Nothing,
        _ => Need::Stream(Scope::Write, assignments),
    }
}

/// The need of a request. `route` is what ingest makes of the path, `stream` what [`stream_of`] does.
pub(super) fn of<'a>(
    method: &Method,
    path: &str,
    route: Option<&'a Route>,
    stream: Option<&'a str>,
) -> Need<'a> {
    let asks = method == Method::GET || method == Method::HEAD;
    match (path, stream, route) {
        ("/livez" | "/readyz", _, _) => Need::Nothing,
        _ if docs::has(path) => Need::Nothing,
        ("/version" | "/openapi.json" | "/demo/config.json", _, _) => Need::Token,
        _ if Demo::has(path) => Need::Nothing,
        ("/metrics", _, _) => Need::Operations,
        ("/v1/streams" | "/v1/stats" | "/v1/sql", _, _) => Need::SomeStream,
        (_, Some(stream), _) if path.ends_with("/events") && !asks => Need::Stream(Scope::Write, stream),
        (_, Some(stream), _) => Need::Stream(Scope::Read, stream),
        (_, None, Some(Route::Stream(stream) | Route::BuiltIn(stream))) => {
            Need::OwnRoute(stream.name.as_str())
        }
        (_, None, Some(Route::Unknown(_)) | None) => Need::Unknown,
    }
}
