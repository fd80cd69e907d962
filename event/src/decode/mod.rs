//! The decoder: request bodies → Arrow columns and rejects, in one pass.
//!
//! Body chunks come in as hyper hands them out, and are read where they lie; only a line that straddles two
//! chunks is copied ([`Decoded::bytes_copied`]).
//!
//! ```text
//! chunks ──► lines / elements ──► pass: a line in the shape of those before it, keys compared, ──► columns
//!            (this module,              values read in their common form (expect, shape, pass, quick)  (Arrow
//!             document)         or ──► scan: strict JSON, §4's one rule; plan: which key is which      buffers)
//!                                      field; value: text → typed value (line, scan, plan, value)
//! ```
//!
//! Both read a line once, without a tree and without an allocation for an event. The pass only accepts: what it does
//! not fully understand is taken back and judged by the scan, so there is one verdict whatever was tried first.
//!
//! # The one JSON rule
//! RFC 8259 in UTF-8, at most 64 levels, no duplicate key (compared unescaped) at any level, no lone surrogate.
//! Of a line with several faults the report is: first what makes it no JSON; else the first field at fault in
//! the order of the line; else the first missing field in the order of the declaration.
//!
//! # Why no parser of others
//! simd-json and serde_json build a tree or a tape, refuse integers beyond u64 even inside `json` values (where
//! the range is nobody's business), give no source text back for `json` columns, and let duplicate keys pass.
//! Checking all of that beside them means scanning every line twice. The scanner here is strict about
//! everything, so there is only one verdict; serde_json is the oracle of its tests.

mod block;
mod columns;
mod decoders;
mod document;
mod envelope;
mod expect;
mod fill;
mod line;
mod member;
mod parameters;
mod pass;
mod plan;
mod quick;
mod scan;
mod shape;
mod timestamp;
mod value;

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use memchr::memchr;

use crate::limits::{LINE_BYTES_MAX, REJECT_RAW_BYTES_MAX};
use crate::{Reject, RejectCode, Rejects, StreamDeclaration};
pub use decoders::Decoders;
use document::Elements;
pub use envelope::Envelope;
use envelope::Enveloped;
use fill::Fill;
use line::{Failure, LineDecoder};
pub use member::{TextMember, text_member};
pub use parameters::ParameterDecoder;
pub use timestamp::parse_rfc3339;

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// One JSON document: an object, or an array of objects.
    Json,
}

/// Why a whole body was refused. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A body of [`Format::Json`] is not one JSON object or array by the JSON rule.
    #[error("the body is not a JSON document: {message}")]
    NotJson {
        /// What is wrong, and where.
        message: String,
    },
    /// A body is JSON, but not the envelope of events that it is to be.
    #[error("the body is not an envelope of events: {message}")]
    NoEnvelope {
        /// What is wrong.
        message: String,
    },
    /// Parameters are not one event, whatever the stream declares.
    #[error("the parameters are not an event: {message}")]
    BadParameters {
        /// What is wrong.
        message: String,
    },
}

/// What became of a body.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The accepted rows in order, in the wire schema, each at most one record's worth
    /// (`limits::RECORD_ROWS_MAX`, `limits::BATCH_BYTES_TARGET`). No batch is empty.
    pub batches: Vec<RecordBatch>,
    /// The lines that were not accepted.
    pub rejects: Rejects,
    /// How many events were accepted.
    pub accepted: u64,
    /// Undeclared fields that were left out (`unknown_fields = "ignore"`).
    pub fields_ignored: u64,
    /// Bytes of body that were pushed.
    pub bytes_received: u64,
    /// Bytes of body that had to be copied before they could be read.
    pub bytes_copied: u64,
}

/// Turns the body of one request into columns.
#[derive(Debug)]
pub struct Decoder {
    lines: LineDecoder,
    form: Form,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Whether the current line is beyond `LINE_BYTES_MAX`, so that its rest is passed over.
    oversized: bool,
    /// Number of the current line or element, from 1.
    number: u64,
    ended: bool,
    /// What every row still gets from the envelope.
    fill: Option<Fill>,
    decoded: Decoded,
    /// Where the lines' decoder goes when the body has ended.
    home: Option<Decoders>,
}

#[derive(Debug)]
enum Form {
    Ndjson,
    Json(Elements),
    Enveloped(Box<Enveloped>),
}

impl Form {
    fn new(format: Format) -> Self {
        match format {
            Format::Ndjson => Self::Ndjson,
            Format::Json => Self::Json(Elements::new()),
        }
    }
}

impl Decoder {
    /// A decoder for one body.
    #[must_use]
    pub fn new(stream: Arc<StreamDeclaration>, format: Format) -> Self {
        Self::of_form(LineDecoder::new(&stream), Form::new(format))
    }

    /// A decoder for one body that is an [`Envelope`].
    #[must_use]
    pub fn enveloped(stream: &StreamDeclaration, envelope: Arc<Envelope>) -> Self {
        let enveloped = Enveloped::new(stream, envelope);
        let lines = LineDecoder::of_schema(stream, enveloped.schema());
        Self::of_form(lines, Form::Enveloped(Box::new(enveloped)))
    }

    fn of_form(lines: LineDecoder, form: Form) -> Self {
        Self {
            lines,
            form,
            carry: Vec::new(),
            oversized: false,
            number: 1,
            ended: false,
            fill: None,
            decoded: Decoded::default(),
            home: None,
        }
    }

    /// Takes the next chunk of the body.
    ///
    /// # Errors
    /// [`BodyError`] when the whole body is to be refused; the decoder is of no use afterwards.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), BodyError> {
        self.decoded.bytes_received += chunk.len() as u64;
        match self.form {
            Form::Ndjson => {
                self.push_lines(&chunk);
                Ok(())
            }
            Form::Json(_) | Form::Enveloped(_) => self.push_elements(&chunk),
        }
    }

    /// The batches that are closed already, so that a caller can bound the memory of columns while a body
    /// still comes: rows of many absent fields are larger than their lines.
    #[must_use]
    pub fn closed_batches(&self) -> &[RecordBatch] {
        &self.decoded.batches
    }

    /// Ends the body: reads what is left of it, closes the last batch, and gives how many bytes of columns
    /// [`Decoder::fill_next`] will add. A caller that need not bound them just calls [`Decoder::finish`].
    ///
    /// # Errors
    /// [`BodyError`] when the whole body is to be refused.
    pub fn end(&mut self) -> Result<usize, BodyError> {
        if !self.ended {
            self.ended = true;
            match &mut self.form {
                Form::Ndjson => self.end_line(&[]),
                Form::Json(elements) => elements.check_end()?,
                Form::Enveloped(enveloped) => self.fill = enveloped.end()?,
            }
            self.decoded.batches.extend(self.lines.take_batch());
            self.decoded.fields_ignored = self.lines.take_fields_ignored();
            if let Some(fill) = &mut self.fill {
                fill.begin(&mut self.decoded.batches);
            }
        }
        Ok(self.fill.as_ref().map_or(0, Fill::bytes))
    }

    /// Fills what the envelope gives to every event into the next of the batches; `false` when all are done.
    ///
    /// # Errors
    /// [`BodyError`] when an event lacks a required field that the envelope lacks, too.
    pub fn fill_next(&mut self) -> Result<bool, BodyError> {
        let Some(fill) = &mut self.fill else {
            return Ok(false);
        };
        let next = fill.next()?;
        let more = next.is_some();
        self.decoded.batches.extend(next);
        Ok(more)
    }

    /// Ends the body, and gives what became of it.
    ///
    /// # Errors
    /// [`BodyError`] when the whole body is to be refused.
    pub fn finish(mut self) -> Result<Decoded, BodyError> {
        self.end()?;
        while self.fill_next()? {}
        if let Some(home) = &self.home {
            home.give_back(self.lines);
        }
        Ok(self.decoded)
    }

    fn push_lines(&mut self, chunk: &[u8]) {
        // Text that is valid as a whole is valid line by line, since a newline is never part of a longer
        // character; checking a chunk at once is several times faster.
        let mut valid = utf8_length(chunk);
        let mut at = 0;
        while at < chunk.len() {
            let whole = self.carry.is_empty() && !self.oversized;
            if whole && let Some(length) = self.lines.next(&chunk[at..], valid.saturating_sub(at)) {
                at += length;
                self.number += 1;
                self.accept();
                continue;
            }
            let Some(length) = memchr(b'\n', &chunk[at..]) else {
                break;
            };
            let line = &chunk[at..at + length];
            at += length + 1;
            if whole {
                self.line(line, |lines, line| lines.judge(line, at <= valid));
            } else {
                self.end_line(line);
            }
            self.number += 1;
            if at > valid {
                valid = at + utf8_length(&chunk[at..]);
            }
        }
        self.begin_line(&chunk[at..]);
    }

    /// Keeps the beginning of a line until the next chunk brings more of it.
    fn begin_line(&mut self, beginning: &[u8]) {
        // An element of a document is kept whole, as the document is refused when it is no JSON; the body's limit
        // bounds it.
        let lines = matches!(self.form, Form::Ndjson);
        if lines && self.carry.len() + beginning.len() > LINE_BYTES_MAX + 1 {
            // Enough is kept to show what it was; the rest is not worth the memory.
            let room = REJECT_RAW_BYTES_MAX
                .saturating_sub(self.carry.len())
                .min(beginning.len());
            self.carry.extend_from_slice(&beginning[..room]);
            self.carry.truncate(REJECT_RAW_BYTES_MAX);
            self.oversized = true;
        }
        if !self.oversized {
            self.decoded.bytes_copied += beginning.len() as u64;
            self.carry.extend_from_slice(beginning);
        }
    }

    /// Ends a line that began in an earlier chunk.
    fn end_line(&mut self, end: &[u8]) {
        self.begin_line(end);
        let carry = std::mem::take(&mut self.carry);
        if std::mem::take(&mut self.oversized) {
            self.reject(Failure::line_too_large(), &carry);
        } else {
            self.line(&carry, |lines, line| lines.decode(line, false));
        }
        self.carry = carry;
        self.carry.clear();
    }

    fn line(&mut self, line: &[u8], read: impl FnOnce(&mut LineDecoder, &[u8]) -> Result<(), Failure>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= LINE_BYTES_MAX && line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            return;
        }
        if let Err(failure) = read(&mut self.lines, line) {
            self.reject(failure, line);
        } else {
            self.accept();
        }
    }

    fn push_elements(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        let mut at = 0;
        while at < chunk.len() {
            let step = match &mut self.form {
                Form::Ndjson => return Ok(()),
                Form::Json(elements) => elements.advance(&chunk[at..])?,
                Form::Enveloped(enveloped) => enveloped.advance(&chunk[at..])?,
            };
            let bytes = &chunk[at + step.from..at + step.to];
            at += step.next;
            if !step.complete {
                self.begin_line(bytes);
            } else if self.carry.is_empty() && !self.oversized {
                self.element(bytes)?;
            } else {
                self.begin_line(bytes);
                let carry = std::mem::take(&mut self.carry);
                self.element(&carry)?;
            }
        }
        Ok(())
    }

    fn element(&mut self, element: &[u8]) -> Result<(), BodyError> {
        let number = self.number;
        let not_json = |message: &str| BodyError::NotJson {
            message: format!("element {number}: {message}"),
        };
        if element.len() > LINE_BYTES_MAX {
            self.lines
                .check_json(element)
                .map_err(|failure| not_json(&failure.message))?;
        }
        match self.lines.decode(element, false) {
            Ok(()) => self.accept(),
            Err(failure) if failure.not_json => return Err(not_json(&failure.message)),
            Err(failure) => self.reject(failure, element),
        }
        self.number += 1;
        Ok(())
    }

    fn accept(&mut self) {
        self.decoded.accepted += 1;
        if self.lines.batch_is_full() {
            self.decoded.batches.extend(self.lines.take_batch());
        }
    }

    fn reject(&mut self, failure: Failure, line: &[u8]) {
        let rejects = &mut self.decoded.rejects;
        if rejects.truncated_at_next() {
            return rejects.count(failure.code);
        }
        rejects.push(failure.reject(self.number, line));
    }
}

/// Decodes single events, as messages of a topic bring them.
#[derive(Debug)]
pub struct EventDecoder {
    lines: LineDecoder,
}

impl EventDecoder {
    /// A decoder for events of one stream.
    #[must_use]
    pub fn new(stream: &StreamDeclaration) -> Self {
        Self {
            lines: LineDecoder::new(stream),
        }
    }

    /// Reads one event: one JSON object, by the same rule as a line of a body. Gives a batch of one row in the
    /// wire schema.
    ///
    /// # Errors
    /// The [`Reject`], whose line is 1.
    pub fn decode(&mut self, text: &[u8]) -> Result<RecordBatch, Reject> {
        self.push(text)?;
        Ok(self.take().expect("a row that was accepted is in the batch"))
    }

    /// Reads one event, and keeps it as the next row of the batch that [`EventDecoder::take`] gives.
    ///
    /// # Errors
    /// The [`Reject`], whose line is 1; the rows before it stay.
    pub fn push(&mut self, text: &[u8]) -> Result<(), Reject> {
        let decoded = if text.len() > LINE_BYTES_MAX {
            Err(Failure::line_too_large())
        } else {
            self.lines.decode(text, false)
        };
        decoded.map_err(|failure| failure.reject(1, text))
    }

    /// Whether the batch has one record's worth of rows, so that it should be taken before the next event.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lines.batch_is_full()
    }

    /// The rows since the last time, in the wire schema; `None` when there are none.
    pub fn take(&mut self) -> Option<RecordBatch> {
        self.lines.take_batch()
    }
}

/// How many of the first bytes are UTF-8.
fn utf8_length(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}

impl Failure {
    fn reject(self, line: u64, text: &[u8]) -> Reject {
        Reject {
            line,
            code: self.code,
            field: self.field,
            message: self.message,
            raw: text[..text.len().min(REJECT_RAW_BYTES_MAX)].to_vec(),
        }
    }

    fn line_too_large() -> Self {
        let message = format!("the line is longer than {LINE_BYTES_MAX} bytes");
        Self {
            code: RejectCode::TooLarge,
            field: None,
            message,
            not_json: false,
        }
    }
}
