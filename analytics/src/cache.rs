//! What is made of files and kept in memory for the next question that needs it, bounded by its bytes.
//!
//! Files never change, so what is made of them holds for ever. When there is no room, what nobody asked for in a while
//! goes; what finds no room then is not kept. If each made room for the next one, nothing would ever be found again by
//! whoever goes through more files than there is room for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What nobody asked for in this time makes room for what somebody asks for.
const UNUSED_TIME: Duration = Duration::from_secs(60);

/// Values by name, of so many bytes at most. A value is cheap to clone.
pub(crate) struct Cache<K, V> {
    bytes_max: usize,
    held: Mutex<Held<K, V>>,
}

struct Held<K, V> {
    by_name: HashMap<K, Entry<V>>,
    bytes: usize,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: Instant,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let held = Held {
            by_name: HashMap::new(),
            bytes: 0,
        };
        Self {
            bytes_max,
            held: Mutex::new(held),
        }
    }

    /// What is kept under a name, which is in use from now on.
    pub(crate) fn get<N: Eq + Hash + ?Sized>(&self, name: &N) -> Option<V>
    where
        K: Borrow<N>,
    {
        let mut held = self.held();
        let entry = held.by_name.get_mut(name)?;
        entry.used = Instant::now();
        Some(entry.value.clone())
    }

    /// Keeps a value of so many bytes if there is room, in place of another one of that name.
    pub(crate) fn keep(&self, name: K, value: V, bytes: usize) {
        let mut held = self.held();
        if !held.make_room(self.bytes_max, bytes) {
            return;
        }
        let entry = Entry {
            value,
            bytes,
            used: Instant::now(),
        };
        held.bytes += bytes;
        if let Some(replaced) = held.by_name.insert(name, entry) {
            held.bytes -= replaced.bytes;
        }
    }

    /// Whether there is room for so many bytes more, when what nobody asks for has gone.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.held().make_room(self.bytes_max, bytes)
    }

    fn held(&self) -> MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Held<K, V> {
    fn make_room(&mut self, bytes_max: usize, bytes: usize) -> bool {
        if self.bytes.saturating_add(bytes) > bytes_max {
            self.by_name.retain(|_, entry| entry.used.elapsed() < UNUSED_TIME);
            self.bytes = self.by_name.values().map(|entry| entry.bytes).sum();
        }
        self.bytes.saturating_add(bytes) <= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn what_finds_no_room_is_not_kept_and_what_is_in_use_stays() {
        let kept = Cache::new(100);
        kept.keep("a", 1, 60);
        kept.keep("b", 2, 50);
        assert_eq!((kept.get("a"), kept.get("b")), (Some(1), None));
        assert!(kept.has_room(40) && !kept.has_room(41));
        kept.keep("a", 3, 30);
        kept.keep("c", 4, 70);
        assert_eq!((kept.get("a"), kept.get("c")), (Some(3), Some(4)));
    }
}
