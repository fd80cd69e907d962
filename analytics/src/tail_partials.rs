//! Partial aggregates of a tail: of runs of its records, made when they are first asked for.
//!
//! A record never changes and of a unique stream neither does which of its rows count, so what was computed holds
//! until the lake has the record. A run is as many records as have [`BLOCK_ROWS`] rows together; what follows the
//! last whole run is computed for each question. After a commit runs begin elsewhere, and are made anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use event::{Offset, Partition, StreamName};

use crate::partial::Partial;
use crate::pin::TailRange;

/// Rows of a run, at least.
pub(crate) const BLOCK_ROWS: u64 = if cfg!(test) { 12 } else { 8_192 };
/// Most runs that are kept, of all streams together: 16 MiB of sketches.
const BLOCKS_MAX: usize = 4_096;

/// A run of records of one partition.
pub(crate) struct TailBlock {
    /// The offset after the last one.
    pub(crate) to: Offset,
    pub(crate) partial: Partial,
}

type Runs = BTreeMap<u64, Arc<TailBlock>>;

/// Keeps them; one for the process.
#[derive(Default)]
pub(crate) struct TailPartials {
    kept: Mutex<HashMap<(StreamName, Partition), Runs>>,
}

impl TailPartials {
    /// The run that begins at the range's first record, and ends within the range.
    pub(crate) fn get(&self, stream: &StreamName, range: TailRange) -> Option<Arc<TailBlock>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = kept.get(&(stream.clone(), range.partition))?;
        let block = runs.get(&range.from.0)?;
        (block.to <= range.to).then(|| Arc::clone(block))
    }

    /// Keeps a run that begins at that offset, while there is room.
    pub(crate) fn put(&self, stream: &StreamName, partition: Partition, from: Offset, block: TailBlock) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values().map(BTreeMap::len).sum::<usize>() < BLOCKS_MAX {
            let runs = kept.entry((stream.clone(), partition)).or_default();
            runs.insert(from.0, Arc::new(block));
        }
    }

    /// Lets go of what the lake has.
    pub(crate) fn forget(&self, stream: &StreamName, partition: Partition, stored: Offset) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runs) = kept.get_mut(&(stream.clone(), partition)) {
            *runs = runs.split_off(&stored.0);
        }
    }
}
