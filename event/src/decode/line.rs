//! One event's text → one row, or the reason why not.

use super::columns::{Columns, Values};
use super::expect::{Expectation, Passed};
use super::plan::{Kind, Member, Node, Plan};
use super::scan::{DUPLICATE_KEY, Keys, Scanner, SyntaxError, Text, unescape};
use super::value::{ValueError, keep_text, read};
use crate::limits::LINE_BYTES_MAX;
use crate::{RejectCode, StreamDeclaration, UnknownFields};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

/// Why a line was not accepted.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: RejectCode,
    pub(super) field: Option<String>,
    pub(super) message: String,
    /// Whether the text is no JSON at all, which makes a whole JSON document none.
    pub(super) not_json: bool,
}

/// Decodes the events of one body.
#[derive(Debug)]
pub(super) struct LineDecoder {
    plan: Plan,
    expectation: Expectation,
    row: Row,
    /// Whether the rows are one record's worth.
    full: bool,
}

/// What the line that is being read has so far.
#[derive(Debug)]
struct Row {
    columns: Columns,
    keys: Keys,
    /// The first field at fault; the rest of the line is still read, since it may be no JSON at all.
    failure: Option<Failure>,
    unknown: UnknownFields,
    extra: Option<usize>,
    /// Whether `_extra` has begun.
    extra_open: bool,
    fields_ignored: u64,
    ignored_here: u64,
}

impl LineDecoder {
    pub(super) fn new(stream: &StreamDeclaration) -> Self {
        Self::of_schema(stream, crate::schema::wire(stream))
    }

    /// A decoder of rows whose columns have the types of `schema`, the stream's wire schema but for what may be null.
    pub(super) fn of_schema(stream: &StreamDeclaration, schema: SchemaRef) -> Self {
        let plan = Plan::new(stream);
        let row = Row {
            columns: Columns::new(schema),
            keys: Keys::default(),
            failure: None,
            unknown: plan.unknown,
            extra: plan.extra,
            extra_open: false,
            fields_ignored: 0,
            ignored_here: 0,
        };
        Self {
            plan,
            expectation: Expectation::new(),
            row,
            full: false,
        }
    }

    /// How many undeclared fields were left out since the last time.
    pub(super) fn take_fields_ignored(&mut self) -> u64 {
        std::mem::take(&mut self.row.fields_ignored)
    }

    /// Whether the batch should be taken before the next line.
    pub(super) fn batch_is_full(&self) -> bool {
        self.full
    }

    pub(super) fn take_batch(&mut self) -> Option<RecordBatch> {
        self.full = false;
        self.row.columns.take_batch()
    }

    /// Reads the line with which `text` begins, if it is as expected and its end is among the `valid` bytes, which are
    /// known to be UTF-8. Gives its bytes with the newline. Otherwise nothing has happened, and [`LineDecoder::judge`]
    /// has to look at it.
    #[inline]
    pub(super) fn next(&mut self, text: &[u8], valid: usize) -> Option<usize> {
        self.pass(text, |length| {
            let newline = match text.get(length..)? {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => return None,
            };
            (length <= valid.min(LINE_BYTES_MAX)).then_some(length + newline)
        })
    }

    /// Reads one event; `utf8` says that its bytes are known to be UTF-8.
    pub(super) fn decode(&mut self, line: &[u8], utf8: bool) -> Result<(), Failure> {
        let usual = line.len() <= LINE_BYTES_MAX && (utf8 || std::str::from_utf8(line).is_ok());
        if usual
            && self
                .pass(line, |length| (length == line.len()).then_some(length))
                .is_some()
        {
            return Ok(());
        }
        self.judge(line, usual)
    }

    /// Reads one event that was not as expected.
    pub(super) fn judge(&mut self, line: &[u8], utf8: bool) -> Result<(), Failure> {
        let read = self.read(line, utf8);
        if read.is_err() {
            self.row.take_back();
        } else {
            self.full = self.row.columns.is_full(line.len());
            self.expectation.accepted(line, &self.plan, &mut self.row.keys);
        }
        read
    }

    /// Tries the pass; `end` gives what the line takes when it may end after so many bytes.
    #[inline]
    fn pass(&mut self, text: &[u8], end: impl FnOnce(usize) -> Option<usize>) -> Option<usize> {
        if !self.expectation.is_due(text) {
            return None;
        }
        let row = &mut self.row;
        let passed = self.expectation.pass(text, &mut row.columns, &mut row.keys);
        let taken = passed
            .and_then(|passed| Some((passed.length, end(passed.length)?, row.end_passed(text, &passed)?)));
        let Some((length, taken, ())) = taken else {
            row.take_back();
            return None;
        };
        self.full = row.columns.is_full(length);
        self.expectation
            .accepted(&text[..length], &self.plan, &mut row.keys);
        Some(taken)
    }

    /// Checks that bytes are one JSON value by the one rule, whatever is in it.
    pub(super) fn check_json(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        check_utf8(bytes)?;
        let mut scanner = Scanner::new(bytes);
        let checked = scanner.value(0, &mut self.row.keys).and_then(|()| scanner.end());
        self.row.keys.clear();
        checked.map_err(Failure::syntax)
    }

    fn read(&mut self, line: &[u8], utf8: bool) -> Result<(), Failure> {
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::line_too_large());
        }
        if !utf8 {
            check_utf8(line)?;
        }
        let row = &mut self.row;
        (row.failure, row.extra_open, row.ignored_here) = (None, false, 0);
        let mut scanner = Scanner::new(line);
        if scanner.peek().map_err(Failure::syntax)? != b'{' {
            scanner
                .value(0, &mut row.keys)
                .and_then(|()| scanner.end())
                .map_err(Failure::syntax)?;
            return Err(Failure::no_object(line));
        }
        let object = row.object(&mut scanner, &mut self.plan.top, 0, &self.plan.names, None);
        object.and_then(|()| scanner.end()).map_err(Failure::syntax)?;
        if let Some(failure) = row.failure.take() {
            return Err(failure);
        }
        row.end()
            .map_err(|column| Failure::missing(&self.plan.names[column]))
    }
}

impl Row {
    /// Ends the row, unless it lacks a required column, whose number this gives.
    #[inline]
    fn end(&mut self) -> Result<(), usize> {
        self.end_extra();
        self.columns.end_row()?;
        self.fields_ignored += self.ignored_here;
        Ok(())
    }

    /// Ends the row of a line that was as expected.
    #[inline]
    fn end_passed(&mut self, line: &[u8], passed: &Passed<'_>) -> Option<()> {
        (self.extra_open, self.ignored_here) = (false, passed.ignored);
        for kept in passed.kept {
            self.keep(&line[kept.key.clone()], &line[kept.value.clone()]);
        }
        self.end().ok()
    }

    fn take_back(&mut self) {
        self.columns.take_back();
        self.keys.clear();
    }

    /// Reads an object whose keys the plan knows; `parent` is the path to it, for messages.
    fn object(
        &mut self,
        scanner: &mut Scanner<'_>,
        node: &mut Node,
        depth: usize,
        names: &[String],
        parent: Option<&Path<'_>>,
    ) -> Result<(), SyntaxError> {
        let depth = scanner.enter(depth)?;
        if scanner.peek()? == b'}' {
            scanner.at += 1;
            return Ok(());
        }
        let mark = self.keys.mark();
        let mut seen = [0_u64; SEEN_WORDS];
        for place in 0.. {
            let key = scanner.string()?;
            scanner.expect(b':', "a colon was expected here")?;
            match find(node, scanner.bytes, key, place) {
                Some(at) => {
                    let (word, bit) = (at / 64, 1 << (at % 64));
                    if seen[word] & bit != 0 {
                        return scanner.error(DUPLICATE_KEY);
                    }
                    seen[word] |= bit;
                    self.member(scanner, &mut node.keys[at], key, depth, names, parent)?;
                }
                None => {
                    self.keys.push(scanner.bytes, key);
                    self.undeclared(scanner, key, depth, node.open, parent)?;
                }
            }
            if !scanner.more(b'}', "a comma or `}` was expected here")? {
                break;
            }
        }
        if self.keys.close(scanner.bytes, mark) {
            Ok(())
        } else {
            scanner.error(DUPLICATE_KEY)
        }
    }

    /// Reads the value of a declared key into the columns that come from it.
    fn member(
        &mut self,
        scanner: &mut Scanner<'_>,
        member: &mut Member,
        key: Text,
        depth: usize,
        names: &[String],
        parent: Option<&Path<'_>>,
    ) -> Result<(), SyntaxError> {
        let first = scanner.peek()?;
        let from = scanner.at;
        if first == b'n' {
            return scanner.literal("null");
        }
        if let Some(inside) = &mut member.inside {
            if first == b'{' {
                let bytes = scanner.bytes;
                let path = Path {
                    key: &bytes[key.from..key.to],
                    parent,
                };
                self.object(scanner, inside, depth, names, Some(&path))?;
                if parent.is_none() && member.leaves.is_empty() && self.extra.is_some() {
                    // Nothing that the sender wrote is lost under `keep`: the whole object goes along.
                    self.keep(
                        &scanner.bytes[key.from - 1..=key.to],
                        &scanner.bytes[from..scanner.at],
                    );
                }
            } else {
                scanner.value(depth, &mut self.keys)?;
                self.no_object_inside(inside, names, &scanner.bytes[from..scanner.at]);
            }
        }
        for leaf in &member.leaves {
            if matches!(leaf.kind, Kind::Json) {
                scanner.at = from;
                scanner.value(depth, &mut self.keys)?;
                keep_text(&scanner.bytes[from..scanner.at], self.columns.column(leaf.column));
                continue;
            }
            scanner.at = from;
            match read(&leaf.kind, scanner, self.columns.column(leaf.column)) {
                Ok(()) => {}
                Err(ValueError::Syntax(error)) => return Err(error),
                Err(ValueError::Field { code, expected }) => {
                    scanner.at = from;
                    scanner.value(depth, &mut self.keys)?;
                    let found = shown(&scanner.bytes[from..scanner.at]);
                    let message = format!("expected {expected}, got {found}");
                    self.fail(code, &names[leaf.column], message);
                }
            }
        }
        Ok(())
    }

    /// Fields come from inside of a value that is no object: their types do not match.
    fn no_object_inside(&mut self, node: &Node, names: &[String], value: &[u8]) {
        for member in &node.keys {
            if let Some(leaf) = member.leaves.first() {
                let message = format!("expected an object around it, got {}", shown(value));
                self.fail(RejectCode::TypeMismatch, &names[leaf.column], message);
            }
            if let Some(inside) = &member.inside {
                self.no_object_inside(inside, names, value);
            }
        }
    }

    fn undeclared(
        &mut self,
        scanner: &mut Scanner<'_>,
        key: Text,
        depth: usize,
        open: bool,
        parent: Option<&Path<'_>>,
    ) -> Result<(), SyntaxError> {
        scanner.peek()?;
        let from = scanner.at;
        scanner.value(depth, &mut self.keys)?;
        if open {
            return Ok(());
        }
        match self.unknown {
            UnknownFields::Reject => {
                let name = dotted(parent, &scanner.bytes[key.from..key.to]);
                self.fail(
                    RejectCode::UnknownField,
                    &name,
                    "the stream does not declare this field".to_owned(),
                );
            }
            UnknownFields::Ignore => self.ignored_here += 1,
            // What is inside of a parent is kept with the parent.
            UnknownFields::Keep if parent.is_some() => {}
            UnknownFields::Keep => {
                self.keep(
                    &scanner.bytes[key.from - 1..=key.to],
                    &scanner.bytes[from..scanner.at],
                );
            }
        }
        Ok(())
    }

    /// Adds a key with its quotes and its value, as they were written, to `_extra`.
    fn keep(&mut self, key: &[u8], value: &[u8]) {
        let Some(extra) = self.extra else { return };
        let Values::Text { bytes, .. } = &mut self.columns.column(extra).values else {
            return;
        };
        bytes.push(if self.extra_open { b',' } else { b'{' });
        self.extra_open = true;
        bytes.extend_from_slice(key);
        bytes.push(b':');
        bytes.extend_from_slice(value);
    }

    fn end_extra(&mut self) {
        if let (true, Some(extra)) = (self.extra_open, self.extra) {
            keep_text(b"}", self.columns.column(extra));
        }
    }

    fn fail(&mut self, code: RejectCode, field: &str, message: String) {
        self.failure.get_or_insert_with(|| Failure {
            code,
            field: Some(field.to_owned()),
            message,
            not_json: false,
        });
    }
}

/// Words of the bit set of keys that an object had already: one bit for each declared field and path element.
const SEEN_WORDS: usize = crate::limits::FIELDS_MAX.div_ceil(64);

#[inline]
fn find(node: &mut Node, line: &[u8], key: Text, place: usize) -> Option<usize> {
    let raw = &line[key.from..key.to];
    if !key.escaped {
        return node.find(raw, place);
    }
    let mut name = Vec::new();
    unescape(raw, &mut name);
    node.find(&name, place)
}

pub(super) fn check_utf8(bytes: &[u8]) -> Result<(), Failure> {
    std::str::from_utf8(bytes).map(drop).map_err(|error| Failure {
        code: RejectCode::InvalidUtf8,
        field: None,
        message: format!("it is not UTF-8 at byte {}", error.valid_up_to()),
        not_json: true,
    })
}

/// The way to an object inside of a line. It becomes a text only when a message names it.
struct Path<'a> {
    key: &'a [u8],
    parent: Option<&'a Path<'a>>,
}

fn dotted(parent: Option<&Path<'_>>, key: &[u8]) -> String {
    const SHOWN_BYTES: usize = 200;
    let key = String::from_utf8_lossy(&key[..key.len().min(SHOWN_BYTES)]);
    parent.map_or_else(
        || key.to_string(),
        |path| format!("{}.{key}", dotted(path.parent, path.key)),
    )
}

/// A value for a message: its beginning, on one line.
pub(super) fn shown(value: &[u8]) -> String {
    const SHOWN_CHARS: usize = 64;
    let text = String::from_utf8_lossy(&value[..value.len().min(4 * SHOWN_CHARS)]);
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

impl Failure {
    fn syntax(error: SyntaxError) -> Self {
        let message = format!("{} (byte {})", error.message, error.at);
        Self {
            code: RejectCode::InvalidJson,
            field: None,
            message,
            not_json: true,
        }
    }

    fn no_object(line: &[u8]) -> Self {
        let message = format!("expected an object, got {}", shown(line));
        Self {
            code: RejectCode::InvalidJson,
            field: None,
            message,
            not_json: false,
        }
    }

    fn missing(field: &str) -> Self {
        let message = "the field is required".to_owned();
        Self {
            code: RejectCode::MissingField,
            field: Some(field.to_owned()),
            message,
            not_json: false,
        }
    }
}
