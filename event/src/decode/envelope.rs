//! Envelopes: bodies that are one JSON object, one member of which has the events:
//! `{"events": [{…}, {…}], "appName": "shop"}`.
//!
//! The events are found and read exactly as those of a bare array, where they lie in the chunks. Everything around them
//! is kept, as if the array were empty, and is read by the strict scanner when the body has ended: so the envelope
//! is judged by the one JSON rule as a whole, wherever the chunks were cut. Members may stand in any order, so what
//! goes into every event is often known only after the last one; [`super::fill`] puts it there.
//!
//! Brackets are counted here to find the array, not to judge: if the count goes wrong because the text is no JSON,
//! then what was kept is none either.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};

use super::BodyError;
use super::columns::Columns;
use super::document::{Elements, Step, not_json};
use super::fill::Fill;
use super::line::{check_utf8, shown};
use super::plan::Kind;
use super::scan::{DUPLICATE_KEY, Keys, Scanner, SyntaxError, Text, unescape};
use super::value::{ValueError, keep_text, read};
use crate::StreamDeclaration;
use crate::limits::ENVELOPE_BYTES_MAX;

/// Where the events of a body are, and what else of it belongs to each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The member that has the events: an array.
    pub member: String,
    /// Other members, each with the field of the stream that gets its value in every event that has none of its
    /// own. A field that the stream does not declare is passed over.
    pub fields: Vec<(String, String)>,
}

/// An envelope that is being read.
#[derive(Debug)]
pub(super) struct Enveloped {
    envelope: Arc<Envelope>,
    copies: Vec<Copied>,
    /// The stream's wire schema.
    wire: SchemaRef,
    place: Place,
    /// What was read of the envelope, without what is inside of its array.
    around: Vec<u8>,
    /// Where in `around` the array's `]` stands.
    array_end: Option<usize>,
    /// Bytes of the body so far, and those of them that are inside of the array.
    read: u64,
    read_inside: u64,
}

/// One member whose value goes into every event.
#[derive(Debug)]
struct Copied {
    member: String,
    /// The column's number in the wire schema.
    column: usize,
    kind: Kind,
}

/// Where in the envelope the next byte is.
#[derive(Debug)]
enum Place {
    Start,
    Around(Around),
    Array(Elements),
    End,
}

/// The state between the envelope's braces, outside of its array.
#[derive(Debug, Default)]
struct Around {
    /// Open brackets inside of the envelope's own.
    open: usize,
    in_string: bool,
    escaped: bool,
    expects: Expects,
    /// Where in `around` the current member's key begins.
    key_from: usize,
    /// Whether the current member is the one that has the events.
    has_events: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Key,
    Colon,
    Value,
    Comma,
}

/// What a byte of the envelope begins or ends.
enum Turn {
    Nothing,
    Array,
    End,
}

impl Enveloped {
    pub(super) fn new(stream: &StreamDeclaration, envelope: Arc<Envelope>) -> Self {
        let copied = |(member, name): &(String, String)| {
            let column = stream.fields.iter().position(|field| field.name == *name)?;
            Some(Copied {
                member: member.clone(),
                column,
                kind: Kind::new(&stream.fields[column].kind),
            })
        };
        Self {
            copies: envelope.fields.iter().filter_map(copied).collect(),
            envelope,
            wire: crate::schema::wire(stream),
            place: Place::Start,
            around: Vec::new(),
            array_end: None,
            read: 0,
            read_inside: 0,
        }
    }

    /// The schema of the rows before the envelope's values are filled in.
    pub(super) fn schema(&self) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = self.wire.fields().iter().map(Arc::clone).collect();
        for copied in &self.copies {
            let field = Field::clone(&fields[copied.column]);
            fields[copied.column] = Arc::new(field.with_nullable(true));
        }
        Arc::new(Schema::new_with_metadata(fields, self.wire.metadata().clone()))
    }

    /// Goes on to the end of the current or next event, to the end of the array, or to the end of the bytes.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let step = match &mut self.place {
            Place::Array(elements) => {
                let step = elements.advance(bytes)?;
                self.read_inside += step.next as u64;
                if elements.ended() {
                    // The bracket itself belongs to the envelope.
                    self.read_inside -= 1;
                    self.array_end = Some(self.around.len());
                    self.around.push(b']');
                    self.place = Place::Around(Around {
                        expects: Expects::Comma,
                        ..Around::default()
                    });
                }
                step
            }
            Place::Start | Place::Around(_) | Place::End => Step::nothing(self.take(bytes)?),
        };
        self.read += step.next as u64;
        Ok(step)
    }

    /// Takes bytes around the array up to its beginning; gives how many.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        for (at, byte) in bytes.iter().copied().enumerate() {
            let white = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            let turn = match &mut self.place {
                Place::Start if white => Turn::Nothing,
                Place::Start if byte == b'{' => {
                    self.place = Place::Around(Around::default());
                    Turn::Nothing
                }
                Place::Start => return Err(no_envelope("an object was expected")),
                Place::End if white => continue,
                Place::End => {
                    let at = self.read + at as u64;
                    return Err(not_json("something follows after the document", at));
                }
                Place::Around(around) => around.take(byte, white, &self.around, &self.envelope.member)?,
                Place::Array(_) => return Ok(at),
            };
            if self.around.len() >= ENVELOPE_BYTES_MAX {
                let message = format!("beside its events it is longer than {ENVELOPE_BYTES_MAX} bytes");
                return Err(no_envelope(&message));
            }
            self.around.push(byte);
            match turn {
                Turn::Nothing => {}
                Turn::End => self.place = Place::End,
                Turn::Array if self.array_end.is_some() => {
                    return Err(not_json(DUPLICATE_KEY, self.read + at as u64));
                }
                Turn::Array => {
                    self.place = Place::Array(Elements::inside(self.read + at as u64 + 1));
                    return Ok(at + 1);
                }
            }
        }
        Ok(bytes.len())
    }

    /// The body has ended: reads what was around the events, and gives what goes into them.
    pub(super) fn end(&mut self) -> Result<Option<Fill>, BodyError> {
        match &self.place {
            Place::End => {}
            Place::Array(elements) => return elements.check_end().map(|()| None),
            Place::Start | Place::Around(_) => return Err(not_json("it ends too early", self.read)),
        }
        let values = self.members()?;
        if self.array_end.is_none() {
            return Err(no_envelope(&format!(
                "it has no member `{}`",
                self.envelope.member
            )));
        }
        if self.copies.is_empty() {
            return Ok(None);
        }
        let mut columns = Columns::new(self.schema_of_copies());
        for (at, (copied, value)) in self.copies.iter().zip(&values).enumerate() {
            if let Some(Text { from, to, .. }) = value {
                copied.read(&self.around[*from..*to], columns.column(at))?;
            }
        }
        columns.end_row().expect("every one of these columns may be null");
        let row = columns.take_batch().expect("a row was ended");
        let columns = self.copies.iter().map(|copied| copied.column).collect();
        let members = self.copies.iter().map(|copied| copied.member.clone()).collect();
        Ok(Some(Fill::new(Arc::clone(&self.wire), columns, members, &row)))
    }

    fn schema_of_copies(&self) -> SchemaRef {
        let field = |copied: &Copied| self.wire.field(copied.column).clone().with_nullable(true);
        Arc::new(Schema::new(self.copies.iter().map(field).collect::<Vec<_>>()))
    }

    /// Checks the envelope by the JSON rule; gives the value of each copied member that it has and that is not null.
    fn members(&self) -> Result<Vec<Option<Text>>, BodyError> {
        check_utf8(&self.around).map_err(|failure| BodyError::NotJson {
            message: format!("the envelope: {}", failure.message),
        })?;
        let mut scanner = Scanner::new(&self.around);
        self.scan_members(&mut scanner)
            .map_err(|SyntaxError { message, at }| not_json(message, self.place_of(at)))
    }

    fn scan_members(&self, scanner: &mut Scanner<'_>) -> Result<Vec<Option<Text>>, SyntaxError> {
        let mut found = vec![None; self.copies.len()];
        let mut keys = Keys::default();
        scanner.peek()?;
        let depth = scanner.enter(0)?;
        if scanner.peek()? == b'}' {
            scanner.at += 1;
            return Ok(found);
        }
        let mark = keys.mark();
        loop {
            let key = scanner.string()?;
            keys.push(scanner.bytes, key);
            scanner.expect(b':', "a colon was expected here")?;
            let null = scanner.peek()? == b'n';
            let from = scanner.at;
            scanner.value(depth, &mut keys)?;
            let value = Text {
                from,
                to: scanner.at,
                escaped: false,
            };
            let copies = self.copies.iter().zip(&mut found);
            for (_, found) in copies.filter(|(copied, _)| is(scanner.bytes, key, &copied.member)) {
                *found = (!null).then_some(value);
            }
            if !scanner.more(b'}', "a comma or `}` was expected here")? {
                break;
            }
        }
        if keys.close(scanner.bytes, mark) {
            scanner.end().map(|()| found)
        } else {
            scanner.error(DUPLICATE_KEY)
        }
    }

    /// Where in the body a byte of `around` is.
    fn place_of(&self, at: usize) -> u64 {
        let inside = self.array_end.filter(|end| at >= *end).map(|_| self.read_inside);
        at as u64 + inside.unwrap_or(0)
    }
}

impl Around {
    /// Takes a byte; `before` is what the envelope has before it.
    fn take(&mut self, byte: u8, white: bool, before: &[u8], member: &str) -> Result<Turn, BodyError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.end_string(before, member),
                _ => {}
            }
            return Ok(Turn::Nothing);
        }
        let top = self.open == 0;
        if top && self.expects == Expects::Value && !white {
            self.expects = Expects::Comma;
            if self.has_events {
                if byte != b'[' {
                    return Err(no_envelope(&format!("its member `{member}` is no array")));
                }
                return Ok(Turn::Array);
            }
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.key_from = before.len();
            }
            b'{' | b'[' => self.open += 1,
            b'}' | b']' if top => return Ok(Turn::End),
            b'}' | b']' => self.open -= 1,
            b':' if top && self.expects == Expects::Colon => self.expects = Expects::Value,
            b',' if top => self.expects = Expects::Key,
            _ => {}
        }
        Ok(Turn::Nothing)
    }

    fn end_string(&mut self, before: &[u8], member: &str) {
        self.in_string = false;
        if self.open > 0 || self.expects != Expects::Key {
            return;
        }
        self.expects = Expects::Colon;
        let from = self.key_from + 1;
        let key = Text {
            from,
            to: before.len(),
            escaped: before[from..].contains(&b'\\'),
        };
        // An escape that is none of JSON's cannot be taken apart; the document is refused for it at its end.
        self.has_events = if key.escaped {
            let quoted = [&before[self.key_from..], b"\""].concat();
            let scanned = Scanner::new(&quoted).string();
            scanned.is_ok_and(|text| is(&quoted, text, member))
        } else {
            is(before, key, member)
        };
    }
}

impl Copied {
    /// Reads the member's value into a column of one row.
    fn read(&self, value: &[u8], column: &mut super::columns::Column) -> Result<(), BodyError> {
        if matches!(self.kind, Kind::Json) {
            keep_text(value, column);
            return Ok(());
        }
        let expected = match read(&self.kind, &mut Scanner::new(value), column) {
            Ok(()) => return Ok(()),
            Err(ValueError::Field { expected, .. }) => expected,
            Err(ValueError::Syntax(error)) => error.message.to_owned(),
        };
        let (member, found) = (&self.member, shown(value));
        Err(no_envelope(&format!(
            "`{member}`: expected {expected}, got {found}"
        )))
    }
}

/// Whether a scanned string is this text.
fn is(bytes: &[u8], string: Text, text: &str) -> bool {
    let raw = &bytes[string.from..string.to];
    if !string.escaped {
        return raw == text.as_bytes();
    }
    let mut unescaped = Vec::new();
    unescape(raw, &mut unescaped);
    unescaped == text.as_bytes()
}

fn no_envelope(message: &str) -> BodyError {
    BodyError::NoEnvelope {
        message: message.to_owned(),
    }
}
