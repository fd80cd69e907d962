//! What a client has read from journal or lake for itself alone, for as long as its turn lasts.
//!
//! Few clients have a turn at once, which bounds the memory of all (I-4). A turn ends by itself, whatever the client
//! does: one that takes no byte keeps others waiting for this time and no longer, and has what is left read again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::block::Block;
use super::place::Place;

/// A client's turn. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Turn {
    /// `None` when it is over.
    held: Arc<Mutex<Option<Held>>>,
    _end: JoinSet<()>,
}

#[derive(Debug)]
struct Held {
    blocks: VecDeque<Arc<Block>>,
    #[expect(dead_code, reason = "what counts is that it lives")]
    permit: OwnedSemaphorePermit,
}

impl Turn {
    /// A turn of that length with what was read in it.
    pub(super) fn new(blocks: Vec<Arc<Block>>, permit: OwnedSemaphorePermit, length: Duration) -> Self {
        let held = Arc::new(Mutex::new(Some(Held {
            blocks: blocks.into(),
            permit,
        })));
        let ending = Arc::clone(&held);
        let mut end = JoinSet::new();
        end.spawn(async move {
            sleep(length).await;
            drop(ending.lock().unwrap_or_else(PoisonError::into_inner).take());
        });
        Self { held, _end: end }
    }

    /// The block that the place lies in; those before it go. `None` when nothing is left.
    pub(super) fn block_at(&self, next: Place) -> Option<Arc<Block>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = &mut held.as_mut()?.blocks;
        while blocks.front().is_some_and(|block| block.to <= next.offset) {
            blocks.pop_front();
        }
        blocks.front().map(Arc::clone)
    }
}
