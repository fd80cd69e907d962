//! The catalog: every stream that this process serves, by name. Never changes while the process runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{StreamDeclaration, StreamName};

/// The declared streams and the built-in ones. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    streams: Arc<BTreeMap<StreamName, Arc<StreamDeclaration>>>,
}

impl Catalog {
    /// A catalog of `declared` streams plus the built-in stream `_rejects`.
    #[must_use]
    pub fn new(declared: impl IntoIterator<Item = StreamDeclaration>) -> Self {
        let streams = declared
            .into_iter()
            .chain([StreamDeclaration::rejects()])
            .map(|declaration| (declaration.name.clone(), Arc::new(declaration)))
            .collect();
        Self {
            streams: Arc::new(streams),
        }
    }

    /// The declaration of a stream, if there is one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<StreamDeclaration>> {
        self.streams.get(name)
    }

    /// All streams in the order of their names, built-in ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StreamDeclaration>> {
        self.streams.values()
    }
}
