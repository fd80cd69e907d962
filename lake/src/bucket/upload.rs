//! One object that is written from its beginning to its end, with bounded memory.
//!
//! What is small goes in one request when it is finished; larger ones go in parts while they are written. The object
//! is there, whole, when [`Upload::finish`] has returned, and not before; what is given up is taken back.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::{Bucket, io_error};
use crate::runtime;

/// Bytes of a part. With 10,000 of them, which S3 allows, a file has at most 80 GiB.
const PART_BYTES: usize = 8 << 20;
/// Parts that are under way at once, beside the one that fills: so much memory a file takes at most.
const PARTS_MAX: usize = 2;

/// The object.
pub(crate) struct Upload {
    bucket: Arc<Bucket>,
    path: Path,
    filling: Vec<u8>,
    bytes: u64,
    /// Begins with the first full part. The mutex is never contended: it makes the upload `Sync`.
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    under_way: VecDeque<Receiver<object_store::Result<()>>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) fn new(bucket: Arc<Bucket>, path: Path) -> Self {
        Self {
            bucket,
            path,
            filling: Vec::new(),
            bytes: 0,
            parts: Mutex::new(None),
        }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the object visible.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.parts_mut().is_none() {
            let payload = PutPayload::from(std::mem::take(&mut self.filling));
            let (store, path) = (Arc::clone(&self.bucket.store), self.path.clone());
            // Its name is used once, so that trying again, which replaces, is the same.
            return runtime::wait(async move { store.put(&path, payload).await })?
                .map(drop)
                .map_err(io_error);
        }
        if !self.filling.is_empty() {
            self.send_part()?;
        }
        while self.wait_for_oldest()? {}
        let Some(mut parts) = self.remove_parts() else {
            return Ok(());
        };
        let (parts, completed) = runtime::wait(async move {
            let completed = parts.upload.complete().await;
            (parts, completed)
        })?;
        match completed {
            Ok(_) => Ok(()),
            Err(error) => {
                // A second try of what had succeeded finds no upload any more.
                let (store, path) = (Arc::clone(&self.bucket.store), self.path.clone());
                let found = runtime::wait(async move { store.head(&path).await })?;
                if found.is_ok_and(|found| found.size == self.bytes) {
                    return Ok(());
                }
                self.put_parts(parts);
                Err(io_error(error))
            }
        }
    }

    /// Begins to send what has filled.
    fn send_part(&mut self) -> io::Result<()> {
        if self.parts_mut().is_none() {
            let (store, path): (Arc<dyn ObjectStore>, _) =
                (Arc::clone(&self.bucket.store), self.path.clone());
            let upload = runtime::wait(async move { store.put_multipart(&path).await })?;
            self.put_parts(Parts {
                upload: upload.map_err(io_error)?,
                under_way: VecDeque::new(),
            });
        }
        while self
            .parts_mut()
            .is_some_and(|parts| parts.under_way.len() >= PARTS_MAX)
        {
            self.wait_for_oldest()?;
        }
        let payload = PutPayload::from(std::mem::take(&mut self.filling));
        let Some(parts) = self.parts_mut() else {
            return Ok(());
        };
        let part = parts.upload.put_part(payload);
        let (done, waiting) = channel();
        parts.under_way.push_back(waiting);
        runtime::begin(async move {
            // Nobody waits for a part of a file that was given up.
            let _ = done.send(part.await);
        });
        Ok(())
    }

    /// Waits for the part that was sent first; `false` when none is under way.
    fn wait_for_oldest(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.parts_mut().and_then(|parts| parts.under_way.pop_front()) else {
            return Ok(false);
        };
        let sent = oldest.recv().map_err(io::Error::other)?;
        sent.map(|()| true).map_err(io_error)
    }

    fn parts_mut(&mut self) -> Option<&mut Parts> {
        self.parts
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
    }

    fn remove_parts(&mut self) -> Option<Parts> {
        self.parts
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn put_parts(&mut self, parts: Parts) {
        *self.parts.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(parts);
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART_BYTES - self.filling.len().min(PART_BYTES - 1);
        let taken = &bytes[..bytes.len().min(room)];
        self.filling.extend_from_slice(taken);
        self.bytes += taken.len() as u64;
        if self.filling.len() >= PART_BYTES {
            self.send_part()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.remove_parts() {
            let path = self.path.clone();
            // Parts that stay, because the process or the store ends meanwhile, are the bucket's to clean up: its
            // owner sets a rule for incomplete uploads.
            runtime::begin(async move {
                if let Err(error) = parts.upload.abort().await {
                    tracing::warn!(%path, %error, "parts of an object that was given up stay in the bucket");
                }
            });
        }
    }
}
