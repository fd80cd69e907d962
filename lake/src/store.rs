//! A local object store that makes durable what it says it has put (I-3).
//!
//! object_store's own never fsyncs, so a Delta commit that it called done is gone after a power cut. Here a file
//! is written beside its place and fsynced, then linked or renamed to its name, then the directory is fsynced; so a
//! name that anybody can see always has whole bytes behind it.
//!
//! Listings after an offset skip earlier names before they ask for sizes: Delta lists its log at every refresh, and
//! most of the log lies below the newest checkpoint.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::disk::SyncPoint;
use crate::durable::{Durable, DurableFile, temporary_name};

/// The file system from its root on.
#[derive(Debug)]
pub(crate) struct DurableStore {
    inner: LocalFileSystem,
    durable: Arc<Durable>,
}

impl DurableStore {
    pub(crate) fn new(durable: Arc<Durable>) -> Self {
        let inner = LocalFileSystem::new();
        Self { inner, durable }
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("durable local store")
    }
}

/// Writes a file beside its place, and puts it there once it is durable.
fn put(durable: &Arc<Durable>, path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let mut pending = Pending::begin(durable, path)?;
    pending.append(payload)?;
    pending.finish(create)
}

/// A file that does not have its name yet. Dropping it removes it.
#[derive(Debug)]
struct Pending {
    durable: Arc<Durable>,
    path: PathBuf,
    temporary: PathBuf,
    file: DurableFile,
    placed: bool,
}

impl Pending {
    fn begin(durable: &Arc<Durable>, path: &FilePath) -> io::Result<Self> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !directory.exists() {
            durable.create_directory(directory)?;
        }
        let temporary = temporary_name(path);
        Ok(Self {
            file: durable.create(&temporary)?,
            durable: Arc::clone(durable),
            path: path.to_owned(),
            temporary,
            placed: false,
        })
    }

    fn append(&mut self, payload: &PutPayload) -> io::Result<()> {
        payload.iter().try_for_each(|bytes| self.file.write_all(bytes))
    }

    fn finish(mut self, create: bool) -> io::Result<()> {
        self.file.sync(SyncPoint::LogFile)?;
        self.durable.place(&self.temporary, &self.path, create)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.placed {
            // What is left over is never read; vacuum removes it.
            self.durable.remove(&self.temporary).ok();
        }
    }
}

/// Parts of one file, in the order in which they were given.
#[derive(Debug)]
struct Parts {
    location: Path,
    pending: Arc<Mutex<Option<Pending>>>,
}

impl Parts {
    fn take(&self) -> io::Result<Pending> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending
            .take()
            .ok_or_else(|| io::Error::other("the upload has failed or ended"))
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Appended at once: parts are given one after the other, but waited for in any order.
        let appended = self.take().and_then(|mut pending| {
            pending.append(&data)?;
            *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending);
            Ok(())
        });
        let done = appended.map_err(|error| store_error(&self.location, error));
        Box::pin(std::future::ready(done))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let pending = self.take().map_err(|error| store_error(&self.location, error))?;
        let done = tokio::task::spawn_blocking(move || pending.finish(false)).await?;
        done.map_err(|error| store_error(&self.location, error))?;
        Ok(PUT)
    }

    async fn abort(&mut self) -> Result<()> {
        self.take().map(drop).ok();
        Ok(())
    }
}

const PUT: PutResult = PutResult {
    e_tag: None,
    version: None,
};

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

/// The files of a directory whose names come after an offset's; none when the directory is not there.
fn list_after(directory: &FilePath, prefix: &Path, offset: &Path) -> io::Result<Vec<Result<ObjectMeta>>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let location = prefix.clone().join(name);
        if location <= *offset {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => listed.push(Ok(ObjectMeta {
                location,
                last_modified: metadata.modified()?.into(),
                size: metadata.len(),
                e_tag: None,
                version: None,
            })),
            // A directory, or removed since.
            _ => {}
        }
    }
    Ok(listed)
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
        let durable = Arc::clone(&self.durable);
        let done = tokio::task::spawn_blocking(move || put(&durable, &path, &payload, create)).await?;
        done.map_err(|error| store_error(location, error))?;
        Ok(PUT)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let pending = Pending::begin(&self.durable, &path).map_err(|error| store_error(location, error))?;
        Ok(Box::new(Parts {
            location: location.clone(),
            pending: Arc::new(Mutex::new(Some(pending))),
        }))
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
        let Some(prefix) = prefix else {
            return self.inner.list_with_offset(None, offset);
        };
        let (prefix, offset) = (prefix.clone(), offset.clone());
        let listing = self.inner.path_to_filesystem(&prefix).and_then(|directory| {
            list_after(&directory, &prefix, &offset).map_err(|error| store_error(&prefix, error))
        });
        match listing {
            Ok(listed) => stream::iter(listed).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
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
