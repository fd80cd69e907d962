//! The format of `COPY … WITH (FORMAT binary)`: Arrow columns become tuples in one buffer.
//!
//! For [`super::load`], which sends the tuples of one range while the next is encoded. One buffer a range, and no
//! allocation a value.
//!
//! ```text
//! header   "PGCOPY\n\xff\r\n\0" | flags i32 = 0 | length of the extension i32 = 0
//! tuple    columns i16 | (length i32, or -1 for null | value [length]) for each column
//! trailer  -1 i16
//! ```
//! All big-endian.
//!
//! # What the server would refuse
//! Texts with U+0000 and JSON with `\u0000` are sent at first like everything else: looking for them costs, and they
//! are rare. Once the server has refused a range they are looked for ([`Screen::Zeros`]), so that many of them cost
//! no more than one. A number that its column's type cannot even express is always left out here.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use event::StreamDeclaration;

use super::wire::Wire;
use crate::database::event_text::write_event;
use crate::database::{Refusal, RefusedRow, Rows, Source};

/// What stands before the first tuple.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands after the last tuple.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// The length that means null.
const NULL: [u8; 4] = [0xff; 4];

/// Microseconds between Unix's first day, 1970-01-01, and PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// The version byte before the text of a `jsonb`.
const JSONB_VERSION: u8 = 1;

/// A column that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Where its values come from.
    pub(super) source: Source,
    /// Their form.
    pub(super) wire: Wire,
}

/// What is looked for in texts before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    /// Nothing.
    Nothing,
    /// U+0000, which no text of PostgreSQL can have.
    Zeros,
}

/// Encoded rows.
#[derive(Debug)]
pub(super) struct Tuples {
    pub(super) bytes: Vec<u8>,
    /// Rows that are not among them, since they have no form in the table.
    pub(super) unwritable: Vec<RefusedRow>,
}

/// A column that has another Arrow type than its form in the table is made from; never an event's fault.
#[derive(Debug, thiserror::Error)]
#[error("column {column} is {found}, which cannot be sent as {wire:?}")]
pub(super) struct EncodeError {
    column: usize,
    found: String,
    wire: Wire,
}

/// What is encoded, and how.
pub(super) struct Encoder<'a> {
    pub(super) stream: &'a StreamDeclaration,
    pub(super) columns: &'a [Sent],
    /// Whether the number of the row follows as one more column.
    pub(super) numbered: bool,
    pub(super) screen: Screen,
}

impl Encoder<'_> {
    /// Encodes a range of rows. CPU-bound.
    pub(super) fn encode(&self, rows: &Rows, range: Range<usize>) -> Result<Tuples, EncodeError> {
        let fields = self.columns.len() + usize::from(self.numbered);
        // A table has at most 1,600 columns, which is checked before there is one.
        let fields = i16::try_from(fields).unwrap_or(i16::MAX).to_be_bytes();
        let mut tuples = Tuples {
            bytes: Vec::new(),
            unwritable: Vec::new(),
        };
        for slice in rows.slices(range) {
            let columns = self.values(slice.batch)?;
            let out = &mut tuples.bytes;
            out.reserve(columns.iter().map(|column| column.bytes(&slice.range)).sum());
            for row in slice.range.clone() {
                let number = slice.first + (row - slice.range.start);
                let begin = out.len();
                out.extend_from_slice(&fields);
                let put = columns
                    .iter()
                    .try_for_each(|column| column.put(row, out, self.screen));
                if let Err(unwritable) = put {
                    out.truncate(begin);
                    tuples.unwritable.push(RefusedRow {
                        row: number,
                        refusal: unwritable.refusal(),
                    });
                } else if self.numbered {
                    put_fixed::<12>(out, &(number as u64).to_be_bytes());
                }
            }
        }
        Ok(tuples)
    }

    fn values<'b>(&'b self, batch: &'b RecordBatch) -> Result<Vec<Values<'b>>, EncodeError> {
        let of = |sent: &Sent| match sent.source {
            Source::Event => Ok(Values::Event {
                stream: self.stream,
                batch,
                jsonb: sent.wire == Wire::Jsonb,
            }),
            Source::Lake(column) => Values::of(batch, column, sent.wire),
        };
        self.columns.iter().map(of).collect()
    }
}

/// Why a row has no form in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwritable {
    IntRange,
    FloatRange,
    Zero,
    EscapedZero,
    Uuid,
}

impl Unwritable {
    /// The code is the one that the server has for it.
    fn refusal(self) -> Refusal {
        match self {
            Self::IntRange => Refusal::new("22003", "integer out of range"),
            Self::FloatRange => Refusal::new("22003", "value out of range: overflow"),
            Self::Zero => Refusal::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"),
            Self::EscapedZero => Refusal::new(
                "22P05",
                "unsupported Unicode escape sequence; \\u0000 cannot be converted to text",
            ),
            Self::Uuid => Refusal::new("22P02", "invalid input syntax for type uuid"),
        }
    }
}

/// A column and how its values are written.
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int32(&'a Int32Array, Wire),
    Int64(&'a Int64Array, Wire),
    Float(&'a Float64Array, Wire),
    Text(&'a StringArray),
    Uuid(&'a StringArray),
    Moment(&'a TimestampMicrosecondArray),
    Jsonb(&'a StringArray),
    Event {
        stream: &'a StreamDeclaration,
        batch: &'a RecordBatch,
        jsonb: bool,
    },
}

impl<'a> Values<'a> {
    fn of(batch: &'a RecordBatch, column: usize, wire: Wire) -> Result<Self, EncodeError> {
        let array = batch.columns().get(column);
        let values = array.and_then(|array| match wire {
            Wire::Bool => array.as_boolean_opt().map(Self::Bool),
            Wire::Int2 | Wire::Int4 | Wire::Int8 => array
                .as_primitive_opt::<Int64Type>()
                .map(|array| Self::Int64(array, wire))
                .or_else(|| {
                    array
                        .as_primitive_opt::<Int32Type>()
                        .map(|array| Self::Int32(array, wire))
                }),
            Wire::Float4 | Wire::Float8 => array
                .as_primitive_opt::<Float64Type>()
                .map(|array| Self::Float(array, wire)),
            Wire::Text => array.as_string_opt().map(Self::Text),
            Wire::Uuid => array.as_string_opt().map(Self::Uuid),
            Wire::Jsonb => array.as_string_opt().map(Self::Jsonb),
            Wire::Moment => array
                .as_primitive_opt::<TimestampMicrosecondType>()
                .map(Self::Moment),
        });
        values.ok_or_else(|| EncodeError {
            column,
            found: array.map_or_else(|| "not there".to_owned(), |array| array.data_type().to_string()),
            wire,
        })
    }

    /// Bytes that some rows of this column need at most; a guess for the whole event.
    fn bytes(&self, rows: &Range<usize>) -> usize {
        match self {
            Self::Text(texts) | Self::Jsonb(texts) => {
                let ends = texts.value_offsets();
                let bytes = ends[rows.end].saturating_sub(ends[rows.start]);
                usize::try_from(bytes).unwrap_or(0) + 5 * rows.len()
            }
            Self::Event { .. } => 128 * rows.len(),
            _ => 20 * rows.len(),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(values) => values.is_null(row),
            Self::Int32(values, _) => values.is_null(row),
            Self::Int64(values, _) => values.is_null(row),
            Self::Float(values, _) => values.is_null(row),
            Self::Text(values) | Self::Uuid(values) | Self::Jsonb(values) => values.is_null(row),
            Self::Moment(values) => values.is_null(row),
            Self::Event { .. } => false,
        }
    }

    /// Appends the field of one row. After an error what was appended is of no use.
    fn put(&self, row: usize, out: &mut Vec<u8>, screen: Screen) -> Result<(), Unwritable> {
        if self.is_null(row) {
            out.extend_from_slice(&NULL);
            return Ok(());
        }
        match self {
            Self::Bool(values) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(values.value(row))]),
            Self::Int32(values, wire) => put_int(out, values.value(row).into(), *wire)?,
            Self::Int64(values, wire) => put_int(out, values.value(row), *wire)?,
            Self::Float(values, wire) => put_float(out, values.value(row), *wire)?,
            Self::Moment(values) => put_fixed::<12>(out, &since_2000(values.value(row)).to_be_bytes()),
            Self::Text(values) => {
                let text = values.value(row).as_bytes();
                if screen == Screen::Zeros && text.contains(&0) {
                    return Err(Unwritable::Zero);
                }
                put_length(out, text.len());
                out.extend_from_slice(text);
            }
            Self::Jsonb(values) => {
                let text = values.value(row);
                if screen == Screen::Zeros && has_escaped_zero(text.as_bytes()) {
                    return Err(Unwritable::EscapedZero);
                }
                put_length(out, text.len() + 1);
                out.push(JSONB_VERSION);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Uuid(values) => {
                let id = uuid::Uuid::try_parse(values.value(row)).map_err(|_| Unwritable::Uuid)?;
                put_fixed::<20>(out, id.as_bytes());
            }
            Self::Event { stream, batch, jsonb } => {
                let begin = out.len();
                out.extend_from_slice(&NULL);
                if *jsonb {
                    out.push(JSONB_VERSION);
                }
                write_event(out, stream, batch, row);
                if *jsonb && screen == Screen::Zeros && has_escaped_zero(&out[begin + 5..]) {
                    return Err(Unwritable::EscapedZero);
                }
                let length = length(out.len() - begin - 4);
                out[begin..begin + 4].copy_from_slice(&length);
            }
        }
        Ok(())
    }
}

fn put_int(out: &mut Vec<u8>, value: i64, wire: Wire) -> Result<(), Unwritable> {
    match wire {
        Wire::Int2 => {
            let value = i16::try_from(value).map_err(|_| Unwritable::IntRange)?;
            put_fixed::<6>(out, &value.to_be_bytes());
        }
        Wire::Int4 => {
            let value = i32::try_from(value).map_err(|_| Unwritable::IntRange)?;
            put_fixed::<8>(out, &value.to_be_bytes());
        }
        _ => put_fixed::<12>(out, &value.to_be_bytes()),
    }
    Ok(())
}

fn put_float(out: &mut Vec<u8>, value: f64, wire: Wire) -> Result<(), Unwritable> {
    if wire == Wire::Float4 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the column has this precision; see below for range"
        )]
        let narrow = value as f32;
        if narrow.is_infinite() && value.is_finite() {
            return Err(Unwritable::FloatRange);
        }
        put_fixed::<8>(out, &narrow.to_be_bytes());
    } else {
        put_fixed::<12>(out, &value.to_be_bytes());
    }
    Ok(())
}

/// Writes a length and a value of `SIZE - 4` bytes in one go.
fn put_fixed<const SIZE: usize>(out: &mut Vec<u8>, value: &[u8]) {
    let mut field = [0; SIZE];
    field[..4].copy_from_slice(&length(SIZE - 4));
    field[4..].copy_from_slice(value);
    out.extend_from_slice(&field);
}

fn put_length(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(&length(bytes));
}

/// A line of input is at most 1 MiB, so this never saturates; the server refuses a field of more than 1 GB.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

/// A moment as PostgreSQL counts it. Its range ends long before ours; what is too early even for the subtraction
/// becomes a moment that the server refuses as well, and not `-infinity`, which is the smallest number.
fn since_2000(since_1970: i64) -> i64 {
    since_1970
        .checked_sub(EPOCH)
        .unwrap_or(i64::MIN + 1)
        .max(i64::MIN + 1)
}

/// Whether a JSON text has the escape `\u0000`: with an odd number of backslashes before the `u`.
fn has_escaped_zero(json: &[u8]) -> bool {
    const ZERO: &[u8] = b"u0000";
    let mut from = 0;
    while let Some(slash) = json[from..].iter().position(|byte| *byte == b'\\') {
        // What follows a backslash is escaped by it, another backslash too.
        let escaped = from + slash + 1;
        if json[escaped..].starts_with(ZERO) {
            return true;
        }
        from = (escaped + 1).min(json.len());
    }
    false
}

#[cfg(test)]
mod tests;
