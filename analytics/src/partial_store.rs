//! Partial aggregates of files, in memory and on disk.
//!
//! A file never changes and its name is never used again, so what was computed once holds. What cannot be read
//! back is computed again; losing all of it costs time only, so nothing here is fsynced. What belongs to files that
//! compaction or retention removed goes at every so many additions.
//!
//! Of each file there are two: the partial of the whole, and those of its blocks, runs of [`BLOCK_ROWS`] rows. A
//! question without a range wants the former alone, so it costs the same however many blocks there are; one with a
//! range reads rows of the blocks at its edges only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use event::StreamDeclaration;
use serde_json::{Value, json};

use crate::partial::{Numbers, Partial};
use crate::sketch::{Sketch, StableHasher};

/// Partials in memory: some 4 KiB each with their sketch.
const KEPT_MAX: usize = 16_384;
/// Additions of a process after which those of files that are gone are looked for.
const SWEEP_EVERY: usize = 256;
/// Partials of blocks in memory, of all files together: those of a thousand million rows.
const BLOCKS_MAX: usize = 16_384;
/// Rises when the content's meaning changes.
const FORMAT: u64 = 2;
/// Rows of a block, of which the last one of a file has fewer: some milliseconds to read, and a sketch for each of
/// them takes a sixteenth of a byte a row.
pub(crate) const BLOCK_ROWS: u64 = if cfg!(test) { 24 } else { 65_536 };

/// What is known of files, the oldest entry first in `order`.
struct Kept<T> {
    by_file: HashMap<String, Arc<T>>,
    order: VecDeque<String>,
    /// Partials in them.
    partials: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            by_file: HashMap::new(),
            order: VecDeque::new(),
            partials: 0,
        }
    }
}

impl<T> Kept<T> {
    fn insert(
        &mut self,
        name: String,
        entry: &Arc<T>,
        partials_of: impl Fn(&T) -> usize,
        partials_max: usize,
    ) {
        if let Some(replaced) = self.by_file.insert(name.clone(), Arc::clone(entry)) {
            self.partials -= partials_of(&replaced);
        } else {
            self.order.push_back(name);
        }
        self.partials += partials_of(entry);
        while self.partials > partials_max
            && let Some(oldest) = self.order.pop_front()
        {
            let removed = self.by_file.remove(&oldest);
            self.partials -= removed.map_or(0, |removed| partials_of(&removed));
        }
    }
}

/// The partials of a file's blocks, in order.
pub(crate) type Blocks = Vec<Partial>;

/// Keeps partials.
pub(crate) struct PartialStore {
    directory: PathBuf,
    kept: Mutex<Kept<Partial>>,
    blocks: Mutex<Kept<Blocks>>,
    added: AtomicUsize,
}

impl PartialStore {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            kept: Mutex::default(),
            blocks: Mutex::default(),
            added: AtomicUsize::new(0),
        }
    }

    /// The partial of a file, if it was computed.
    pub(crate) fn get(&self, stream: &StreamDeclaration, file: &str) -> Option<Arc<Partial>> {
        let name = name(stream, file);
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(partial) = kept.by_file.get(&name) {
                return Some(Arc::clone(partial));
            }
        }
        let text = std::fs::read(self.directory.join(&name)).ok()?;
        let partial = Arc::new(from_json(stream, &serde_json::from_slice(&text).ok()?)?);
        self.keep(name, &partial);
        Some(partial)
    }

    /// The partials of a file's blocks, if they were computed.
    pub(crate) fn blocks(&self, stream: &StreamDeclaration, file: &str) -> Option<Arc<Blocks>> {
        let name = blocks_name(&name(stream, file));
        {
            let kept = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(blocks) = kept.by_file.get(&name) {
                return Some(Arc::clone(blocks));
            }
        }
        let text = std::fs::read(self.directory.join(&name)).ok()?;
        let Value::Array(stored) = serde_json::from_slice(&text).ok()? else {
            return None;
        };
        let blocks: Option<Blocks> = stored.iter().map(|stored| from_json(stream, stored)).collect();
        let blocks = Arc::new(blocks?);
        self.keep_blocks(name, &blocks);
        Some(blocks)
    }

    /// Keeps the partials of a file's blocks, and of the whole.
    pub(crate) fn put(
        &self,
        stream: &StreamDeclaration,
        file: &str,
        blocks: Blocks,
    ) -> (Arc<Partial>, Arc<Blocks>) {
        let mut whole = Partial::new(stream, false);
        blocks.iter().for_each(|block| whole.merge(block));
        let (name, whole, blocks) = (name(stream, file), Arc::new(whole), Arc::new(blocks));
        let of_blocks = blocks_name(&name);
        self.write(&name, &to_json(&whole));
        self.write(&of_blocks, &Value::Array(blocks.iter().map(to_json).collect()));
        self.keep(name, &whole);
        self.keep_blocks(of_blocks, &blocks);
        self.added.fetch_add(1, Ordering::Relaxed);
        (whole, blocks)
    }

    fn write(&self, name: &str, content: &Value) {
        if let Err(error) = std::fs::write(self.directory.join(name), content.to_string()) {
            tracing::warn!(%error, file = name, "partial aggregate not kept");
        }
    }

    /// Removes the partials of a stream's files that are not among `files`, now and then.
    pub(crate) fn sweep<'a>(&self, stream: &StreamDeclaration, files: impl Iterator<Item = &'a str>) {
        if self.added.load(Ordering::Relaxed) < SWEEP_EVERY {
            return;
        }
        self.added.store(0, Ordering::Relaxed);
        let names = files.map(|file| name(stream, file));
        let wanted: HashSet<String> = names.flat_map(|name| [blocks_name(&name), name]).collect();
        let own = format!("{}.", stream.name.as_str());
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if found.starts_with(&own) && !wanted.contains(&found) {
                // Another process may have removed it.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn keep(&self, name: String, partial: &Arc<Partial>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name, partial, |_| 1, KEPT_MAX);
    }

    fn keep_blocks(&self, name: String, blocks: &Arc<Blocks>) {
        let mut kept = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name, blocks, Vec::len, BLOCKS_MAX);
    }
}

/// Names the stream, the declaration (another one has other fields) and the file.
fn name(stream: &StreamDeclaration, file: &str) -> String {
    use std::hash::Hasher;
    let mut hasher = StableHasher::new();
    hasher.write(file.as_bytes());
    let plain: String = file
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(100)
        .collect();
    let hash = hasher.finish();
    format!(
        "{}.{}.{plain}.{hash:016x}.json",
        stream.name.as_str(),
        stream.version
    )
}

fn blocks_name(name: &str) -> String {
    format!("{}.blocks.json", name.strip_suffix(".json").unwrap_or(name))
}

fn to_json(partial: &Partial) -> Value {
    let numbers: Vec<Value> = partial
        .numbers
        .iter()
        .map(|(name, numbers)| match numbers {
            Numbers::Ints { count, min, max, sum } => json!([name, "int", count, min, max, sum.to_string()]),
            // As bits: infinities of an empty field have no JSON, and no digit may be lost.
            Numbers::Floats { count, min, max, sum } => {
                json!([name, "float", count, min.to_bits(), max.to_bits(), sum.to_bits()])
            }
        })
        .collect();
    let mut body = json!({"format": FORMAT, "count": partial.count, "first": partial.first,
        "last": partial.last, "numbers": numbers, "keys": partial.keys.to_hex()});
    body["check"] = json!(check(&body));
    body
}

/// A write that a crash cut short may leave anything; this tells.
fn check(body: &Value) -> u64 {
    use std::hash::Hasher;
    let mut hasher = StableHasher::new();
    hasher.write(body.to_string().as_bytes());
    hasher.finish()
}

fn from_json(stream: &StreamDeclaration, value: &Value) -> Option<Partial> {
    let mut body = value.clone();
    let expected = body.as_object_mut()?.remove("check")?.as_u64()?;
    if check(&body) != expected || body["format"].as_u64()? != FORMAT {
        return None;
    }
    let mut partial = Partial::new(stream, false);
    partial.count = body["count"].as_u64()?;
    partial.first = body["first"].as_i64();
    partial.last = body["last"].as_i64();
    partial.keys = Sketch::from_hex(body["keys"].as_str()?)?;
    let stored = body["numbers"].as_array()?;
    if stored.len() != partial.numbers.len() {
        return None;
    }
    for ((name, numbers), stored) in partial.numbers.iter_mut().zip(stored) {
        if stored[0].as_str()? != name {
            return None;
        }
        let of_bits = |at: usize| stored[at].as_u64().map(f64::from_bits);
        *numbers = match (stored[1].as_str()?, &numbers) {
            ("int", Numbers::Ints { .. }) => Numbers::Ints {
                count: stored[2].as_u64()?,
                min: stored[3].as_i64()?,
                max: stored[4].as_i64()?,
                sum: stored[5].as_str()?.parse().ok()?,
            },
            ("float", Numbers::Floats { .. }) => Numbers::Floats {
                count: stored[2].as_u64()?,
                min: of_bits(3)?,
                max: of_bits(4)?,
                sum: of_bits(5)?,
            },
            _ => return None,
        };
    }
    Some(partial)
}
