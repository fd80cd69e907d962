//! Rows as text that the server reads: lines for `LOAD DATA`, or tuples for `INSERT`.
//!
//! `LOAD DATA`: fields end with a tab, lines with a newline, a backslash escapes, nothing encloses, `\N` is NULL; so
//! the word NULL is a word. `INSERT`: strings are quoted, backslash escapes (the session's SQL mode says so). Both
//! are UTF-8 (`utf8mb4`), in which none of these bytes is a part of another character.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use event::Moment;

use crate::database::rows::Slice;
use crate::database::{ColumnKind, Refusal, Source, TargetTable, event_text};

/// The two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line of `LOAD DATA`.
    Line,
    /// A tuple of `INSERT`.
    Tuple,
}

/// Writes rows of one batch.
pub(super) struct RowWriter<'a> {
    form: Form,
    table: &'a TargetTable,
    batch: &'a RecordBatch,
    cells: Vec<Cells<'a>>,
    event: Vec<u8>,
}

/// One column's values.
enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Int32(&'a Int32Array),
    Float(&'a Float64Array),
    Moment(&'a TimestampMicrosecondArray),
    /// Text without any byte that needs care.
    Plain(&'a StringArray),
    Text(&'a StringArray),
    Event,
    /// The batch has no such column: every value is NULL. Never so in the lake's schema.
    Missing,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(form: Form, table: &'a Arc<TargetTable>, slice: &Slice<'a>) -> Self {
        let batch = slice.batch;
        let cells = table
            .columns
            .iter()
            .map(|column| cells(batch, column.source, column.kind));
        Self {
            form,
            table,
            batch,
            cells: cells.collect(),
            event: Vec::new(),
        }
    }

    /// Writes a row. When it has no form here, nothing is written.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, row: usize) -> Result<(), Refusal> {
        let begin = out.len();
        let written = self.write_cells(out, row);
        if written.is_err() {
            out.truncate(begin);
        }
        written
    }

    fn write_cells(&mut self, out: &mut Vec<u8>, row: usize) -> Result<(), Refusal> {
        let (before, between, after) = match self.form {
            Form::Line => (None, b'\t', b'\n'),
            Form::Tuple => (Some(b'('), b',', b')'),
        };
        out.extend(before);
        for index in 0..self.cells.len() {
            if index > 0 {
                out.push(between);
            }
            self.write_cell(out, index, row)?;
        }
        out.push(after);
        Ok(())
    }

    fn write_cell(&mut self, out: &mut Vec<u8>, index: usize, row: usize) -> Result<(), Refusal> {
        let form = self.form;
        match &self.cells[index] {
            Cells::Bool(column) if column.is_valid(row) => out.push(b'0' + u8::from(column.value(row))),
            Cells::Int(column) if column.is_valid(row) => number(out, column.value(row)),
            Cells::Int32(column) if column.is_valid(row) => number(out, column.value(row)),
            Cells::Float(column) if column.is_valid(row) => {
                // Quoted: a bare literal without an exponent would be a DECIMAL on its way.
                quote(out, form, |out| {
                    number(out, format_args!("{:e}", column.value(row)))
                });
            }
            Cells::Moment(column) if column.is_valid(row) => {
                let micros = column.value(row);
                let moment = Moment::of(micros);
                if !(0..=9_999).contains(&moment.year()) {
                    let name = &self.table.columns[index].name;
                    return Err(Refusal::unwritable(format!(
                        "column `{name}`: {micros} microseconds since 1970 is in the year {}, `DATETIME` has 0 to 9999",
                        moment.year()
                    )));
                }
                quote(out, form, |out| {
                    moment.write_seconds(out, b' ');
                    moment.write_fraction(out);
                });
            }
            Cells::Plain(column) if column.is_valid(row) => {
                quote(out, form, |out| {
                    out.extend_from_slice(column.value(row).as_bytes())
                });
            }
            Cells::Text(column) if column.is_valid(row) => {
                quote(out, form, |out| escape(out, form, column.value(row).as_bytes()));
            }
            Cells::Event => {
                self.event.clear();
                event_text::write_event(&mut self.event, &self.table.stream, self.batch, row);
                quote(out, form, |out| escape(out, form, &self.event));
            }
            _ => {
                let null: &[u8] = match form {
                    Form::Line => b"\\N",
                    Form::Tuple => b"NULL",
                };
                out.extend_from_slice(null);
            }
        }
        Ok(())
    }
}

fn cells(batch: &RecordBatch, source: Source, kind: ColumnKind) -> Cells<'_> {
    let Source::Lake(index) = source else {
        return Cells::Event;
    };
    let Some(column) = batch.columns().get(index) else {
        return Cells::Missing;
    };
    let found = match kind {
        ColumnKind::Bool => column.as_boolean_opt().map(Cells::Bool),
        ColumnKind::Int => column.as_primitive_opt::<Int64Type>().map(Cells::Int),
        ColumnKind::Int32 => column.as_primitive_opt::<Int32Type>().map(Cells::Int32),
        ColumnKind::Float => column.as_primitive_opt::<Float64Type>().map(Cells::Float),
        ColumnKind::Timestamp => column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .map(Cells::Moment),
        ColumnKind::Uuid | ColumnKind::TraceId => column.as_string_opt().map(Cells::Plain),
        ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::Json => {
            column.as_string_opt().map(Cells::Text)
        }
    };
    found.unwrap_or(Cells::Missing)
}

/// The shortest decimal text that reads back as the same number.
fn number<T: std::fmt::Display>(out: &mut Vec<u8>, value: T) {
    use std::io::Write;
    write!(out, "{value}").expect("writing to memory does not fail");
}

/// Puts quotes around what `write` writes, where the form has them.
fn quote(out: &mut Vec<u8>, form: Form, write: impl FnOnce(&mut Vec<u8>)) {
    match form {
        Form::Line => write(out),
        Form::Tuple => {
            out.push(b'\'');
            write(out);
            out.push(b'\'');
        }
    }
}

/// Writes text with an escape for every byte that means something else.
pub(super) fn escape(out: &mut Vec<u8>, form: Form, text: &[u8]) {
    let special = |byte: u8| match form {
        Form::Line => matches!(byte, 0 | b'\t' | b'\n' | b'\\'),
        Form::Tuple => matches!(byte, 0 | b'\'' | b'\\'),
    };
    // The common case in one scan and one copy.
    if !text.iter().fold(false, |any, byte| any | special(*byte)) {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        let escaped = match byte {
            byte if !special(*byte) => {
                out.push(*byte);
                continue;
            }
            0 => b'0',
            b'\t' => b't',
            b'\n' => b'n',
            byte => *byte,
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}

/// A quoted and escaped string literal.
pub(super) fn literal(out: &mut Vec<u8>, text: &str) {
    quote(out, Form::Tuple, |out| escape(out, Form::Tuple, text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_means_something_is_escaped() {
        let text = "a\0b\tc\nd\\e'f\"g\rh\u{1a}NULL\\Nüß€😀";
        let written = |form| {
            let mut out = Vec::new();
            escape(&mut out, form, text.as_bytes());
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(
            written(Form::Line),
            "a\\0b\\tc\\nd\\\\e'f\"g\rh\u{1a}NULL\\\\Nüß€😀"
        );
        assert_eq!(
            written(Form::Tuple),
            "a\\0b\tc\nd\\\\e\\'f\"g\rh\u{1a}NULL\\\\Nüß€😀"
        );
    }
}
