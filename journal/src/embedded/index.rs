//! Where each record is: for every segment and stream the places of its frames, in memory.
//!
//! The active segment's index grows with every group. A sealed segment's is made when somebody first reads from
//! it, by walking over its frame headers. One entry is four bytes, so a gigabyte of records of a single event
//! takes about 10 MB, and one of large records next to nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use event::{Offset, StreamName};

use super::frame::FrameHeader;
use super::layout::{ALIGNMENT, FRAME_HEADER_BYTES};
use super::segment::Segment;

/// One segment and where its frames end.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) segment: Segment,
    /// Where its durable frames end.
    pub(super) end: u64,
    /// For each stream the places of its frames in units of [`ALIGNMENT`]; the first one's offset is the
    /// header's. `None` until somebody asks.
    places: Option<HashMap<StreamName, Vec<u32>>>,
}

impl Indexed {
    /// A segment with frames that nobody has looked at.
    pub(super) fn sealed(segment: Segment, end: u64) -> Self {
        Self {
            segment,
            end,
            places: None,
        }
    }

    /// A segment without frames.
    pub(super) fn empty(segment: Segment) -> Self {
        let end = segment.header.bytes;
        Self {
            segment,
            end,
            places: Some(HashMap::new()),
        }
    }

    /// Adds the next frame; the caller moves `end` when it is durable.
    pub(super) fn add(&mut self, stream: &StreamName, byte: u64) {
        let Some(places) = &mut self.places else { return };
        let place = u32::try_from(byte / ALIGNMENT).expect("a segment is far below 256 GiB");
        match places.get_mut(stream) {
            Some(places) => places.push(place),
            None => drop(places.insert(stream.clone(), vec![place])),
        }
    }

    /// The byte of a record's frame. The caller knows from the headers that it is in this segment.
    pub(super) fn find(&mut self, stream: &StreamName, offset: Offset) -> io::Result<Option<u64>> {
        if self.places.is_none() {
            self.places = Some(self.walk()?);
        }
        let start = self.start(stream);
        let places = self.places.as_ref().and_then(|places| places.get(stream));
        let at = offset
            .0
            .checked_sub(start.0)
            .and_then(|at| usize::try_from(at).ok());
        Ok(places
            .zip(at)
            .and_then(|(places, at)| Some(u64::from(*places.get(at)?) * ALIGNMENT)))
    }

    /// The offset of the stream's first record that is not in an earlier segment.
    pub(super) fn start(&self, stream: &StreamName) -> Offset {
        self.segment
            .header
            .starts
            .get(stream)
            .copied()
            .unwrap_or_default()
    }

    fn walk(&self) -> io::Result<HashMap<StreamName, Vec<u32>>> {
        let mut places: HashMap<StreamName, Vec<u32>> = HashMap::new();
        for step in self.headers(self.segment.header.bytes, self.end) {
            let (byte, header) = step?;
            places
                .entry(header.stream)
                .or_default()
                .push((byte / ALIGNMENT) as u32);
        }
        Ok(places)
    }

    /// The frames' headers from one byte to another; payloads are not looked at.
    pub(super) fn headers(
        &self,
        from: u64,
        end: u64,
    ) -> impl Iterator<Item = io::Result<(u64, FrameHeader)>> {
        let mut byte = from;
        std::iter::from_fn(move || {
            if byte >= end {
                return None;
            }
            let at = byte;
            let mut bytes = [0; FRAME_HEADER_BYTES];
            let read = self.segment.file.read_at(&mut bytes, at);
            let header = read.map(|_| FrameHeader::parse(&bytes));
            byte = match &header {
                Ok(Some(header)) => at + header.frame_bytes(),
                _ => end,
            };
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("no frame at byte {at}"));
            Some(header.and_then(|header| Ok((at, header.ok_or_else(damaged)?))))
        })
    }
}

/// All segments, and the durable end of each stream.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: BTreeMap<u64, Indexed>,
    /// The next offset of each stream that is durable.
    pub(super) ends: BTreeMap<StreamName, Offset>,
    /// Up to where each stream is stored elsewhere, as far as somebody has said.
    stored: BTreeMap<StreamName, Offset>,
}

impl Index {
    /// Notes that a stream's records below an offset are stored elsewhere.
    pub(super) fn stored(&mut self, stream: &StreamName, offset: Offset) {
        let stored = self.stored.entry(stream.clone()).or_default();
        *stored = offset.max(*stored);
    }

    /// The oldest segment, when it may be removed: it is not the active one, every stream with records in it is
    /// stored elsewhere, and it was sealed long enough ago.
    pub(super) fn removable(&self, retain: Duration) -> Option<(u64, PathBuf)> {
        let mut oldest = self.segments.iter();
        let ((number, segment), (_, next)) = (oldest.next()?, oldest.next()?);
        let stored = |(stream, end): (&StreamName, &Offset)| {
            *end == segment.start(stream) || self.stored.get(stream).is_some_and(|stored| stored >= end)
        };
        let path = segment.segment.path.clone();
        let age = || {
            std::fs::metadata(&path)
                .and_then(|found| found.modified())
                .ok()?
                .elapsed()
                .ok()
        };
        let old = retain.is_zero() || age().is_some_and(|age| age >= retain);
        (old && next.segment.header.starts.iter().all(stored)).then_some((*number, path))
    }

    /// The oldest offset of a stream that is still there.
    pub(super) fn start(&self, stream: &StreamName) -> Offset {
        self.segments
            .first_key_value()
            .map_or(Offset(0), |(_, segment)| segment.start(stream))
    }

    pub(super) fn end(&self, stream: &StreamName) -> Offset {
        self.ends.get(stream).copied().unwrap_or_default()
    }

    /// The segment that has a record: the last one that begins at it or before.
    pub(super) fn segment_of(&mut self, stream: &StreamName, offset: Offset) -> Option<&mut Indexed> {
        let mut found = None;
        for (number, segment) in &self.segments {
            if segment.start(stream) > offset {
                break;
            }
            found = Some(*number);
        }
        self.segments.get_mut(&found?)
    }
}
