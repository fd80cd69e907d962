//! A segment file: its header, and walking through its frames.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event::{Offset, StreamName};
use uuid::Uuid;

use super::disk::{Disk, DiskFile, SyncPoint};
use super::frame::{FrameHeader, SegmentId};
use super::layout::{
    self, ALIGNMENT, FORMAT, FRAME_HEADER_BYTES, REUSED, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES_1,
    SEGMENT_MAGIC, SUMMARY_BYTES_MAX,
};
use super::spares::OpenSpare;

/// What a segment's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The segment's number and secret.
    pub id: SegmentId,
    /// Which opening of the journal wrote it.
    pub generation: u64,
    /// Where the frames of the segment before this one end.
    pub previous_end: u64,
    /// The journal that it belongs to.
    pub journal: Uuid,
    /// Whether its file was another segment's before, whose frames lie beyond its own.
    pub reused: bool,
    /// The next offset of each stream when the segment begins.
    pub starts: BTreeMap<StreamName, Offset>,
    /// Where the first frame begins.
    pub bytes: u64,
}

/// A segment file that is open.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    /// Up to where room is reserved on the disk.
    pub(super) reserved: u64,
}

/// Why a segment cannot be opened.
#[derive(Debug)]
pub(super) enum HeaderError {
    Io(io::Error),
    /// It has no whole header, as after a crash while it was created.
    Malformed(String),
    Version(u16),
}

impl SegmentHeader {
    fn encode(&self) -> Vec<u8> {
        let starts: BTreeMap<&str, u64> = self
            .starts
            .iter()
            .map(|(name, offset)| (name.as_str(), offset.0))
            .collect();
        let summary = serde_json::to_vec(&starts).expect("text keys and numbers are always JSON");
        let length = (SEGMENT_HEADER_BYTES + summary.len()).next_multiple_of(ALIGNMENT as usize);
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&(u16::from(self.reused) * REUSED).to_le_bytes());
        bytes[12..16].copy_from_slice(&(length as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        bytes[40..56].copy_from_slice(self.journal.as_bytes());
        bytes[56..60].copy_from_slice(&(summary.len() as u32).to_le_bytes());
        bytes[64..72].copy_from_slice(&self.id.secret.to_le_bytes());
        bytes[SEGMENT_HEADER_BYTES..][..summary.len()].copy_from_slice(&summary);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn read(file: &dyn DiskFile) -> Result<Self, HeaderError> {
        let malformed = |message: &str| HeaderError::Malformed(message.to_owned());
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES_1];
        if file.read_at(&mut bytes, 0).map_err(HeaderError::Io)? < bytes.len() || &bytes[..4] != SEGMENT_MAGIC
        {
            return Err(malformed("it does not begin with a segment's header"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        let before_summary = if format == 1 {
            SEGMENT_HEADER_BYTES_1
        } else {
            SEGMENT_HEADER_BYTES
        };
        let u32_at =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let length = u32_at(&bytes, 12) as usize;
        let summary_bytes = u32_at(&bytes, 56) as usize;
        if summary_bytes > SUMMARY_BYTES_MAX
            || length != (before_summary + summary_bytes).next_multiple_of(ALIGNMENT as usize)
        {
            return Err(malformed("its header has no sensible length"));
        }
        bytes.resize(length, 0);
        let read = file.read_at(&mut bytes, 0).map_err(HeaderError::Io)?;
        if read < length || crc32c::crc32c(&bytes[8..]) != u32_at(&bytes, 4) {
            return Err(malformed("its header's checksum is wrong"));
        }
        if !(1..=FORMAT).contains(&format) {
            return Err(HeaderError::Version(format));
        }
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let summary = &bytes[before_summary..][..summary_bytes];
        let starts: BTreeMap<String, u64> =
            serde_json::from_slice(summary).map_err(|error| malformed(&format!("its summary: {error}")))?;
        let starts = starts.into_iter().map(|(name, offset)| {
            let name = StreamName::parse_stored(&name).map_err(|error| malformed(&error.to_string()))?;
            Ok((name, Offset(offset)))
        });
        Ok(Self {
            id: SegmentId {
                number: u64_at(16),
                secret: if format == 1 { 0 } else { u64_at(64) },
            },
            generation: u64_at(24),
            previous_end: u64_at(32),
            journal: Uuid::from_bytes(bytes[40..56].try_into().expect("sixteen bytes")),
            reused: u16::from_le_bytes([bytes[10], bytes[11]]) & REUSED != 0,
            starts: starts.collect::<Result<_, _>>()?,
            bytes: length as u64,
        })
    }
}

impl Segment {
    /// Creates a segment file that is durable, its entry in the directory included, before this returns: of a spare
    /// file when there is one. Such a one has a segment's name only when its new header is durable, so that nobody
    /// ever takes it for what it was.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        mut header: SegmentHeader,
        allocate: u64,
        spare: Option<OpenSpare>,
    ) -> io::Result<Self> {
        let path = layout::segment(directory, header.id.number);
        header.reused = spare.is_some();
        let bytes = header.encode();
        header.bytes = bytes.len() as u64;
        let reserved = allocate.max(header.bytes);
        let (begun, file) = match &spare {
            Some(spare) => (&spare.path, Arc::clone(&spare.file)),
            None => (&path, disk.create(&path)?),
        };
        if let Err(error) = file.allocate(reserved) {
            // Nothing was promised about this file yet, and without it the next try may succeed.
            return Err(match disk.remove(begun) {
                Ok(()) => error,
                Err(left) => io::Error::other(format!("{error}; and cannot remove what was begun: {left}")),
            });
        }
        // From here on there may be a segment on the disk, so no error may look as if one could go on without it.
        let written = file.write_at(&bytes, 0);
        let synced = written.and_then(|()| file.sync(SyncPoint::SegmentHeader));
        let named = synced.and_then(|()| match &spare {
            Some(spare) => disk.rename(&spare.path, &path),
            None => Ok(()),
        });
        let entered = named.and_then(|()| disk.sync_directory(directory, SyncPoint::SegmentEntry));
        entered.map_err(|error| io::Error::other(format!("after it was begun: {error}")))?;
        Ok(Self {
            header,
            file,
            path,
            reserved,
        })
    }

    pub(super) fn open(disk: &dyn Disk, path: &Path, write: bool) -> Result<Self, HeaderError> {
        let file = disk.open(path, write).map_err(HeaderError::Io)?;
        let header = SegmentHeader::read(&*file)?;
        if layout::segment_number(path) != Some(header.id.number) {
            let message = format!("it has the header of segment {}", header.id.number);
            return Err(HeaderError::Malformed(message));
        }
        Ok(Self {
            header,
            file,
            path: path.to_owned(),
            reserved: 0,
        })
    }

    /// Whether the segment was removed, and its file is another one's by now ([`is_gone`]).
    pub(super) fn is_gone(&self) -> bool {
        is_gone(&*self.file, self.header.id.number)
    }

    /// Gives back what was reserved beyond a segment's frames; that it fails harms nobody.
    pub(super) fn cut_reserved(&self, end: u64) {
        let cut = self.file.length().and_then(|length| match length > end {
            true => self.file.truncate(end),
            false => Ok(()),
        });
        if let Err(error) = cut {
            tracing::warn!(%error, path = %self.path.display(), "cannot give back what a segment does not use");
        }
    }

    /// The headers of the frames from one byte to another; payloads are not looked at.
    pub(super) fn headers(
        &self,
        from: u64,
        end: u64,
    ) -> impl Iterator<Item = io::Result<(u64, FrameHeader)>> {
        let (mut byte, mut frame_bytes) = (from, 0);
        let mut window = Window::default();
        std::iter::from_fn(move || {
            if byte >= end {
                return None;
            }
            let at = byte;
            let header = window
                .header(&*self.file, at, end, frame_bytes)
                .map(|bytes| bytes.and_then(FrameHeader::parse));
            let header = header.map(|header| header.filter(|header| header.is_of(self.header.id)));
            frame_bytes = match &header {
                Ok(Some(header)) => header.frame_bytes(),
                _ => end - at,
            };
            byte = at + frame_bytes;
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("no frame at byte {at}"));
            Some(header.and_then(|header| Ok((at, header.ok_or_else(damaged)?))))
        })
    }

    /// The frame of this segment at a byte, its checksum compared: `None` when there is none.
    pub(super) fn frame(&self, byte: u64) -> io::Result<Option<(FrameHeader, Vec<u8>)>> {
        let frame = frame_at(&*self.file, byte, u64::MAX)?;
        Ok(frame.filter(|(header, _)| header.is_of(self.header.id)))
    }
}

/// Whether the file of a segment is another one's by now, so that what is not there is gone, not damaged. A reader
/// beside the writer may find it so: a header is written before any frame is written over.
pub(super) fn is_gone(file: &dyn DiskFile, number: u64) -> bool {
    let mut bytes = [0; SEGMENT_HEADER_BYTES_1];
    file.read_at(&mut bytes, 0).is_ok() && bytes[16..24] != number.to_le_bytes()
}

/// A piece of a file in memory, so that small frames do not cost a read each.
#[derive(Default)]
struct Window {
    begin: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// 64 KiB hold the headers of hundreds of small frames.
    const BYTES: usize = 64 << 10;
    /// Behind a frame of more bytes a header is read alone: of a window there would be few, and payloads for nothing.
    const FRAME_BYTES_MAX: u64 = 16 << 10;

    /// The header at a byte, behind a frame of so many bytes; nothing is read beyond `end`.
    fn header(
        &mut self,
        file: &dyn DiskFile,
        at: u64,
        end: u64,
        behind: u64,
    ) -> io::Result<Option<&[u8; FRAME_HEADER_BYTES]>> {
        let inside =
            at >= self.begin && at + FRAME_HEADER_BYTES as u64 <= self.begin + self.bytes.len() as u64;
        if !inside {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let wanted = match behind {
                0..=Self::FRAME_BYTES_MAX => Self::BYTES.min(left),
                _ => FRAME_HEADER_BYTES,
            };
            self.bytes.resize(wanted.max(FRAME_HEADER_BYTES), 0);
            let read = file.read_at(&mut self.bytes, at)?;
            self.bytes.truncate(read);
            self.begin = at;
        }
        let from = (at - self.begin) as usize;
        Ok(self
            .bytes
            .get(from..from + FRAME_HEADER_BYTES)
            .and_then(|bytes| bytes.try_into().ok()))
    }
}

/// What a frame's header at a byte of a file says, and its bytes; its checksum covers the payload, so it is not compared.
pub(super) fn header_at(
    file: &dyn DiskFile,
    byte: u64,
) -> io::Result<Option<(FrameHeader, [u8; FRAME_HEADER_BYTES])>> {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let whole = file.read_at(&mut bytes, byte)? == FRAME_HEADER_BYTES;
    let header = whole.then(|| FrameHeader::parse(&bytes)).flatten();
    Ok(header.map(|header| (header, bytes)))
}

/// The intact frame at a byte of a file, whichever segment it was written to, which must end at `end` or before.
pub(super) fn frame_at(
    file: &dyn DiskFile,
    byte: u64,
    end: u64,
) -> io::Result<Option<(FrameHeader, Vec<u8>)>> {
    let Some((header, header_bytes)) = header_at(file, byte)? else {
        return Ok(None);
    };
    let length = file.length()?.min(end);
    if byte + FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes) > length {
        return Ok(None);
    }
    let mut payload = vec![0; header.payload_bytes as usize];
    let read = file.read_at(&mut payload, byte + FRAME_HEADER_BYTES as u64)?;
    let intact = read == payload.len() && header.is_intact(&header_bytes, &payload);
    Ok(intact.then_some((header, payload)))
}
