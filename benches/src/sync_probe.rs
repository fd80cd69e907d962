//! What one fdatasync takes on the disk that something is measured on, while it is measured.
//!
//! A server that syncs before it answers can be no faster than its disk, and disks of virtual machines change by the
//! minute. So latencies are told in fdatasync times of the same run: those of a probe that writes one page in a file
//! of its own, beside the server's files, and does nothing else.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Anything;
use crate::spread::Spread;

/// How often it syncs: seldom enough to leave the disk to the server.
const EVERY: Duration = Duration::from_millis(50);

/// What it writes each time.
const PAGE: [u8; 4_096] = [0xa5; 4_096];

/// Pages of its file, which are all there before it begins: only data is synced, as in a preallocated segment.
const PAGES: u64 = 64;

/// Most samples: a day of them.
const SAMPLES_MAX: usize = 2_000_000;

/// Syncs on a thread of its own until it is stopped.
#[derive(Debug)]
pub struct SyncProbe {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<f64>>>,
}

impl SyncProbe {
    /// Begins in this directory.
    ///
    /// # Errors
    /// When its file cannot be made there.
    pub fn start(directory: &Path) -> Result<Self, Anything> {
        let file = File::create(directory.join("sync-probe"))?;
        for page in 0..PAGES {
            file.write_all_at(&PAGE, page * PAGE.len() as u64)?;
        }
        file.sync_all()?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = std::thread::spawn(move || probe(&file, &stop));
        Ok(Self { ended, thread })
    }

    /// Ends, and gives how long syncs took, in milliseconds.
    ///
    /// # Errors
    /// When a sync failed, or there was no time for one.
    pub fn stop(self) -> Result<Spread, Anything> {
        self.ended.store(true, Ordering::Relaxed);
        let samples = self
            .thread
            .join()
            .map_err(|_| "the probe of the disk panicked")??;
        Spread::of(samples).ok_or_else(|| "nothing was synced".into())
    }
}

fn probe(file: &File, stop: &AtomicBool) -> std::io::Result<Vec<f64>> {
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) && samples.len() < SAMPLES_MAX {
        let page = samples.len() as u64 % PAGES;
        file.write_all_at(&PAGE, page * PAGE.len() as u64)?;
        let begun = Instant::now();
        file.sync_data()?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(EVERY);
    }
    Ok(samples)
}
