//! Looking at a journal without opening it: `tidemill journal verify` and `dump`.

use std::path::Path;

use super::disk::LocalDisk;
use super::follow::look;
use super::frame::FrameHeader;
use super::recovery::{OpenError, io_error};

/// What [`verify`] found in a journal that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many segments.
    pub segments: u64,
    /// How many records.
    pub records: u64,
    /// How many events.
    pub rows: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Bytes at the end that were never acknowledged, and that the next start will cut.
    pub bytes_to_cut: u64,
    /// For each stream its oldest offset and its end.
    pub streams: Vec<(String, u64, u64)>,
}

/// One record as [`dump`] shows it.
#[derive(Clone, Debug)]
pub struct Dumped {
    /// Its segment.
    pub segment: u64,
    /// Where in the segment's file its frame begins.
    pub byte: u64,
    /// What its frame says.
    pub frame: FrameHeader,
    /// How many events it has.
    pub rows: u32,
}

/// Reads every byte of a journal and compares every checksum.
///
/// # Errors
/// [`OpenError::Damaged`] at the first byte that is not what was written.
pub fn verify(directory: &Path) -> Result<Verified, OpenError> {
    let mut verified = Verified::default();
    dump(directory, |dumped| {
        verified.records += 1;
        verified.rows += u64::from(dumped.rows);
        verified.bytes += dumped.frame.frame_bytes();
    })?;
    let (found, _) = look(&LocalDisk, directory)?;
    verified.segments = found.index.segments.len() as u64;
    verified.bytes_to_cut = found.bytes_cut;
    for (stream, end) in &found.index.ends {
        verified
            .streams
            .push((stream.to_string(), found.index.start(stream).0, end.0));
    }
    Ok(verified)
}

/// Gives every durable record of a journal, in the order in which they were written.
///
/// # Errors
/// [`OpenError::Damaged`] at the first byte that is not what was written.
pub fn dump(directory: &Path, mut each: impl FnMut(Dumped)) -> Result<(), OpenError> {
    let (found, _) = look(&LocalDisk, directory)?;
    for (number, indexed) in &found.index.segments {
        let segment = &indexed.segment;
        let mut byte = segment.header.bytes;
        while byte < indexed.end {
            let damaged = |message: String| OpenError::Damaged {
                path: segment.path.clone(),
                at: byte,
                message,
            };
            let frame = segment.frame(byte).map_err(io_error("read", &segment.path))?;
            if frame.is_none() && segment.is_gone() {
                // It was removed while we looked, and with it all that is left of it.
                break;
            }
            let (frame, payload) = frame.ok_or_else(|| damaged("no intact frame".to_owned()))?;
            let header = event::record::peek(&payload).map_err(|error| damaged(error.to_string()))?;
            let next = byte + frame.frame_bytes();
            each(Dumped {
                segment: *number,
                byte,
                frame,
                rows: header.rows,
            });
            byte = next;
        }
    }
    Ok(())
}
