//! The shape that the next line is expected to have, learned from the lines before it.
//!
//! For every object the keys that it had, in the order in which they came. A line whose keys come in that order, with
//! any of them left out, is in the expected shape; since no key of an object stands in its list twice and the pass only
//! goes forwards, such a line has no duplicate key either, which nobody has to look for. What is inside of a `json`
//! value is learned as well, so that it is checked as fast as declared fields.
//!
//! Nothing depends on what was learned but the speed: a line in another shape is judged by the scanner
//! ([`super::line`]), which also knows why a line is refused. So a shape may be wrong, old or full.

use super::block::{BLOCK_BYTES, Block, Places};
use super::plan::{Leaf, Member, Node, Plan};
use super::scan::{Keys, Scanner, SyntaxError};
use crate::UnknownFields;

/// Undeclared keys that are learned of one object. With more it is learned anew: some lines may have been strange.
const UNDECLARED_KEYS_MAX: usize = 64;
/// An object that was learned anew so often has keys that are data, and is left to the scanner.
const ANEW_MAX: u32 = 4;
/// Bytes of a key that is learned. What a shape keeps of lines is bounded by this and by the numbers here.
const KEY_BYTES_MAX: usize = 256;
/// Objects of a shape. One that is full is learned anew at the next lesson: some lines may have been strange.
const OBJECTS_MAX: usize = 256;
/// Levels of objects that are learned. Deeper ones are scanned.
const LEVELS_MAX: usize = 16;
/// After so many lessons only each so-many-th line in another shape is one.
const LESSONS_FREE: u32 = 64;

/// What lines are expected to look like.
#[derive(Debug)]
pub(super) struct Shape {
    /// The first is the line itself.
    pub(super) objects: Vec<Object>,
    /// Lines in another shape so far.
    unfamiliar: u32,
}

/// One object.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// Its keys in their order.
    pub(super) members: Vec<Expected>,
    /// Whether fields come from inside, so that the scanner cannot step over it for the pass.
    pub(super) has_fields: bool,
    /// Whether the pass leaves it to the scanner.
    pub(super) wild: bool,
    undeclared: usize,
    /// How often it was learned anew.
    anew: u32,
}

/// One key, and what is done with its value.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) key: Literal,
    pub(super) purpose: Purpose,
    /// The object that the value is, or the objects in it.
    pub(super) inside: Option<usize>,
    /// Whether fields come from inside.
    pub(super) has_fields: bool,
    /// Whether the whole member goes to `_extra`.
    pub(super) kept: bool,
}

/// What a value is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A field's column, and nothing else.
    Field(Leaf),
    /// The columns of its own text; fields may come from inside as well.
    Texts(Vec<usize>),
    /// Nobody declared it, and that is counted.
    Ignored,
    /// It must be JSON.
    Checked,
}

/// A key with its quotes and its colon.
#[derive(Debug)]
pub(super) struct Literal {
    head: Block,
    /// The bytes of `head` that belong to it.
    mask: Places,
    text: Box<[u8]>,
}

impl Literal {
    fn new(key: &[u8]) -> Self {
        let text: Box<[u8]> = [b"\"", key, b"\":"].concat().into();
        let mut head = [0; BLOCK_BYTES];
        let short = text.len().min(BLOCK_BYTES);
        head[..short].copy_from_slice(&text[..short]);
        Self {
            head: Block::new(&head),
            mask: (1 << short) - 1,
            text,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The key itself.
    fn key(&self) -> &[u8] {
        &self.text[1..self.text.len() - 2]
    }

    /// Whether `bytes` begin with it.
    #[inline]
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        let Some(head) = bytes.first_chunk() else {
            return bytes.starts_with(&self.text);
        };
        self.head.equal(Block::new(head)) & self.mask == self.mask
            && (self.text.len() <= BLOCK_BYTES || bytes[BLOCK_BYTES..].starts_with(&self.text[BLOCK_BYTES..]))
    }
}

impl Shape {
    pub(super) fn new() -> Self {
        let line = Object {
            has_fields: true,
            ..Object::default()
        };
        Self {
            objects: vec![line],
            unfamiliar: 0,
        }
    }

    /// Learns from a line that was accepted in another shape, if it is `time` for that, or else for every so-many-th
    /// one.
    pub(super) fn learn(&mut self, line: &[u8], plan: &Plan, keys: &mut Keys, time: bool) {
        self.unfamiliar = self.unfamiliar.saturating_add(1);
        if !time && self.unfamiliar > LESSONS_FREE && !self.unfamiliar.is_multiple_of(LESSONS_FREE) {
            return;
        }
        if self.objects.len() >= OBJECTS_MAX {
            self.objects = Self::new().objects;
        }
        let mut lesson = Lesson {
            shape: self,
            scanner: Scanner::new(line),
            keys,
            unknown: plan.unknown,
        };
        // The line was accepted, so that it is JSON; and a lesson that ends early only leaves keys for the next one.
        let learned = lesson
            .scanner
            .peek()
            .and_then(|_| lesson.object(0, Some(&plan.top), 0));
        debug_assert!(learned.is_ok() || line.contains(&b'\\'), "{learned:?}");
        keys.clear();
    }
}

impl Object {
    /// Where a known key is that stands in the line after the first `next` ones; it may have to move there.
    fn place(&mut self, key: &[u8], next: usize) -> Option<usize> {
        let at = self.members.iter().position(|member| member.key.key() == key)?;
        if at >= next {
            return Some(at);
        }
        // It came earlier until now. Those that stood between move towards the front.
        let member = self.members.remove(at);
        self.members.insert(next - 1, member);
        Some(next - 1)
    }

    /// Forgets keys that were too many.
    fn forget(&mut self) {
        self.members.clear();
        self.undeclared = 0;
        self.anew += 1;
        self.wild |= self.anew >= ANEW_MAX && !self.has_fields;
    }
}

struct Lesson<'a> {
    shape: &'a mut Shape,
    scanner: Scanner<'a>,
    keys: &'a mut Keys,
    unknown: UnknownFields,
}

impl Lesson<'_> {
    /// Learns the object at which the scanner stands, which fields come from when there is a `node`.
    fn object(&mut self, object: usize, node: Option<&Node>, level: usize) -> Result<(), SyntaxError> {
        let depth = self.scanner.enter(level)?;
        if self.scanner.peek()? == b'}' {
            self.scanner.at += 1;
            return Ok(());
        }
        let mut next = 0;
        loop {
            let key = self.scanner.string()?;
            self.scanner.expect(b':', "")?;
            let first = self.scanner.peek()?;
            if key.escaped {
                // It may be another writing of a key that is known.
                return self.scanner.error("");
            }
            let name = &self.scanner.bytes[key.from..key.to];
            let member = node.and_then(|node| node.member(name));
            if let Some(at) = self.member(object, name, next, node, depth == 1) {
                next = at + 1;
                self.value(object, at, member, first, depth)?;
            } else {
                // The object may have been forgotten.
                next = next.min(self.shape.objects[object].members.len());
                self.scanner.value(depth, self.keys)?;
            }
            if !self.scanner.more(b'}', "")? {
                return Ok(());
            }
        }
    }

    /// Puts a key of the object to its place; `None` when the object is not learned.
    fn member(
        &mut self,
        object: usize,
        name: &[u8],
        next: usize,
        node: Option<&Node>,
        top: bool,
    ) -> Option<usize> {
        let known = &mut self.shape.objects[object];
        if known.wild || name.len() > KEY_BYTES_MAX {
            return None;
        }
        if let Some(at) = known.place(name, next) {
            return Some(at);
        }
        let declared = node.and_then(|node| node.member(name));
        let closed = node.is_some_and(|node| !node.open);
        if let Some(member) = declared {
            known.wild |= !is_plain(member);
        } else {
            // An accepted line has no key that is refused; if it had, the pass must not let it by.
            known.wild |= closed && self.unknown == UnknownFields::Reject;
            known.undeclared += 1;
            if known.undeclared > UNDECLARED_KEYS_MAX {
                known.forget();
                return None;
            }
        }
        let of_nobody = declared.is_none_or(|member| member.leaves.is_empty());
        known.members.insert(
            next,
            Expected {
                key: Literal::new(name),
                purpose: purpose(declared, closed, self.unknown),
                inside: None,
                has_fields: declared.is_some_and(|member| member.inside.is_some()),
                kept: top && self.unknown == UnknownFields::Keep && of_nobody,
            },
        );
        Some(next)
    }

    /// Learns what is inside of a value.
    fn value(
        &mut self,
        object: usize,
        at: usize,
        member: Option<&Member>,
        first: u8,
        depth: usize,
    ) -> Result<(), SyntaxError> {
        let node = member.and_then(|member| member.inside.as_ref());
        let learned = depth < LEVELS_MAX
            && matches!(first, b'{' | b'[')
            && !self.shape.objects[object].wild
            && !matches!(self.shape.objects[object].members[at].purpose, Purpose::Field(_));
        let Some(inside) = learned.then(|| self.inside(object, at, node)).flatten() else {
            return self.scanner.value(depth, self.keys);
        };
        if first == b'{' {
            return self.object(inside, node, depth);
        }
        self.elements(inside, depth)
    }

    /// The object inside of a member's value.
    fn inside(&mut self, object: usize, at: usize, node: Option<&Node>) -> Option<usize> {
        if let Some(inside) = self.shape.objects[object].members[at].inside {
            return Some(inside);
        }
        if self.shape.objects.len() >= OBJECTS_MAX {
            return None;
        }
        let inside = self.shape.objects.len();
        self.shape.objects.push(Object {
            has_fields: node.is_some(),
            ..Object::default()
        });
        self.shape.objects[object].members[at].inside = Some(inside);
        Some(inside)
    }

    /// Learns the objects of an array, which are expected to be alike.
    fn elements(&mut self, inside: usize, depth: usize) -> Result<(), SyntaxError> {
        let depth = self.scanner.enter(depth)?;
        if self.scanner.peek()? == b']' {
            self.scanner.at += 1;
            return Ok(());
        }
        loop {
            if self.scanner.peek()? == b'{' && !self.shape.objects[inside].has_fields {
                self.object(inside, None, depth)?;
            } else {
                self.scanner.value(depth, self.keys)?;
            }
            if !self.scanner.more(b']', "")? {
                return Ok(());
            }
        }
    }
}

/// Whether the pass knows what to do with a declared key: it is one field of a simple type; or `json` fields, or an
/// object that fields come from, or both.
fn is_plain(member: &Member) -> bool {
    let texts = member.leaves.iter().all(Leaf::is_text);
    texts || (member.leaves.len() == 1 && member.inside.is_none())
}

/// What a key's value is for, in an object that is `closed` when the policy for unknown fields holds in it.
fn purpose(declared: Option<&Member>, closed: bool, unknown: UnknownFields) -> Purpose {
    match declared {
        Some(member) => match member.leaves.as_slice() {
            [leaf] if !leaf.is_text() => Purpose::Field(leaf.clone()),
            leaves => Purpose::Texts(leaves.iter().map(|leaf| leaf.column).collect()),
        },
        None if closed && unknown == UnknownFields::Ignore => Purpose::Ignored,
        None => Purpose::Checked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long and many the keys of lines are, what is kept of them is bounded.
    #[test]
    fn a_shape_is_bounded() {
        let declared =
            "[s]\nunknown_fields = \"ignore\"\n[s.fields]\nn = { type = \"int\", optional = true }";
        let streams = crate::stream::parse_streams(&declared.parse().expect("TOML")).expect("right");
        let plan = Plan::new(&streams[0]);
        let (mut shape, mut keys) = (Shape::new(), Keys::default());
        for line in 0..400 {
            let long = "k".repeat(if line % 2 == 0 { 100_000 } else { KEY_BYTES_MAX - 9 });
            let key = |at: usize| format!("\"{line}_{at}_{long}\":{{\"{line}\":{{\"a\":[{{\"{at}\":1}}]}}}}");
            let text = format!("{{{},\"n\":1}}", (0..3).map(key).collect::<Vec<_>>().join(","));
            shape.learn(text.as_bytes(), &plan, &mut keys, true);
            let members = || shape.objects.iter().flat_map(|object| &object.members);
            assert!(shape.objects.len() <= OBJECTS_MAX, "line {line}");
            assert!(
                members().count() <= OBJECTS_MAX * (UNDECLARED_KEYS_MAX + 1),
                "line {line}"
            );
            assert!(
                members().all(|member| member.key.key().len() <= KEY_BYTES_MAX),
                "line {line}"
            );
        }
    }
}
