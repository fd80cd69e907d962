//! The newest events of one partition, shared by everybody who watches them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use event::Offset;

use super::block::Block;
use super::place::Place;

/// What a ring has for a place.
#[derive(Debug)]
pub(super) enum Look {
    /// Its block.
    Block(Arc<Block>),
    /// Nothing yet.
    Nothing,
    /// It begins behind the place, with this record.
    Behind(Offset),
}

/// Blocks without a gap, up to what may be shown.
#[derive(Debug)]
pub(super) struct Ring(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    blocks: VecDeque<Arc<Block>>,
    next: Offset,
    bytes: usize,
}

impl Ring {
    /// An empty ring whose next record is this one.
    pub(super) fn new(next: Offset) -> Self {
        Self(Mutex::new(Kept {
            blocks: VecDeque::new(),
            next,
            bytes: 0,
        }))
    }

    /// The offset of the record that comes next.
    pub(super) fn next(&self) -> Offset {
        self.kept().next
    }

    pub(super) fn look(&self, place: Place) -> Look {
        let kept = self.kept();
        if place.offset >= kept.next {
            return Look::Nothing;
        }
        let first = kept.blocks.front().map_or(kept.next, |block| block.from);
        if place.offset < first {
            return Look::Behind(first);
        }
        let at = kept.blocks.partition_point(|block| block.to <= place.offset);
        kept.blocks
            .get(at)
            .map_or(Look::Nothing, |block| Look::Block(Arc::clone(block)))
    }

    /// Adds blocks, and lets the oldest ones go beyond so many bytes; the newest one stays whatever it takes.
    pub(super) fn push(&self, blocks: Vec<Arc<Block>>, bytes_max: usize) {
        let mut kept = self.kept();
        for block in blocks {
            kept.next = block.to;
            kept.bytes += block.bytes;
            kept.blocks.push_back(block);
        }
        kept.trim(bytes_max);
    }

    pub(super) fn trim(&self, bytes_max: usize) {
        self.kept().trim(bytes_max);
    }

    /// Begins anew with this record: what lies before is not there any more.
    pub(super) fn jump(&self, next: Offset) {
        *self.kept() = Kept {
            blocks: VecDeque::new(),
            next,
            bytes: 0,
        };
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn trim(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.blocks.len() > 1 {
            let gone = self.blocks.pop_front();
            self.bytes -= gone.map_or(0, |block| block.bytes);
        }
    }
}
