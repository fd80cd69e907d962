//! The catalog on disk: `data_dir/streams.toml`, the declarations that data was written with.
//!
//! At every start the configured streams are compared with it: optional fields and enum values may have been
//! added, anything else refuses the start. What is new is written durably (temporary file, fsync, rename, fsync of
//! the directory) before anything is served, because records carry the declaration's version.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use event::limits::STREAMS_MAX;
use event::{Catalog, StreamDeclaration};

/// The file's name in the data directory.
const FILE: &str = "streams.toml";

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The disk refused.
    #[error("{operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error("catalog `{}` is not readable: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The configured streams are not a permitted evolution of the stored ones.
    #[error("the declared streams cannot follow those in `{}`: {message}", path.display())]
    Evolution {
        /// The file.
        path: PathBuf,
        /// What differs.
        message: String,
    },
}

/// The catalog of `declared` streams after those that are stored; stores it when it changed.
pub(super) fn open(data_dir: &Path, declared: Vec<StreamDeclaration>) -> Result<Catalog, CatalogError> {
    let path = data_dir.join(FILE);
    let stored = read(&path)?;
    let known = stored.is_some();
    let evolved = event::catalog::evolve(stored.clone().unwrap_or_default(), declared).map_err(|error| {
        CatalogError::Evolution {
            path: path.clone(),
            message: error.to_string(),
        }
    })?;
    if evolved.len() > STREAMS_MAX {
        let message = format!(
            "{} streams with those that are no longer declared, whose events are still there; at most {STREAMS_MAX} are \
             allowed",
            evolved.len()
        );
        return Err(CatalogError::Evolution { path, message });
    }
    if !known || stored.as_ref() != Some(&evolved) {
        write(data_dir, &path, &event::catalog::to_toml(&evolved))?;
        tracing::info!(path = %path.display(), streams = evolved.len(), "stored the catalog");
    }
    Ok(Catalog::new(evolved))
}

/// The stored catalog as it is, for what only reads; `None` when there is none yet.
pub(crate) fn stored(data_dir: &Path) -> Result<Option<Catalog>, CatalogError> {
    Ok(read(&data_dir.join(FILE))?.map(Catalog::new))
}

fn read(path: &Path) -> Result<Option<Vec<StreamDeclaration>>, CatalogError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(io_error("read", path))?,
    };
    let streams = event::catalog::from_toml(&text).map_err(|error| CatalogError::Malformed {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    Ok(Some(streams))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the directory is fsynced after the rename"
)]
fn write(data_dir: &Path, path: &Path, text: &str) -> Result<(), CatalogError> {
    let temporary = path.with_extension("toml.new");
    let mut file = File::create(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(text.as_bytes())
        .map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("fsync", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("rename", path))?;
    let directory = File::open(data_dir).map_err(io_error("open", data_dir))?;
    directory.sync_all().map_err(io_error("fsync", data_dir))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CatalogError {
    let path = path.to_owned();
    move |source| CatalogError::Io {
        operation,
        path,
        source,
    }
}
