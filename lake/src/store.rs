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

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::disk::LocalDisk;

    fn store() -> (tempfile::TempDir, DurableStore, Path) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = DurableStore::new(Arc::new(Durable::new(Arc::new(LocalDisk))));
        let root = Path::from_absolute_path(directory.path()).expect("a path");
        (directory, store, root)
    }

    fn names(directory: &FilePath) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn an_upload_in_parts_has_its_name_when_it_is_complete_and_leaves_nothing_when_it_is_not() {
        let (directory, store, root) = store();
        let path = root.clone().join("whole");
        let mut upload = store
            .put_multipart_opts(&path, PutMultipartOptions::default())
            .await
            .expect("begun");
        for part in ["one ", "two ", "three"] {
            upload.put_part(part.into()).await.expect("put");
        }
        assert!(!directory.path().join("whole").exists());
        upload.complete().await.expect("complete");
        assert_eq!(
            std::fs::read(directory.path().join("whole")).expect("readable"),
            b"one two three"
        );

        let path = root.join("part");
        let mut upload = store
            .put_multipart_opts(&path, PutMultipartOptions::default())
            .await
            .expect("begun");
        upload.put_part("one".into()).await.expect("put");
        drop(upload);
        assert_eq!(names(directory.path()), ["whole"]);
    }

    #[tokio::test]
    async fn a_name_is_given_once() {
        let (directory, store, root) = store();
        let path = root.join("name");
        store
            .put_opts(&path, "first".into(), PutMode::Create.into())
            .await
            .expect("free");
        let taken = store
            .put_opts(&path, "second".into(), PutMode::Create.into())
            .await;
        assert!(matches!(taken, Err(Error::AlreadyExists { .. })), "{taken:?}");
        store
            .put_opts(&path, "third".into(), PutMode::Overwrite.into())
            .await
            .expect("replaced");
        assert_eq!(
            std::fs::read(directory.path().join("name")).expect("readable"),
            b"third"
        );
        assert_eq!(names(directory.path()), ["name"]);
    }

    #[tokio::test]
    async fn a_listing_begins_after_its_offset() {
        let (_directory, store, root) = store();
        for name in ["a", "b", "c"] {
            store
                .put(&root.clone().join(name), name.into())
                .await
                .expect("put");
        }
        let offset = root.clone().join("a");
        let listed = store.list_with_offset(Some(&root), &offset);
        let mut listed: Vec<_> = listed
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .expect("listed");
        listed.sort();
        assert_eq!(listed, [root.clone().join("b"), root.clone().join("c")]);
        let absent = root.join("absent");
        let none: Vec<_> = store
            .list_with_offset(Some(&absent), &absent)
            .try_collect()
            .await
            .expect("listed");
        assert!(none.is_empty());
    }
}
