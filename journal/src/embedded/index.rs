//! Where each record is: for every segment and stream the places of its frames, in memory.
//!
//! The active segment's index grows with every group. A sealed segment's is made when somebody first reads from
//! it, by walking over its frame headers. One entry is four bytes, so a gigabyte of records of a single event
//! takes about 10 MB, and one of large records next to nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use event::{Offset, StreamName};

use super::layout::ALIGNMENT;
use super::segment::Segment;
use super::spares::SpareFile;

/// For each stream the places of its frames in a segment, in units of [`ALIGNMENT`].
pub(super) type Places = HashMap<StreamName, Vec<u32>>;

/// One segment and where its frames end.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) segment: Segment,
    /// Where its durable frames end.
    pub(super) end: u64,
    /// The first place of a stream is that of the offset in the header. `None` until somebody asks.
    places: Option<Places>,
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
            places: Some(Places::new()),
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

    /// Whether the places are known; [`walk`] finds them.
    pub(super) fn walked(&self) -> bool {
        self.places.is_some()
    }

    /// Keeps what [`walk`] found.
    pub(super) fn set_places(&mut self, places: Places) {
        self.places.get_or_insert(places);
    }

    /// The byte of a record's frame. The caller knows from the headers that it is in this segment.
    pub(super) fn find(&self, stream: &StreamName, offset: Offset) -> Option<u64> {
        let at = usize::try_from(offset.0.checked_sub(self.start(stream).0)?).ok()?;
        let place = self.places.as_ref()?.get(stream)?.get(at)?;
        Some(u64::from(*place) * ALIGNMENT)
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
}

/// Where the frames of each stream are in a segment that nobody has looked at. It reads the file, so no lock is
/// held meanwhile.
pub(super) fn walk(segment: &Segment, end: u64) -> io::Result<Places> {
    let mut places = Places::new();
    for step in segment.headers(segment.header.bytes, end) {
        let (byte, header) = step?;
        places
            .entry(header.stream)
            .or_default()
            .push((byte / ALIGNMENT) as u32);
    }
    Ok(places)
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

    /// Lets go of the oldest segment, when it may be removed, and gives its file: it is not the active one, every stream with records in it is
    /// stored elsewhere, no open reader is in it or before it, and it was sealed long enough ago.
    pub(super) fn remove_oldest(
        &mut self,
        retain: Duration,
        readers: &HashMap<u64, (StreamName, Offset)>,
    ) -> Option<SpareFile> {
        let mut oldest = self.segments.iter();
        let ((number, segment), (_, next)) = (oldest.next()?, oldest.next()?);
        let stored = |(stream, end): (&StreamName, &Offset)| {
            *end == segment.start(stream) || self.stored.get(stream).is_some_and(|stored| stored >= end)
        };
        let ends = &next.segment.header.starts;
        let needed = |(stream, at): &(StreamName, Offset)| {
            ends.get(stream)
                .is_some_and(|end| at < end && *end > segment.start(stream))
        };
        if readers.values().any(needed) {
            return None;
        }
        let path = segment.segment.path.clone();
        let age = || {
            std::fs::metadata(&path)
                .and_then(|found| found.modified())
                .ok()?
                .elapsed()
                .ok()
        };
        let old = retain.is_zero() || age().is_some_and(|age| age >= retain);
        if !old || !ends.iter().all(stored) {
            return None;
        }
        let (number, bytes) = (*number, segment.end);
        self.segments.remove(&number);
        Some(SpareFile { path, bytes })
    }

    /// The oldest offset of a stream that is still there.
    pub(super) fn start(&self, stream: &StreamName) -> Offset {
        self.segments
            .first_key_value()
            .map_or(Offset(0), |(_, segment)| segment.start(stream))
    }

    /// The oldest offset of a stream that is there without the segments up to one.
    pub(super) fn start_after(&self, number: u64, stream: &StreamName) -> Offset {
        let mut later = self.segments.range(number + 1..);
        later
            .next()
            .map_or_else(|| self.end(stream), |(_, segment)| segment.start(stream))
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
