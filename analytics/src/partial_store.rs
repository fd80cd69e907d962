//! Partial aggregates of files, in memory and on disk.
//!
//! A file never changes and its name is never used again, so what was computed once holds. What cannot be read
//! back is computed again; losing all of it costs time only, so nothing here is fsynced. What belongs to files that
//! compaction or retention removed goes at every so many additions.

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
/// Rises when the content's meaning changes.
const FORMAT: u64 = 1;

#[derive(Default)]
struct Kept {
    by_file: HashMap<String, Arc<Partial>>,
    order: VecDeque<String>,
}

/// Keeps partials.
pub(crate) struct PartialStore {
    directory: PathBuf,
    kept: Mutex<Kept>,
    added: AtomicUsize,
}

impl PartialStore {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            kept: Mutex::default(),
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

    /// Keeps a partial.
    pub(crate) fn put(&self, stream: &StreamDeclaration, file: &str, partial: Partial) -> Arc<Partial> {
        let (name, partial) = (name(stream, file), Arc::new(partial));
        let text = to_json(&partial).to_string();
        if let Err(error) = std::fs::write(self.directory.join(&name), text) {
            tracing::warn!(%error, file = name, "partial aggregate not kept");
        }
        self.keep(name, &partial);
        self.added.fetch_add(1, Ordering::Relaxed);
        partial
    }

    /// Removes the partials of a stream's files that are not among `files`, now and then.
    pub(crate) fn sweep<'a>(&self, stream: &StreamDeclaration, files: impl Iterator<Item = &'a str>) {
        if self.added.load(Ordering::Relaxed) < SWEEP_EVERY {
            return;
        }
        self.added.store(0, Ordering::Relaxed);
        let wanted: HashSet<String> = files.map(|file| name(stream, file)).collect();
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
        if kept.by_file.insert(name.clone(), Arc::clone(partial)).is_none() {
            kept.order.push_back(name);
        }
        if kept.order.len() > KEPT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_file.remove(&oldest);
        }
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
