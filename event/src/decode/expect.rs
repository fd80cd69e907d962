//! What the decoder expects of the next line, and whether it is worth trying.
//!
//! The [`Pass`] is tried on every line, while it mostly succeeds. Where it fails again and again, since every line is
//! different, it is only tried now and then: an attempt costs part of what the scanner takes.

use super::columns::Columns;
use super::pass::{Kept, Pass, Unknown};
use super::plan::Plan;
use super::quick::Day;
use super::scan::Keys;
use super::shape::Shape;

/// Attempts that may fail in a row before some are left out.
const MISSES_FREE: u32 = 4;
/// Lines that are left out at most, as a power of two.
const LEFT_OUT_MAX: u32 = 6;

#[derive(Debug)]
pub(super) struct Expectation {
    shape: Shape,
    day: Day,
    kept: Vec<Kept>,
    /// Attempts that failed since the last one that did not.
    misses: u32,
    /// Lines for which no attempt is made.
    left_out: u32,
    /// Whether the last line was in another shape, so that it is worth learning.
    unfamiliar: bool,
}

/// What the pass made of a line.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    /// Bytes of the line up to and with its closing brace.
    pub(super) length: usize,
    /// Undeclared members that were left out.
    pub(super) ignored: u64,
    /// The members that go to `_extra`.
    pub(super) kept: &'a [Kept],
}

impl Expectation {
    pub(super) fn new() -> Self {
        Self {
            shape: Shape::new(),
            day: Day::default(),
            kept: Vec::new(),
            misses: 0,
            left_out: 0,
            unfamiliar: false,
        }
    }

    /// Reads the line with which `text` begins into `columns`. `None` when it is not as expected: then values may have
    /// been set, and the row must be taken back.
    #[inline]
    pub(super) fn pass(&mut self, text: &[u8], columns: &mut Columns, keys: &mut Keys) -> Option<Passed<'_>> {
        if self.left_out > 0 {
            self.left_out -= 1;
            return None;
        }
        self.kept.clear();
        let mut pass = Pass {
            bytes: text,
            shape: &self.shape,
            columns,
            keys,
            day: &mut self.day,
            kept: &mut self.kept,
            ignored: 0,
            unfamiliar: false,
            end: None,
        };
        let read = pass.line();
        let ignored = pass.ignored;
        self.unfamiliar = pass.unfamiliar || read == Err(Unknown::Shape);
        let Ok(length) = read else {
            self.miss();
            return None;
        };
        self.misses = 0;
        Some(Passed {
            length,
            ignored,
            kept: &self.kept,
        })
    }

    #[cold]
    fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if let Some(misses) = self.misses.checked_sub(MISSES_FREE) {
            self.left_out = 1 << misses.min(LEFT_OUT_MAX);
        }
    }

    /// Learns from a line that was accepted, if it was in another shape.
    #[inline]
    pub(super) fn accepted(&mut self, line: &[u8], plan: &Plan, keys: &mut Keys) {
        if self.unfamiliar {
            self.unfamiliar = false;
            self.shape.learn(line, plan, keys);
        }
    }
}
