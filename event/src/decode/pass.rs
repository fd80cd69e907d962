//! One pass over a line that is in the expected shape: keys are compared, not looked up, and values go straight into
//! their columns.
//!
//! The pass accepts or it does not know. What it accepts, the scanner accepts as well, with the same row: keys are in
//! the order of the [`Shape`], so that none stands twice; nothing but one space after a colon or a comma is between
//! tokens; values are read by [`super::quick`] or by what the scanner itself uses. For anything else it gives up, the
//! row is taken back, and the line is judged by [`super::line`], which also has the words for what is wrong.
//!
//! It does not need to know where the line ends: it stops after the closing brace, and its caller looks at what follows.
//! Every step takes where it begins and gives where it ends: a place in a register, which no step has to load or store.
//! Where the general code is asked for one value, it gets the bytes of this line only, since it passes over newlines.

use std::ops::Range;

use memchr::memchr;

use super::columns::Columns;
use super::plan::Leaf;
use super::quick::{self, Day};
use super::scan::{Keys, Scanner};
use super::shape::{Expected, Purpose, Shape};
use super::value::{self, keep_text};
use crate::limits::JSON_DEPTH_MAX;

/// Why the pass gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Other keys, or in another order: worth learning.
    Shape,
    /// Something in a form that only the scanner knows, or wrong.
    Value,
}

/// The pass over one line.
pub(super) struct Pass<'a> {
    /// From the line's first byte on, perhaps with further lines behind it.
    pub(super) bytes: &'a [u8],
    pub(super) shape: &'a Shape,
    pub(super) columns: &'a mut Columns,
    pub(super) keys: &'a mut Keys,
    pub(super) day: &'a mut Day,
    /// The members that go to `_extra`.
    pub(super) kept: &'a mut Vec<Kept>,
    /// Undeclared members that were left out.
    pub(super) ignored: u64,
    /// Whether an object inside was in another shape and was scanned.
    pub(super) unfamiliar: bool,
    /// How far values were left to the scanner.
    pub(super) scanned_to: usize,
    /// Where the line ends, once somebody had to know.
    pub(super) end: Option<usize>,
}

/// A member of the line that goes to `_extra`: where its key stands, with the quotes, and its value.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Where a step ends.
type End = Result<usize, Unknown>;

impl<'a> Pass<'a> {
    /// Reads the line, which begins with a brace, up to its closing one.
    #[inline]
    pub(super) fn line(&mut self) -> End {
        if self.shape.objects[0].wild {
            return Err(Unknown::Value);
        }
        self.object(0, 0, 0)
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Steps over the one space that some programs write after a colon and a comma.
    #[inline]
    fn space(&self, at: usize) -> usize {
        at + usize::from(self.byte(at) == Some(b' '))
    }

    /// Reads an object, whose opening brace stands at `at`.
    fn object(&mut self, object: usize, depth: usize, at: usize) -> End {
        if depth >= JSON_DEPTH_MAX {
            return Err(Unknown::Value);
        }
        let mut at = at + 1;
        if self.byte(at) == Some(b'}') {
            return Ok(at + 1);
        }
        let shape = self.shape;
        let mut members = shape.objects[object].members.iter();
        loop {
            let rest = self.bytes.get(at..).ok_or(Unknown::Value)?;
            let member = members
                .find(|member| member.key.begins(rest))
                .ok_or(Unknown::Shape)?;
            at = self.member(member, at, depth + 1)?;
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') => return Ok(at + 1),
                _ => return Err(Unknown::Value),
            }
        }
    }

    /// Reads a member, whose key begins at `key`.
    #[inline]
    fn member(&mut self, member: &Expected, key: usize, depth: usize) -> End {
        let from = self.space(key + member.key.len());
        match &member.purpose {
            Purpose::Field(leaf) => {
                let column = self.columns.column(leaf.column);
                let rest = self.bytes.get(from..).ok_or(Unknown::Value)?;
                match quick::read(&leaf.kind, rest, column, self.day) {
                    Some(length) => Ok(from + length),
                    None => self.field(leaf, from),
                }
            }
            Purpose::Texts(_) if self.byte(from) == Some(b'n') => self.literal(b"null", from),
            Purpose::Texts(columns) => {
                let to = self.texts(member, depth, from)?;
                for column in columns {
                    keep_text(&self.bytes[from..to], self.columns.column(*column));
                }
                self.keep(member, key, from..to);
                Ok(to)
            }
            Purpose::Ignored => {
                self.ignored += 1;
                self.any(member.inside, depth, from)
            }
            Purpose::Checked => {
                let to = self.any(member.inside, depth, from)?;
                self.keep(member, key, from..to);
                Ok(to)
            }
        }
    }

    #[inline]
    fn keep(&mut self, member: &Expected, key: usize, value: Range<usize>) {
        if member.kept {
            let key = key..key + member.key.len() - 1;
            self.kept.push(Kept { key, value });
        }
    }

    /// Reads a field's value in a less common form.
    #[cold]
    #[inline(never)]
    fn field(&mut self, leaf: &Leaf, at: usize) -> End {
        if self.byte(at) == Some(b'n') {
            return self.literal(b"null", at);
        }
        // What the attempt has appended is no part of the row.
        self.columns.column(leaf.column).take_back_value();
        let mut scanner = self.scanner(at);
        let column = self.columns.column(leaf.column);
        value::read(&leaf.kind, &mut scanner, column).map_err(|_| Unknown::Value)?;
        Ok(scanner.at)
    }

    /// Reads the value of `json` fields, or an object that fields come from.
    fn texts(&mut self, member: &Expected, depth: usize, at: usize) -> End {
        if !member.has_fields {
            return self.any(member.inside, depth, at);
        }
        // Values of another kind have no columns here.
        if self.byte(at) != Some(b'{') {
            return Err(Unknown::Value);
        }
        // Nobody may have seen the object yet: it was null until now, or there is no room for it.
        let inside = member.inside.ok_or(Unknown::Shape)?;
        if self.shape.objects[inside].wild {
            return Err(Unknown::Value);
        }
        self.object(inside, depth, at)
    }

    /// Steps over any value, which must be JSON.
    #[inline]
    fn any(&mut self, inside: Option<usize>, depth: usize, at: usize) -> End {
        let rest = self.bytes.get(at..).ok_or(Unknown::Value)?;
        match rest.first() {
            Some(b'"') => match quick::string_length(rest) {
                Some(length) => Ok(at + length),
                None => self.string(at),
            },
            Some(b'-' | b'0'..=b'9') => match quick::int_length(rest) {
                Some(length) => Ok(at + length),
                None => self.number(at),
            },
            Some(b'{') => self.any_object(inside, depth, at),
            Some(b'[') => self.array(inside, depth, at),
            Some(b'n') => self.literal(b"null", at),
            Some(b't') => self.literal(b"true", at),
            Some(b'f') => self.literal(b"false", at),
            _ => Err(Unknown::Value),
        }
    }

    fn any_object(&mut self, inside: Option<usize>, depth: usize, at: usize) -> End {
        let expected = inside.filter(|inside| !self.shape.objects[*inside].wild);
        let Some(expected) = expected else {
            return self.scanned(depth, at);
        };
        match self.object(expected, depth, at) {
            // Bytes that were scanned for an object in it are not scanned again for this one, and perhaps again for
            // those around it: the line is judged as a whole.
            Err(_) if at >= self.scanned_to && !self.shape.objects[expected].has_fields => {
                self.unfamiliar = true;
                self.scanned(depth, at)
            }
            read => read,
        }
    }

    fn array(&mut self, inside: Option<usize>, depth: usize, at: usize) -> End {
        if depth >= JSON_DEPTH_MAX {
            return Err(Unknown::Value);
        }
        let mut at = at + 1;
        if self.byte(at) == Some(b']') {
            return Ok(at + 1);
        }
        let inside = inside.filter(|inside| !self.shape.objects[*inside].has_fields);
        loop {
            at = self.any(inside, depth + 1, at)?;
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(Unknown::Value),
            }
        }
    }

    #[inline]
    fn literal(&self, word: &[u8], at: usize) -> End {
        let rest = self.bytes.get(at..).ok_or(Unknown::Value)?;
        if rest.starts_with(word) {
            Ok(at + word.len())
        } else {
            Err(Unknown::Value)
        }
    }

    /// Has the scanner step over a string, which never goes past its line.
    #[cold]
    #[inline(never)]
    fn string(&self, at: usize) -> End {
        let mut scanner = Scanner::at(self.bytes, at);
        scanner.string().map_err(|_| Unknown::Value)?;
        Ok(scanner.at)
    }

    /// Has the scanner step over a number, which passes over no white space.
    #[cold]
    #[inline(never)]
    fn number(&self, at: usize) -> End {
        let mut scanner = Scanner::at(self.bytes, at);
        scanner.number().map_err(|_| Unknown::Value)?;
        Ok(scanner.at)
    }

    /// Has the scanner step over any value.
    #[cold]
    #[inline(never)]
    fn scanned(&mut self, depth: usize, at: usize) -> End {
        let mut scanner = self.scanner(at);
        let scanned = scanner.value(depth, self.keys);
        self.scanned_to = scanner.at;
        scanned.map_err(|_| Unknown::Value)?;
        Ok(scanner.at)
    }

    /// A scanner that stands at `at`, and sees this line only.
    fn scanner(&mut self, at: usize) -> Scanner<'a> {
        let bytes = self.bytes;
        let end = *self
            .end
            .get_or_insert_with(|| memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end));
        Scanner::at(&bytes[..end], at)
    }
}
