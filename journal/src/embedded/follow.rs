//! Reading a journal that another process writes: how far that one is, and what it has added since.
//!
//! The writer publishes its durable end in the file `durable` after every fsync and before any answer, so whoever
//! reads up to there shows neither less than what was acknowledged nor anything that a power cut may take back.
//! When nobody holds the writer's lock, that file may be older than the segments (it is not fsynced), and the
//! frames themselves say how far the journal goes, as they do in recovery.
//!
//! A follower looks again whenever it is asked for the journal's end, and every few milliseconds while a reader
//! waits: no process has to tell another one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::is_written;
use super::disk::{Disk, DiskFile};
use super::frame::Place;
use super::index::{Index, Indexed};
use super::layout::{self, DURABLE_BYTES, DURABLE_MAGIC};
use super::recovery::{Found, OpenError, find, header_error, io_error};
use super::segment::{HeaderError, Segment};
use super::shared::{Shared, lock};
use crate::ReadError;

/// How often a waiting reader looks for more. Reading 24 bytes from the page cache costs microseconds.
pub(super) const EVERY: Duration = Duration::from_millis(5);
/// For how long a directory that changes while it is listed is listed again.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// The bytes of the file that tells other processes how far they may read.
pub(super) fn durable_bytes(place: Place) -> [u8; DURABLE_BYTES] {
    let mut bytes = [0; DURABLE_BYTES];
    bytes[..4].copy_from_slice(DURABLE_MAGIC);
    bytes[8..16].copy_from_slice(&place.segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&place.byte.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Up to where the writer says that the journal is durable; `None` when the bytes are not whole, as while they
/// are being written.
pub(super) fn durable_place(file: &dyn DiskFile) -> io::Result<Option<Place>> {
    let mut bytes = [0; DURABLE_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let place = Place {
        segment: u64_at(8),
        byte: u64_at(16),
    };
    Ok((read == DURABLE_BYTES && durable_bytes(place) == bytes).then_some(place))
}

/// The journal of a directory as a reader may show it, and whether somebody writes to it now. Changes nothing.
pub(super) fn look(disk: &dyn Disk, directory: &Path) -> Result<(Found, bool), OpenError> {
    if !is_written(directory)? {
        let found = find(disk, directory, false);
        // Somebody who began to write meanwhile has changed what was looked at.
        if !is_written(directory)? {
            return Ok((found?, false));
        }
    }
    let path = layout::durable(directory);
    let begun = Instant::now();
    loop {
        let published = match disk.open(&path, false) {
            Ok(file) => durable_place(&*file).map_err(io_error("read", &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        if let Some(found) = published
            .map(|place| find_up_to(disk, directory, place))
            .transpose()?
            .flatten()
        {
            return Ok((found, true));
        }
        if begun.elapsed() > SETTLES_WITHIN {
            return Err(OpenError::Opening {
                path: directory.to_owned(),
            });
        }
        std::thread::sleep(EVERY);
    }
}

/// Every segment up to a place that is durable. `None` when segments come or go meanwhile: look again.
fn find_up_to(disk: &dyn Disk, directory: &Path, place: Place) -> Result<Option<Found>, OpenError> {
    let mut files: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for path in disk.list(directory).map_err(io_error("list", directory))? {
        files.extend(layout::segment_number(&path).map(|number| (number, path)));
    }
    let mut found = Found::default();
    for (number, path) in files.range(..=place.segment) {
        match Segment::open(disk, path, false) {
            Ok(segment) => match found.add(segment) {
                // The one before it was removed meanwhile, and its file has another length by now.
                Err(_) if found.newest_is_gone() => return Ok(None),
                added => added?,
            },
            // Retention removes the oldest ones while we look.
            Err(error) if is_gone(disk, path, &error) && found.is_empty() => {}
            Err(error) if is_gone(disk, path, &error) => return Ok(None),
            Err(error) => return Err(header_error(error, path.clone())),
        }
        debug_assert!(*number <= place.segment);
    }
    let Some(last) = found.index.segments.remove(&place.segment) else {
        return Ok(None);
    };
    let (segment, from) = (last.segment, last.end);
    found
        .index
        .segments
        .insert(place.segment, Indexed::empty(segment.clone()));
    match extend(&mut found.index, &segment, from, place.byte) {
        Err(_) if segment.is_gone() => Ok(None),
        extended => extended
            .map(|()| Some(found))
            .map_err(io_error("read", &segment.path)),
    }
}

/// Whether a segment could not be opened because it was removed meanwhile. Its file may be another segment's by then,
/// which has another name.
fn is_gone(disk: &dyn Disk, path: &Path, error: &HeaderError) -> bool {
    let not_found = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match error {
        HeaderError::Io(error) => not_found(error),
        HeaderError::Malformed(_) => disk.open(path, false).is_err_and(|error| not_found(&error)),
        HeaderError::Version(_) => false,
    }
}

/// Adds the frames between two bytes of the newest segment to an index.
fn extend(index: &mut Index, segment: &Segment, from: u64, end: u64) -> io::Result<()> {
    let frames = segment.headers(from, end).collect::<io::Result<Vec<_>>>()?;
    let Some(indexed) = index.segments.get_mut(&segment.header.id.number) else {
        return Ok(());
    };
    for (byte, header) in frames {
        indexed.add(&header.stream, byte);
        index.ends.insert(header.stream, header.offset.next());
    }
    indexed.end = end;
    Ok(())
}

/// Looks how far the writer is now, when this journal follows one.
///
/// # Errors
/// [`ReadError`] when the files cannot be read.
pub(super) async fn refresh(shared: &Arc<Shared>) -> Result<(), ReadError> {
    if shared.followed.is_none() {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    let looked = tokio::task::spawn_blocking(move || look_again(&shared)).await;
    looked.map_err(|_| ReadError::Closed)?
}

fn look_again(shared: &Shared) -> Result<(), ReadError> {
    let Some(followed) = &shared.followed else {
        return Ok(());
    };
    let directory = &shared.options.directory;
    let path = layout::durable(directory);
    let failed = |operation, path: &Path, source| ReadError::Io {
        operation,
        path: path.to_owned(),
        source,
    };
    let mut followed = lock(followed);
    let durable = match &shared.durable {
        Some(durable) => Arc::clone(durable),
        // Nobody had written when this one was opened.
        None => match shared.disk.open(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|error| failed("open", &path, error))?,
        },
    };
    let published = durable_place(&*durable).map_err(|error| failed("read", &path, error))?;
    let Some(place) = published.filter(|place| *place > *followed) else {
        return Ok(());
    };
    if place.segment == followed.segment {
        let mut index = lock(&shared.index);
        let newest = index
            .segments
            .get(&place.segment)
            .map(|indexed| indexed.segment.clone());
        if let Some(segment) = newest {
            match extend(&mut index, &segment, followed.byte, place.byte) {
                // The writer is further by far, and what it publishes next says where.
                Err(_) if segment.is_gone() => return Ok(()),
                extended => extended.map_err(|error| failed("read", &segment.path, error))?,
            }
        }
    } else {
        // The writer has begun another segment, and may have removed old ones: their files are let go here.
        let found = find_up_to(&*shared.disk, directory, place).map_err(ReadError::from)?;
        let Some(found) = found else { return Ok(()) };
        let before = std::mem::replace(&mut *lock(&shared.index), found.index);
        // Whoever closes a removed file last has its pages freed, a hundred megabytes of them, and nobody waits for that.
        tokio::task::spawn_blocking(move || drop(before));
    }
    *followed = place;
    shared.wake_readers(|_| true);
    Ok(())
}

impl From<OpenError> for ReadError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io {
                operation,
                path,
                source,
            } => Self::Io {
                operation,
                path,
                source,
            },
            OpenError::Damaged { path, at, message } => Self::Damaged { path, at, message },
            OpenError::Locked { ref path }
            | OpenError::Opening { ref path }
            | OpenError::Version { ref path, .. } => Self::Damaged {
                path: path.clone(),
                at: 0,
                message: error.to_string(),
            },
        }
    }
}
