//! One record in a segment: a header of fixed size, and the payload.

use event::{Offset, Partition, StreamName};
use uuid::Uuid;

use super::layout::{ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC};

/// A place in the journal: a segment's number and a byte in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// The byte in its file.
    pub byte: u64,
}

/// What a frame says about its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// How many frames of the same group follow; a group is recovered whole or not at all.
    pub left_in_group: u32,
    /// Which opening of the journal wrote it.
    pub generation: u64,
    /// The record's offset.
    pub offset: Offset,
    /// Up to where the journal was known to be durable when this was written: a place in the frame's own segment.
    pub durable: Place,
    /// The partition.
    pub partition: Partition,
    /// The stream.
    pub stream: StreamName,
    /// The secret of the segment.
    secret: u64,
    crc: u32,
}

/// What tells the frames of a segment from any other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentId {
    /// Its number; numbers rise by one.
    pub(super) number: u64,
    /// Drawn when the segment is begun, and known to nobody outside; 0 in format 1, which had none.
    pub(super) secret: u64,
}

impl FrameHeader {
    /// Bytes from this frame's beginning to the next one's.
    pub(super) fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes)).next_multiple_of(ALIGNMENT)
    }

    /// Whether it was written into that segment. A file that was another segment's before has frames of that one beyond
    /// its own, and bytes that somebody has sent may look like a frame; so every frame has the secret of its segment.
    pub(super) fn is_of(&self, segment: SegmentId) -> bool {
        self.durable.segment == segment.number && self.secret == segment.secret
    }

    /// Reads a header; `None` when the bytes are not one. The checksum is not compared, as it covers the payload.
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<Self> {
        if &bytes[..4] != FRAME_MAGIC {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let name_bytes = usize::from(u16::from_le_bytes([bytes[52], bytes[53]]));
        let name = std::str::from_utf8(bytes.get(64..64 + name_bytes)?).ok()?;
        Some(Self {
            crc: u32_at(4),
            payload_bytes: u32_at(8),
            left_in_group: u32_at(12),
            generation: u64_at(16),
            offset: Offset(u64_at(24)),
            durable: Place {
                segment: u64_at(32),
                byte: u64_at(40),
            },
            partition: Partition(u32_at(48)),
            secret: u64_at(54),
            stream: StreamName::parse_stored(name).ok()?,
        })
    }

    /// Whether header and payload are what was written.
    pub(super) fn is_intact(&self, header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> bool {
        crc32c::crc32c_append(crc32c::crc32c(&header[8..]), payload) == self.crc
    }
}

impl SegmentId {
    /// A segment that is to be begun.
    pub(super) fn new(number: u64) -> Self {
        let (_, secret) = Uuid::new_v4().as_u64_pair();
        Self { number, secret }
    }
}

/// What is to be framed.
pub(super) struct Frame<'a> {
    pub(super) stream: &'a StreamName,
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) left_in_group: u32,
    pub(super) generation: u64,
    pub(super) durable: Place,
    pub(super) secret: u64,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes that the frame takes.
    pub(super) fn bytes_of(payload_bytes: usize) -> u64 {
        (FRAME_HEADER_BYTES as u64 + payload_bytes as u64).next_multiple_of(ALIGNMENT)
    }

    /// Appends the frame to a buffer whose length is a multiple of the alignment.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        let mut header = [0; FRAME_HEADER_BYTES];
        let name = self.stream.as_str().as_bytes();
        header[..4].copy_from_slice(FRAME_MAGIC);
        header[8..12].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&self.left_in_group.to_le_bytes());
        header[16..24].copy_from_slice(&self.generation.to_le_bytes());
        header[24..32].copy_from_slice(&self.offset.0.to_le_bytes());
        header[32..40].copy_from_slice(&self.durable.segment.to_le_bytes());
        header[40..48].copy_from_slice(&self.durable.byte.to_le_bytes());
        header[48..52].copy_from_slice(&self.partition.0.to_le_bytes());
        header[52..54].copy_from_slice(&(name.len() as u16).to_le_bytes());
        header[54..62].copy_from_slice(&self.secret.to_le_bytes());
        header[64..64 + name.len()].copy_from_slice(name);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..]), self.payload);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(self.payload);
        buffer.resize(buffer.len().next_multiple_of(ALIGNMENT as usize), 0);
    }
}
