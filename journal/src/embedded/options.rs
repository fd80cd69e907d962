//! How an embedded journal is opened.

use std::path::PathBuf;
use std::time::Duration;

/// Where an embedded journal lies, and its bounds.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Its directory; created when absent.
    pub directory: PathBuf,
    /// Size at which a segment is sealed, in bytes. Default: 128 MiB. Minimum: 64 KiB.
    ///
    /// Retention removes whole segments, and the start scans the last one: 128 MiB take a tenth of a second.
    pub segment_bytes: u64,
    /// Most bytes that wait to be written; beyond, appends fail with `QueueFull`. Default: 256 MiB. Minimum: what
    /// the largest request can have, about 128 MiB.
    pub queue_bytes: usize,
    /// For how long records stay after every destination that holds the journal back has them. Default: 0.
    pub retain: Duration,
    /// Bytes of the disk that are never used. Default: 512 MiB. Minimum: 0.
    pub disk_reserve_bytes: u64,
}

impl EmbeddedOptions {
    /// The defaults, in a directory.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            segment_bytes: 128 << 20,
            queue_bytes: 256 << 20,
            retain: Duration::ZERO,
            disk_reserve_bytes: 512 << 20,
        }
    }
}
