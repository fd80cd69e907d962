//! Which stream a path accepts: `/v1/streams/{stream}/events`, the streams' own routes, and routes that are declared
//! with a form of their own.

use std::collections::HashMap;
use std::sync::Arc;

use event::{Catalog, StreamDeclaration};
use percent_encoding::percent_decode_str;

use crate::post::{Post, PostRoute};

/// What a path means to ingest.
#[derive(Clone, Debug)]
pub enum Route {
    /// Events of this stream may be posted here.
    Stream(Arc<StreamDeclaration>),
    /// The path is that of a built-in stream or of a rollup, to which nobody can post.
    BuiltIn(Arc<StreamDeclaration>),
    /// The path has the form of an ingest route, but there is no stream of that name.
    Unknown(String),
}

/// Every path that accepts events. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    catalog: Catalog,
    own: Arc<HashMap<String, Arc<Post>>>,
}

impl Routes {
    /// The routes of a catalog, and what is declared beside it. A declared route whose stream the catalog has not
    /// leads nowhere.
    pub(crate) fn new(catalog: Catalog, declared: &[PostRoute]) -> Self {
        let mut own = HashMap::new();
        for route in declared {
            let stream = catalog.get(route.stream.as_str());
            // Nobody can send what is computed.
            if let Some(stream) = stream.filter(|stream| stream.rollup.is_none()) {
                own.insert(route.path.clone(), Arc::new(Post::new(stream, route)));
            }
        }
        for stream in catalog.iter() {
            for path in &stream.routes {
                // Two streams with one route are refused when declarations are read; here the first wins.
                own.entry(path.clone())
                    .or_insert_with(|| Arc::new(Post::plain(stream)));
            }
        }
        Self {
            catalog,
            own: Arc::new(own),
        }
    }

    /// What `path` means, or `None` when ingest has nothing to do with it.
    pub(crate) fn find(&self, path: &str) -> Option<Route> {
        if let Some(post) = self.own.get(path) {
            return Some(Route::Stream(Arc::clone(&post.stream)));
        }
        let name = path.strip_prefix("/v1/streams/")?.strip_suffix("/events")?;
        if name.contains('/') {
            return None;
        }
        let name = percent_decode_str(name).decode_utf8_lossy();
        Some(match self.catalog.get(&name) {
            Some(stream) if stream.name.is_built_in() || stream.rollup.is_some() => {
                Route::BuiltIn(Arc::clone(stream))
            }
            Some(stream) => Route::Stream(Arc::clone(stream)),
            None => Route::Unknown(name.chars().take(100).collect()),
        })
    }

    /// How a path that is not of the form `/v1/streams/{stream}/events` takes events.
    pub(crate) fn post(&self, path: &str) -> Option<&Arc<Post>> {
        self.own.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_stream_or_nowhere() {
        let declaration = StreamDeclaration {
            name: event::StreamName::parse("running").expect("allowed"),
            routes: vec!["/stats/running".to_owned()],
            ..StreamDeclaration::rejects()
        };
        let routes = Routes::new(Catalog::new([declaration]), &[]);
        let is_stream = |path| matches!(routes.find(path), Some(Route::Stream(_)));
        assert!(is_stream("/v1/streams/running/events"));
        assert!(is_stream("/v1/streams/r%75nning/events"));
        assert!(is_stream("/stats/running"));
        assert!(matches!(
            routes.find("/v1/streams/_rejects/events"),
            Some(Route::BuiltIn(_))
        ));
        assert!(matches!(
            routes.find("/v1/streams/nobody/events"),
            Some(Route::Unknown(_))
        ));
        for elsewhere in [
            "/",
            "/v1/streams/running",
            "/v1/streams/a/b/events",
            "/stats/running/",
            "/v1/streams/running/events/5",
        ] {
            assert!(routes.find(elsewhere).is_none(), "{elsewhere}");
        }
    }
}
