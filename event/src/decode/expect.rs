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

    /// Whether the line with which `text` begins should be tried, which counts it.
    #[inline]
    pub(super) fn is_due(&mut self, text: &[u8]) -> bool {
        if text.first() != Some(&b'{') {
            // A blank line for instance, which says nothing about the next one.
            return false;
        }
        let due = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        due
    }

    /// Reads the line with which `text` begins, an opening brace, into `columns`. `None` when it is not as expected: then
    /// values may have been set, and the row must be taken back.
    #[inline]
    pub(super) fn pass(&mut self, text: &[u8], columns: &mut Columns, keys: &mut Keys) -> Option<Passed<'_>> {
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
            scanned_to: 0,
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
            // After so many lines for which no attempt was made a lesson costs little.
            let time = self.misses > MISSES_FREE + LEFT_OUT_MAX;
            self.shape.learn(line, plan, keys, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::line::LineDecoder;

    /// Lines of so many members, no two with the same keys.
    fn strange(members: usize, value: &str) -> Vec<String> {
        let line = |number: usize| {
            let key = |at: usize| format!("\"k{}\":{value}", number * members + at);
            (0..members).map(key).collect::<Vec<_>>().join(",")
        };
        (0..300).map(|number| format!("{{{}}}", line(number))).collect()
    }

    /// Reads a line, and tells whether it was as expected.
    fn passes(decoder: &mut LineDecoder, line: &str) -> bool {
        let text = format!("{line}\n");
        let passed = decoder.next(text.as_bytes(), text.len()).is_some();
        if !passed {
            // Some of the strange ones are rejected.
            let _ = decoder.judge(line.as_bytes(), true);
        }
        passed
    }

    #[test]
    fn usual_lines_are_expected_again_soon_after_strange_ones() {
        let declared = "[s]\nunknown_fields = \"ignore\"\n[s.fields]\nn = \"int\"\npage = { type = \"string\", optional = true, from = \"m.page\" }\ndoc = { type = \"json\", optional = true }";
        let streams = crate::stream::parse_streams(&declared.parse().expect("TOML")).expect("right");
        let usual = "{\"n\":1,\"m\":{\"page\":\"x\",\"a\":{\"b\":[{\"c\":1}]}},\"doc\":{\"d\":{\"e\":1}}}";
        let nested = |lines: Vec<String>| {
            let inside = lines.iter().map(|line| format!("{{\"n\":1,\"doc\":{line}}}"));
            inside.collect::<Vec<_>>()
        };
        let accepted = |lines: Vec<String>| {
            let lines = lines.iter().map(|line| line.replacen('{', "{\"n\":1,", 1));
            lines.collect::<Vec<_>>()
        };
        for (name, strange) in [
            ("rejects", strange(70, "1")),
            ("keys", accepted(strange(70, "1"))),
            ("objects", accepted(strange(60, "{\"a\":{}}"))),
            ("keys inside", nested(strange(70, "1"))),
            ("objects inside", nested(strange(60, "{\"a\":{},\"b\":[{}]}"))),
        ] {
            let mut decoder = LineDecoder::new(&streams[0]);
            for line in &strange {
                passes(&mut decoder, line);
            }
            // Attempts are left out for up to 64 lines. The first lesson may fill the shape, the second begins anew.
            let missed = (0..1_000).filter(|_| !passes(&mut decoder, usual)).count();
            assert!(missed <= 300, "{missed} of 1,000 usual lines missed after {name}");
        }
    }
}
