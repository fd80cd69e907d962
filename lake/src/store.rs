//! A local object store that makes durable what it says it has put (I-3).
//!
//! object_store's own never fsyncs, so a Delta commit that it called done is gone after a power cut. Here a file
//! is written beside its place and fsynced, then linked or renamed to its name, then the directory is fsynced; so a
//! name that anybody can see always has whole bytes behind it.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// The file system from its root on.
#[derive(Debug)]
pub(crate) struct DurableStore {
    inner: LocalFileSystem,
}

impl DurableStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: LocalFileSystem::new(),
        }
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("durable local store")
    }
}

/// Creates a directory and those above it that are missing, and makes their entries durable.
pub(crate) fn create_directory(directory: &FilePath) -> io::Result<()> {
    let missing: Vec<_> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    std::fs::create_dir_all(directory)?;
    for path in missing {
        sync_directory(
            path.parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(FilePath::new(".")),
        )?;
    }
    Ok(())
}

/// Makes a directory's entries durable.
pub(crate) fn sync_directory(directory: &FilePath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Writes a file beside its place, and puts it there once it is durable.
#[expect(
    clippy::disallowed_methods,
    reason = "the directory is fsynced after the rename"
)]
fn put(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_directory(directory)?;
    let temporary = temporary_name(path);
    let mut file = File::create_new(&temporary)?;
    let placed = payload
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            if create {
                // A link fails when the name is taken, so exactly one of several writers gets it.
                std::fs::hard_link(&temporary, path)
            } else {
                std::fs::rename(&temporary, path)
            }
        });
    if create || placed.is_err() {
        // What is left over is never read; vacuum removes it.
        std::fs::remove_file(&temporary).ok();
    }
    placed?;
    sync_directory(directory)
}

/// A name that begins with `_`, so that Delta readers look past it.
fn temporary_name(path: &FilePath) -> PathBuf {
    path.with_file_name(format!("_{}.new", uuid::Uuid::new_v4().simple()))
}

fn store_error(path: &Path, source: io::Error) -> Error {
    let (path, kind) = (path.to_string(), source.kind());
    match kind {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists {
            path,
            source: source.into(),
        },
        io::ErrorKind::NotFound => Error::NotFound {
            path,
            source: source.into(),
        },
        _ => Error::Generic {
            store: "local",
            source: source.into(),
        },
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "update".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let path = self.inner.path_to_filesystem(location)?;
        let done = tokio::task::spawn_blocking(move || put(&path, &payload, create)).await?;
        done.map_err(|error| store_error(location, error))?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Nothing here needs it, and it would not be durable.
        Err(Error::NotImplemented {
            operation: "multipart upload".into(),
            implementer: self.to_string(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented {
            operation: "copy".into(),
            implementer: self.to_string(),
        })
    }
}
