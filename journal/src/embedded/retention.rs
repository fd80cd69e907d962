//! Removing what is stored elsewhere: whole segments, the oldest first, one after the other.
//!
//! Their files are kept to be written again, a few of them ([`super::spares`]), and else removed.
//!
//! A segment goes when every stream is past it and `retain` allows. The directory is synced after each removal: if
//! a later one survived a power cut and an earlier one did not, recovery would see a gap and refuse the start.

use std::path::Path;

use event::{Offset, Partition, Position, StreamName};

use super::disk::SyncPoint;
use super::layout;
use super::shared::{Health, Shared, lock};
use super::spares::SpareFile;
use crate::{AppendError, ReadError};

/// Removes whole segments that every stream is past, the oldest first.
pub(super) fn remove_stored(
    shared: &Shared,
    stream: &StreamName,
    stored: &[Position],
) -> Result<(), ReadError> {
    let offset = stored.iter().find(|position| position.partition == Partition(0));
    // One removal after the other, so that the files that stay have no gap.
    let mut removing = lock(&shared.removing);
    lock(&shared.index).stored(stream, offset.map_or(Offset(0), |position| position.offset));
    loop {
        if removing.is_none() {
            let readers = lock(&shared.readers);
            let mut index = lock(&shared.index);
            *removing = index.remove_oldest(shared.options.retain, &readers);
            metrics::gauge!("tidemill_journal_segments").set(index.segments.len() as f64);
        }
        // What could not be removed the last time comes first.
        let Some(SpareFile { path, bytes }) = removing.clone() else {
            return Ok(());
        };
        // A disk that is nearly full needs the room.
        let keeps = shared.spares.has_room(bytes) && matches!(*shared.health().borrow(), Health::Writable);
        let spare = layout::segment_number(&path)
            .filter(|_| keeps)
            .map(|number| layout::spare(&shared.options.directory, number));
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| ReadError::Io {
                operation,
                path,
                source,
            }
        };
        let directory = &shared.options.directory;
        let (operation, removed) = match &spare {
            Some(spare) => ("rename", shared.disk.rename(&path, spare)),
            None => ("remove", shared.disk.remove(&path)),
        };
        let kept = match removed {
            // Somebody else did it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            removed => removed.map(|()| spare).map_err(io(operation, &path))?,
        };
        let synced = shared.disk.sync_directory(directory, SyncPoint::Removal);
        if let Err(error) = &synced {
            shared.set_poison(AppendError::Poisoned {
                operation: "fsync",
                path: directory.clone(),
                message: error.to_string(),
            });
        }
        *removing = None;
        synced.map_err(io("fsync", directory))?;
        if let Some(path) = kept {
            shared.spares.keep(SpareFile { path, bytes });
        }
        tracing::info!(path = %path.display(), "removed a journal segment that every stream is past");
    }
}
