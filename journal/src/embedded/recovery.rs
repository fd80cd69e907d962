//! What happens when a journal is opened: which bytes of the last segment are records, and which were never
//! acknowledged.
//!
//! A file that was another segment's before has that one's frames beyond its own; they name that segment, and count
//! as what was never written.
//!
//! Only the last segment can end torn: an earlier one was durable before its successor was created, and the
//! successor's header says where it ended. In the last one frames follow each other up to the first that is not
//! intact. If any intact frame says, or lies where it shows, that the journal was durable beyond that place, then
//! bytes that were acknowledged are damaged and the start is refused. Otherwise only what was never acknowledged
//! is cut.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use event::{Offset, StreamName};
use uuid::Uuid;

use super::disk::{Disk, SyncPoint};
use super::follow::durable_place;
use super::frame::Place;
use super::index::{Index, Indexed};
use super::layout::{self, ALIGNMENT};
use super::segment::{HeaderError, Segment, SegmentHeader, frame_at, header_at};

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes above the durable end that were cut. What was never written does not count.
    pub bytes_cut: u64,
    /// The generation of this opening.
    pub generation: u64,
    /// How many segments there are.
    pub segments: usize,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it.
    #[error("journal `{}` is in use by another process", path.display())]
    Locked {
        /// The journal's directory.
        path: PathBuf,
    },
    /// Bytes that were acknowledged are not what was written. Nothing is skipped; a copy or backup must help.
    #[error("`{}` is damaged at byte {at}, below what was acknowledged: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        message: String,
    },
    /// A process that writes to it has not finished opening it.
    #[error("journal `{}` is being opened by another process; try again", path.display())]
    Opening {
        /// The journal's directory.
        path: PathBuf,
    },
    /// A newer Tidemill wrote it.
    #[error("`{}` has format version {found}, this program reads up to {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u16,
        /// The newest version that this program reads.
        supported: u16,
    },
    /// The operating system refused.
    #[error("{operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A journal as it lies on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) index: Index,
    pub(super) journal: Option<Uuid>,
    pub(super) generation: u64,
    pub(super) bytes_cut: u64,
    /// Up to which byte of the last segment its frames say that it was durable.
    pub(super) named_durable: u64,
    /// The last file, when its creation was not finished.
    pub(super) unfinished: Option<PathBuf>,
}

/// Reads a directory of segments; changes nothing.
pub(super) fn find(disk: &dyn Disk, directory: &Path, write: bool) -> Result<Found, OpenError> {
    let mut found = Found::default();
    let mut files = BTreeMap::new();
    for path in disk.list(directory).map_err(io_error("list", directory))? {
        files.extend(layout::segment_number(&path).map(|number| (number, path)));
    }
    let last = files.keys().next_back().copied();
    for (number, path) in files {
        match Segment::open(disk, &path, write) {
            Ok(segment) => found.add(segment)?,
            Err(HeaderError::Malformed(_)) if Some(number) == last && !holds_frames(disk, &path)? => {
                found.unfinished = Some(path);
            }
            Err(error) => return Err(header_error(error, path)),
        }
    }
    found.scan_last()?;
    found.check_published(disk, directory)?;
    Ok(found)
}

impl Found {
    /// Whether there is no segment.
    pub(super) fn is_empty(&self) -> bool {
        self.index.segments.is_empty()
    }

    /// Whether the file of the newest segment that was added is another one's by now.
    pub(super) fn newest_is_gone(&self) -> bool {
        let newest = self.index.segments.last_key_value();
        newest.is_some_and(|(_, newest)| newest.segment.is_gone())
    }

    /// Makes what is kept of the last segment durable, before anybody reads it. A crashed writer may not have come
    /// to its fsync, or that fsync may have failed, after which the system takes unwritten pages for written
    /// ones: so what no frame names as durable is written once more.
    pub(super) fn make_durable(&self) -> Result<(), OpenError> {
        const BLOCK: u64 = 1 << 20;
        let Some((_, last)) = self.index.segments.last_key_value() else {
            return Ok(());
        };
        let Segment { file, path, .. } = &last.segment;
        let mut at = self.named_durable;
        while at < last.end {
            let mut block = vec![0; (last.end - at).min(BLOCK) as usize];
            file.read_at(&mut block, at).map_err(io_error("read", path))?;
            file.write_at(&block, at).map_err(io_error("write", path))?;
            at += block.len() as u64;
        }
        file.sync(SyncPoint::Recovered).map_err(io_error("fsync", path))
    }

    /// Adds the next segment, which says where the one before it ends.
    pub(super) fn add(&mut self, segment: Segment) -> Result<(), OpenError> {
        let damaged = |message: String| OpenError::Damaged {
            path: segment.path.clone(),
            at: 0,
            message,
        };
        let header = &segment.header;
        if let Some((number, previous)) = self
            .index
            .segments
            .last_entry()
            .map(|entry| (*entry.key(), entry))
            .as_mut()
        {
            if header.id.number != *number + 1 {
                return Err(damaged(format!("segment {} is missing before it", *number + 1)));
            }
            let previous = previous.get_mut();
            let length = previous
                .segment
                .file
                .length()
                .map_err(io_error("measure", &previous.segment.path))?;
            if header.previous_end > length {
                let (path, message) = (
                    previous.segment.path.clone(),
                    format!("{} bytes are gone", header.previous_end - length),
                );
                return Err(OpenError::Damaged {
                    path,
                    at: length,
                    message,
                });
            }
            previous.end = header.previous_end;
        }
        if self.journal.is_some_and(|journal| journal != header.journal) {
            return Err(damaged("it belongs to another journal".to_owned()));
        }
        self.journal = Some(header.journal);
        self.generation = self.generation.max(header.generation);
        self.index.ends = header.starts.clone();
        let (number, end) = (header.id.number, header.bytes);
        self.index.segments.insert(number, Indexed::sealed(segment, end));
        Ok(())
    }

    /// Compares with what the last writer published. That file is not fsynced, so it may be older than the
    /// segments, but never newer: it is written after the fsync of what it names.
    fn check_published(&self, disk: &dyn Disk, directory: &Path) -> Result<(), OpenError> {
        let path = layout::durable(directory);
        let published = match disk.open(&path, false) {
            Ok(file) => durable_place(&*file).map_err(io_error("read", &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let Some(place) = published else { return Ok(()) };
        let last = self.index.segments.last_key_value();
        let found = last.map_or_else(Place::default, |(number, last)| Place {
            segment: *number,
            byte: last.end,
        });
        let earlier = self
            .index
            .segments
            .get(&place.segment)
            .filter(|_| place.segment < found.segment);
        if place <= found && earlier.is_none_or(|earlier| place.byte <= earlier.end) {
            return Ok(());
        }
        Err(OpenError::Damaged {
            path: layout::segment(directory, place.segment),
            at: if place.segment == found.segment {
                found.byte
            } else {
                0
            },
            message: format!("the journal was durable up to byte {} of it", place.byte),
        })
    }

    /// Finds where the last segment's frames end, and the streams' ends with it.
    fn scan_last(&mut self) -> Result<(), OpenError> {
        let Some(mut entry) = self.index.segments.last_entry() else {
            return Ok(());
        };
        let segment = entry.get().segment.clone();
        let read = |byte| segment.frame(byte).map_err(io_error("read", &segment.path));
        let (mut byte, mut group_begin) = (segment.header.bytes, segment.header.bytes);
        let (mut ends, mut group) = (self.index.ends.clone(), Vec::new());
        let mut durable = Place::default();
        while let Some((header, _)) =
            read(byte)?.filter(|(header, _)| header.generation == segment.header.generation)
        {
            durable = durable.max(header.durable);
            byte += header.frame_bytes();
            group.push((header.stream, header.offset));
            if header.left_in_group == 0 {
                group_begin = byte;
                advance(&mut ends, &mut group, &segment)?;
            }
        }
        // Whatever intact frame lies beyond the damage was written after what it names as durable.
        let length = segment
            .file
            .length()
            .map_err(io_error("measure", &segment.path))?;
        let beyond = written_beyond(&segment, byte, length)?;
        durable = durable.max(beyond.durable);
        if durable.segment == segment.header.id.number && durable.byte > group_begin {
            let message = format!("the journal was durable up to byte {}", durable.byte);
            return Err(OpenError::Damaged {
                path: segment.path,
                at: byte,
                message,
            });
        }
        self.named_durable = match durable.segment == segment.header.id.number {
            true => durable.byte.max(segment.header.bytes),
            // Not even its header is known to be.
            false => 0,
        };
        self.bytes_cut = beyond.end.max(byte) - group_begin;
        self.index.ends = ends;
        entry.get_mut().end = group_begin;
        Ok(())
    }
}

fn advance(
    ends: &mut BTreeMap<StreamName, Offset>,
    group: &mut Vec<(StreamName, Offset)>,
    segment: &Segment,
) -> Result<(), OpenError> {
    for (stream, offset) in group.drain(..) {
        let end = ends.entry(stream).or_default();
        if *end != offset {
            let message = format!("offset {offset} follows where {end} was expected");
            return Err(OpenError::Damaged {
                path: segment.path.clone(),
                at: 0,
                message,
            });
        }
        *end = offset.next();
    }
    Ok(())
}

/// What lies in a segment beyond its last intact frame.
#[derive(Default)]
struct Beyond {
    durable: Place,
    /// Where what was written ends, about: the last byte that is not zero, or in a file that was another segment's
    /// the end of the last frame that was begun.
    end: u64,
}

fn written_beyond(segment: &Segment, from: u64, length: u64) -> Result<Beyond, OpenError> {
    const BLOCK: usize = 1 << 20;
    let mut beyond = Beyond {
        durable: Place::default(),
        end: from,
    };
    let mut block = vec![0; BLOCK];
    let mut at = from;
    while at < length {
        let read = segment
            .file
            .read_at(&mut block, at)
            .map_err(io_error("read", &segment.path))?;
        if read == 0 {
            break;
        }
        let units = block[..read].chunks(ALIGNMENT as usize).enumerate();
        for (unit, bytes) in units.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)) {
            let byte = at + unit as u64 * ALIGNMENT;
            if !segment.header.reused {
                beyond.end = byte + bytes.len() as u64;
            }
            if bytes.starts_with(layout::FRAME_MAGIC) {
                beyond
                    .add_frame(segment, byte, length)
                    .map_err(io_error("read", &segment.path))?;
            }
        }
        at += read as u64;
    }
    Ok(beyond)
}

impl Beyond {
    /// Notes what the segment's own frame at a byte says, when there is one.
    fn add_frame(&mut self, segment: &Segment, byte: u64, length: u64) -> io::Result<()> {
        let SegmentHeader { id, generation, .. } = segment.header;
        let header = header_at(&*segment.file, byte)?.map(|(header, _)| header);
        let Some(header) = header.filter(|header| header.is_of(id) && header.generation == generation) else {
            return Ok(());
        };
        self.end = self.end.max((byte + header.frame_bytes()).min(length));
        if frame_at(&*segment.file, byte, length)?.is_some() {
            self.durable = self.durable.max(header.durable);
        }
        Ok(())
    }
}

/// Whether a file without a whole header has frames all the same, so that more than its creation went wrong.
fn holds_frames(disk: &dyn Disk, path: &Path) -> Result<bool, OpenError> {
    let file = disk.open(path, false).map_err(io_error("open", path))?;
    let length = file.length().map_err(io_error("measure", path))?;
    let mut bytes = vec![0; ALIGNMENT as usize];
    // A header is followed by the first frame, so it is enough to look as far as the longest header goes.
    let far = (layout::SUMMARY_BYTES_MAX as u64 + 2 * ALIGNMENT).min(length);
    for byte in (0..far).step_by(ALIGNMENT as usize) {
        file.read_at(&mut bytes, byte).map_err(io_error("read", path))?;
        if bytes.starts_with(layout::FRAME_MAGIC)
            && frame_at(&*file, byte, length)
                .map_err(io_error("read", path))?
                .is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn header_error(error: HeaderError, path: PathBuf) -> OpenError {
    match error {
        HeaderError::Io(source) => OpenError::Io {
            operation: "open",
            path,
            source,
        },
        HeaderError::Malformed(message) => OpenError::Damaged { path, at: 0, message },
        HeaderError::Version(found) => OpenError::Version {
            path,
            found,
            supported: layout::FORMAT,
        },
    }
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        operation,
        path: path.clone(),
        source,
    }
}
