//! Routes of the user's own: `[routes."METHOD /path"]`.
//!
//! ```text
//! [routes."GET /running"]  ──► path.rs   method and path: twice? a path of the program's, of a stream's `routes`?
//!                          ──► get.rs    events, the nth event, statistics, a fixed answer
//!                          ──► post.rs   events that come in another form
//!                          ──► ws.rs     events as they happen
//! ```
//!
//! Somebody chose the names, so these sections are not in the table of settings; everything else is as there: all
//! problems at once, unknown keys with a hint. What is declared twice or contradicts something refuses the start.

mod answer;
mod get;
mod parameters;
mod path;
mod post;
mod reading;
mod shape;
mod ws;

use std::collections::BTreeMap;

use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

pub use answer::AnswerConfig;
pub use get::{FixedConfig, GetConfig};
pub use path::{RouteMethod, RoutePath};
pub use post::PostConfig;
pub use ws::WsConfig;

use super::cors::{self, CorsPolicy};
use super::problem::Problems;
use reading::Reading;

/// Most routes: every request is compared with each until one fits.
const ROUTES_MAX: usize = 256;

/// One declared route.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Its path.
    pub path: RoutePath,
    /// Its method, and what it does.
    pub kind: RouteKind,
    /// Which web pages may talk to it, when it says so itself.
    pub cors: Option<CorsPolicy>,
    /// As it was written, for `check`.
    pub(super) shown: Table,
}

/// What a route does, by its method.
#[derive(Clone, Debug)]
pub enum RouteKind {
    /// Answers a question.
    Get(GetConfig),
    /// Takes events.
    Post(Box<PostConfig>),
    /// Sends events over a WebSocket as they come.
    Ws(Box<WsConfig>),
}

impl RouteConfig {
    /// The method.
    #[must_use]
    pub fn method(&self) -> RouteMethod {
        match &self.kind {
            RouteKind::Get(_) => RouteMethod::Get,
            RouteKind::Post(_) => RouteMethod::Post,
            RouteKind::Ws(_) => RouteMethod::Ws,
        }
    }

    /// The stream that it is about, when it is about one.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamName> {
        match &self.kind {
            RouteKind::Get(GetConfig::View(view)) => match view.streams() {
                [stream] => Some(stream),
                _ => None,
            },
            RouteKind::Get(GetConfig::Fixed(_)) => None,
            RouteKind::Post(post) => Some(&post.stream),
            RouteKind::Ws(ws) => Some(&ws.stream),
        }
    }

    /// Method and path, as the configuration has them.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method().as_str(), self.path)
    }
}

/// Reads the section of a merged configuration.
pub(super) fn routes(
    merged: &Table,
    streams: &[StreamDeclaration],
    problems: &mut Problems,
) -> Vec<RouteConfig> {
    let section = match merged.get("routes") {
        None => return Vec::new(),
        Some(Value::Table(section)) => section,
        Some(_) => {
            problems.push("routes", "is a section: write `[routes.\"METHOD /path\"]`");
            return Vec::new();
        }
    };
    if section.len() > ROUTES_MAX {
        problems.push(
            "routes",
            format!("{} routes are declared, {ROUTES_MAX} are allowed", section.len()),
        );
    }
    let mut taken = Taken::of(streams);
    let mut found = Vec::new();
    for (written, value) in section {
        let key = format!("routes.\"{written}\"");
        let (method, path) = match path::parse(written) {
            Ok(parsed) => parsed,
            Err(message) => {
                problems.push(key, message);
                continue;
            }
        };
        if let Err(message) = taken.take(method, &path, written) {
            problems.push(&key, message);
        }
        let Value::Table(table) = value else {
            problems.push(key, "a route is a section: write `[routes.\"METHOD /path\"]`");
            continue;
        };
        // What every route may say; what is left is the method's.
        let mut own = table.clone();
        let cors = own.remove("cors");
        let cors = cors.and_then(|cors| cors::read(&format!("{key}.cors"), &cors, problems));
        let mut reading = Reading::new(key, &own, streams, problems);
        let kind = match method {
            RouteMethod::Get => get::read(&mut reading, &path).map(RouteKind::Get),
            RouteMethod::Post => post::read(&mut reading, &path).map(|post| RouteKind::Post(Box::new(post))),
            RouteMethod::Ws => ws::read(&mut reading, &path).map(|ws| RouteKind::Ws(Box::new(ws))),
        };
        found.extend(kind.map(|kind| RouteConfig {
            path,
            kind,
            cors,
            shown: table.clone(),
        }));
    }
    found
}

/// Which method and path leads where already.
struct Taken(BTreeMap<(RouteMethod, String), String>);

impl Taken {
    /// What the streams' own `routes` take.
    fn of(streams: &[StreamDeclaration]) -> Self {
        let paths = streams.iter().flat_map(|stream| {
            let by = format!("the `routes` of stream `{}`", stream.name);
            let paths = stream.routes.iter();
            paths.map(move |path| ((RouteMethod::Post, path.clone()), by.clone()))
        });
        Self(paths.collect())
    }

    fn take(&mut self, method: RouteMethod, path: &RoutePath, written: &str) -> Result<(), String> {
        if let Some(own) = path.built_in() {
            return Err(format!("`{own}` is one of the program's own paths"));
        }
        let by = format!("`{written}`");
        // A WebSocket begins as a GET.
        let method = if method == RouteMethod::Ws {
            RouteMethod::Get
        } else {
            method
        };
        match self.0.insert((method, path.shape()), by) {
            Some(other) => Err(format!("is taken already: {other} has the same method and path")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
