//! An S3 bucket, or one of a store that speaks as S3 does.
//!
//! # What is asked of the store
//! Listings that show every put that was answered (S3's do), and a put that only the first writer of a name gets
//! through (`If-None-Match: *`). A store that ignores the condition would let two writers replace each other's
//! commits, so opening for writing tries it out, and refuses such a store.
//!
//! # Time
//! Each request is bounded, and so are its repetitions. An answer that is lost leaves the outcome of a put open: a
//! repetition may then find the name taken, by us. Whoever commits looks at what is there (see `table::commit`).

mod quiet;
mod upload;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
};
use url::Url;

use crate::directory::BucketDirectory;
use crate::error::LakeError;
use crate::location::StoreSettings;
use crate::runtime;
use quiet::{Quiet, Secrets};
pub(crate) use upload::Upload;

/// Longest wait for a connection.
const CONNECT_TIME_MAX: &str = "5s";
/// Longest time of one request: a part of a file over a slow line.
const REQUEST_TIME_MAX: &str = "30s";
/// Most repetitions of a request.
const RETRIES_MAX: usize = 5;
/// No repetition begins later than so long after the first try.
const RETRY_TIME_MAX: Duration = Duration::from_secs(15);
/// Objects that are read at once.
const READS_MAX: usize = 16;
/// The object with which conditional puts are tried out.
const PROBE: &str = "_writers";
/// The object of a table whose time of change tells the store's clock.
const CLOCK: &str = "_clock";

/// A part of a bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// `s3://bucket`.
    pub(crate) url: Url,
    prefix: Path,
}

impl Bucket {
    /// Reaches a bucket; tries out conditional puts when it is to be written.
    ///
    /// # Errors
    /// [`LakeError::Refused`] when the settings cannot be right, [`LakeError::Store`] while it cannot be reached.
    pub(crate) fn open(
        bucket: &str,
        prefix: &str,
        settings: &StoreSettings,
        read_only: bool,
    ) -> Result<Arc<Self>, LakeError> {
        let location = format!("s3://{bucket}");
        let refused = |message: String| LakeError::Refused {
            location: location.clone(),
            message,
        };
        let secrets = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_TOKEN",
        ];
        let secrets = Secrets::new(secrets.iter().filter_map(|name| settings.get(name)));
        let client = client(bucket, settings).map_err(|error| refused(secrets.brief(&error)))?;
        let url = Url::parse(&location).map_err(|error| refused(error.to_string()))?;
        let bucket = Self {
            store: Arc::new(Quiet::new(client, location.clone(), secrets)),
            url,
            prefix: Path::from(prefix),
        };
        bucket.probe(read_only)?;
        Ok(Arc::new(bucket))
    }

    fn probe(&self, read_only: bool) -> Result<(), LakeError> {
        let path = self.prefix.clone().join(PROBE);
        let (store, first) = (Arc::clone(&self.store), path.clone());
        let read = runtime::wait(async move { store.get(&first).await });
        match read.map_err(|error| self.unreachable(&error))? {
            Ok(_) | Err(Error::NotFound { .. }) if read_only => return self.probe_listing(),
            Ok(_) => {}
            Err(Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {}
            Err(error) => return Err(self.told(&error)),
        }
        let store = Arc::clone(&self.store);
        let tried = runtime::wait(async move {
            let put = || {
                store.put_opts(
                    &path,
                    "conditional puts are tried out here\n".into(),
                    PutMode::Create.into(),
                )
            };
            match put().await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => put().await,
                failed => failed,
            }
        });
        match tried.map_err(|error| self.unreachable(&error))? {
            Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.told(&error)),
            Ok(_) => Err(LakeError::Refused {
                location: self.url.to_string(),
                message: "it ignores `If-None-Match: *`, so that writers would replace each other's commits"
                    .to_owned(),
            }),
        }
    }

    /// For who only reads: a missing object says nothing about a missing bucket, a listing does.
    fn probe_listing(&self) -> Result<(), LakeError> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let last = prefix.clone().join("~");
        let listed = runtime::wait(async move { store.list_with_offset(Some(&prefix), &last).next().await });
        match listed.map_err(|error| self.unreachable(&error))? {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.told(&error)),
        }
    }

    /// By whose fault a first request failed: the client's errors say it, or keep S3's code or HTTP's status.
    fn told(&self, error: &Error) -> LakeError {
        let text = error.to_string();
        let denied = matches!(
            error,
            Error::NotFound { .. }
                | Error::PermissionDenied { .. }
                | Error::Unauthenticated { .. }
                | Error::NotImplemented { .. }
        );
        let says = |status: &u16| text.contains(&format!("status code: {status} "));
        if denied || [301, 400, 401, 403, 404, 405, 501].iter().any(says) {
            return LakeError::Refused {
                location: self.url.to_string(),
                message: text,
            };
        }
        self.unreachable(&text)
    }

    fn unreachable(&self, message: &dyn std::fmt::Display) -> LakeError {
        LakeError::Store {
            operation: "reach the bucket of",
            stream: "*".to_owned(),
            message: format!("`{}`: {message}", self.url),
        }
    }

    /// The part of it that is a table's.
    pub(crate) fn table(&self, name: &str) -> BucketDirectory {
        BucketDirectory {
            store: Arc::clone(&self.store),
            url: self.url.clone(),
            prefix: self.prefix.clone().join(name),
        }
    }

    /// Begins an object.
    pub(crate) fn create(self: &Arc<Self>, path: Path) -> Upload {
        Upload::new(Arc::clone(self), path)
    }

    /// An object's bytes; `None` when it is not there.
    pub(crate) fn read(&self, path: Path) -> io::Result<Option<Bytes>> {
        let store = Arc::clone(&self.store);
        runtime::wait(async move { read(&*store, &path).await })?
    }

    /// Several objects' bytes, read at once.
    pub(crate) fn read_all(&self, paths: Vec<Path>) -> io::Result<Vec<Option<Bytes>>> {
        let store = Arc::clone(&self.store);
        runtime::wait(async move {
            let reads = paths.into_iter().map(|path| {
                let store = Arc::clone(&store);
                async move { read(&*store, &path).await }
            });
            let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
            let mut all = Vec::new();
            while let Some(one) = reads.next().await {
                all.push(one?);
            }
            Ok(all)
        })?
    }

    /// What is known of an object; `None` when it is not there.
    pub(crate) fn look(&self, path: Path) -> io::Result<Option<ObjectMeta>> {
        let store = Arc::clone(&self.store);
        match runtime::wait(async move { store.head(&path).await })? {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(io_error(error)),
        }
    }

    /// The objects right below a prefix.
    pub(crate) fn list(&self, prefix: Path) -> io::Result<Vec<ObjectMeta>> {
        let store = Arc::clone(&self.store);
        let listed = runtime::wait(async move { store.list_with_delimiter(Some(&prefix)).await })?;
        Ok(listed.map_err(io_error)?.objects)
    }

    /// Removes an object, if it is there.
    pub(crate) fn remove(&self, path: Path) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        match runtime::wait(async move { store.delete(&path).await })? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(io_error(error)),
        }
    }

    /// The store's own clock, by which the ages of its objects are told.
    pub(crate) fn now(&self, directory: &BucketDirectory) -> io::Result<SystemTime> {
        let (store, path) = (Arc::clone(&self.store), directory.path(CLOCK));
        let found = runtime::wait(async move {
            store
                .put(&path, "the store's clock is read off here\n".into())
                .await?;
            store.head(&path).await
        })?;
        Ok(found.map_err(io_error)?.last_modified.into())
    }
}

async fn read(store: &dyn ObjectStore, path: &Path) -> io::Result<Option<Bytes>> {
    match store.get(path).await {
        Ok(found) => Ok(Some(found.bytes().await.map_err(io_error)?)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(io_error(error)),
    }
}

fn client(bucket: &str, settings: &StoreSettings) -> Result<impl ObjectStore, Error> {
    let mut builder = AmazonS3Builder::new()
        .with_config(
            AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout),
            CONNECT_TIME_MAX,
        )
        .with_config(
            AmazonS3ConfigKey::Client(ClientConfigKey::Timeout),
            REQUEST_TIME_MAX,
        );
    for (name, value) in settings.iter() {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let named = [
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT",
        "S3_ENDPOINT",
    ];
    let endpoint = named.iter().find_map(|name| settings.get(name));
    if let Some(endpoint) = endpoint {
        builder = builder
            .with_config(AmazonS3ConfigKey::Endpoint, endpoint)
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        if endpoint.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
    }
    builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(3),
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME_MAX,
        })
        .build()
}

fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
