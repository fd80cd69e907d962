//! Where the files of one table are, for whoever reads them.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

/// What a table's files lie in.
#[derive(Clone, Debug)]
pub enum Directory {
    /// A directory of this machine.
    Local(PathBuf),
    /// A part of a bucket.
    Bucket(BucketDirectory),
}

/// A part of a bucket.
#[derive(Clone, Debug)]
pub struct BucketDirectory {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// Its URL, `s3://bucket`, under which DataFusion knows the store.
    pub url: Url,
    /// What the names of the table's objects begin with.
    pub prefix: Path,
}

/// Where one file is.
#[derive(Clone, Debug)]
pub enum FileLocation {
    /// A file of this machine.
    Local(PathBuf),
    /// An object.
    Bucket {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// Its name there.
        path: Path,
    },
}

impl Directory {
    /// Where a file is that has this name in the directory.
    #[must_use]
    pub fn join(&self, name: &str) -> FileLocation {
        match self {
            Self::Local(path) => FileLocation::Local(path.join(name)),
            Self::Bucket(bucket) => FileLocation::Bucket {
                store: Arc::clone(&bucket.store),
                path: bucket.path(name),
            },
        }
    }

    /// The path, if it is a directory of this machine.
    #[must_use]
    pub fn local(&self) -> Option<&FilePath> {
        match self {
            Self::Local(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }
}

impl BucketDirectory {
    /// The object of that name; `/` in it separates parts.
    #[must_use]
    pub fn path(&self, name: &str) -> Path {
        let parts = name.split('/').filter(|part| !part.is_empty());
        parts.fold(self.prefix.clone(), |path, part| path.join(part))
    }
}

impl From<PathBuf> for Directory {
    fn from(path: PathBuf) -> Self {
        Self::Local(path)
    }
}

impl fmt::Display for FileLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Bucket { path, .. } => write!(f, "{path}"),
        }
    }
}
