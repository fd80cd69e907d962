//! Every name and size on disk, each with its reason.
//!
//! ```text
//! <directory>/lock                         held by the one writer
//! <directory>/durable                      how far readers of other processes may read
//! <directory>/<number, 20 digits>.spare    a segment's file that nobody needs any more, to be written again
//! <directory>/<number, 20 digits>.segment
//!     header   magic "TMSG" | crc32c u32 | format u16 | flags u16 | header bytes u32 | number u64 | generation u64
//!              | previous end u64 | journal id [16] | summary bytes u32 | 0 u32 | secret u64 | summary (JSON),
//!              zeros up to 64
//!     frame    magic "TMFR" | crc32c u32 | payload bytes u32 | left in group u32 | generation u64 | offset u64
//!              | durable segment u64 | durable byte u64 | partition u32 | stream bytes u16 | secret u64 | 0 u16
//!              | stream name [64] | payload, zeros up to 64
//! ```
//!
//! All integers are little-endian. A checksum covers everything after itself, padding left out. The summary says
//! for each stream which offset its next record has when the segment begins, so a segment's range of each
//! stream is known from its header and the next one's, and opening reads headers only.
//!
//! The only flag, 1, says that the file was another segment's before: beyond its frames may lie older ones, which name
//! that other segment as the durable one. The secret is drawn for each segment, so that neither those nor bytes that
//! somebody has sent are taken for its frames. Format 1 has no flags and no secret, and is read as before.

use std::path::{Path, PathBuf};

/// Frames and payloads begin at a multiple of this: the alignment that Arrow recommends, so that columns are
/// used where they were read to.
pub(super) const ALIGNMENT: u64 = 64;

/// Bytes of a frame before its payload: 64 of numbers, 64 for the longest name of a stream.
pub(super) const FRAME_HEADER_BYTES: usize = 128;

/// Bytes of a segment's header before its summary.
pub(super) const SEGMENT_HEADER_BYTES: usize = 72;

/// The same in format 1.
pub(super) const SEGMENT_HEADER_BYTES_1: usize = 64;

/// Largest summary: 256 streams of 64 letters and 20 digits each, with room to spare.
pub(super) const SUMMARY_BYTES_MAX: usize = 1 << 18;

/// The newest format that this program reads, and the one that it writes; it reads all from 1 on.
pub(super) const FORMAT: u16 = 2;

/// The flag of a segment whose file was another one's before.
pub(super) const REUSED: u16 = 1;

pub(super) const SEGMENT_MAGIC: &[u8; 4] = b"TMSG";
pub(super) const FRAME_MAGIC: &[u8; 4] = b"TMFR";
pub(super) const DURABLE_MAGIC: &[u8; 4] = b"TMDE";

/// Bytes of the file `durable`: magic, checksum, segment, byte, all in one sector.
pub(super) const DURABLE_BYTES: usize = 24;

pub(super) fn lock(directory: &Path) -> PathBuf {
    directory.join("lock")
}

pub(super) fn durable(directory: &Path) -> PathBuf {
    directory.join("durable")
}

pub(super) fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.segment"))
}

pub(super) fn spare(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.spare"))
}

/// Whether a file is a spare one.
pub(super) fn is_spare(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "spare")
}

/// The number of a segment file; `None` for any other file.
pub(super) fn segment_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".segment")?;
    (name.len() == 20).then(|| name.parse().ok())?
}
