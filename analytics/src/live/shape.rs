//! How an event is written for those who watch: all of it, or by a template.
//!
//! All of it is what the events route gives but for `_index`: the declared fields in order, `_extra`, `_received_at`,
//! `_trace_id`. A template is any JSON value in which a text `$field` stands for the value of that field or system
//! column, and `$$` at the beginning of a text for one `$`.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use event::{FieldType, StreamDeclaration, schema};
use serde_json::Value;

use crate::QueryError;
use crate::json::{write_text, write_value};
use crate::parameters::column;

/// Nesting of a template: deeper ones are a mistake, and are gone through by recursion.
const DEPTH_MAX: usize = 32;

/// A shape of one stream's events. Text and columns take turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pieces: Vec<Piece>,
    /// What follows the last piece.
    end: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    /// What stands before the value.
    before: Vec<u8>,
    column: String,
    /// Whether the column is JSON text already.
    is_json: bool,
}

impl Shape {
    /// The whole event.
    #[must_use]
    pub fn event(stream: &StreamDeclaration) -> Self {
        let mut shape = Self::default();
        let extra = schema::lake(stream)
            .column_with_name(schema::EXTRA)
            .map(|_| schema::EXTRA);
        let declared = stream.fields.iter().map(|field| field.name.as_str());
        let names = declared
            .chain(extra)
            .chain([schema::RECEIVED_AT, schema::TRACE_ID]);
        for (at, name) in names.enumerate() {
            shape.end.push(if at == 0 { b'{' } else { b',' });
            write_text(&mut shape.end, name);
            shape.end.push(b':');
            shape.push_column(name, stream);
        }
        shape.end.push(b'}');
        shape
    }

    /// A declared shape.
    ///
    /// # Errors
    /// What is wrong with the template, for a person.
    pub fn parse(template: &Value, stream: &StreamDeclaration) -> Result<Self, String> {
        let mut shape = Self::default();
        shape.push(template, stream, 0)?;
        Ok(shape)
    }

    fn push(&mut self, template: &Value, stream: &StreamDeclaration, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("the template is nested deeper than {DEPTH_MAX}"));
        }
        match template {
            Value::Object(members) => {
                self.end.push(b'{');
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        self.end.push(b',');
                    }
                    write_text(&mut self.end, key);
                    self.end.push(b':');
                    self.push(value, stream, depth + 1)?;
                }
                self.end.push(b'}');
            }
            Value::Array(values) => {
                self.end.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        self.end.push(b',');
                    }
                    self.push(value, stream, depth + 1)?;
                }
                self.end.push(b']');
            }
            Value::String(text) => match text.strip_prefix('$') {
                None => write_text(&mut self.end, text),
                Some(literal) if literal.starts_with('$') => write_text(&mut self.end, literal),
                Some(name) => {
                    let known = schema::lake(stream);
                    if known.column_with_name(name).is_none() {
                        return Err(format!(
                            "`${name}`: stream `{}` has no field `{name}`",
                            stream.name
                        ));
                    }
                    self.push_column(name, stream);
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => self.end.extend(template.to_string().bytes()),
        }
        Ok(())
    }

    fn push_column(&mut self, name: &str, stream: &StreamDeclaration) {
        let is_json = stream
            .field(name)
            .map_or(name == schema::EXTRA, |field| field.kind == FieldType::Json);
        self.pieces.push(Piece {
            before: std::mem::take(&mut self.end),
            column: name.to_owned(),
            is_json,
        });
    }

    /// Writes rows of a batch in the lake's schema.
    pub(super) fn writer<'a>(&'a self, rows: &'a RecordBatch) -> Result<ShapeWriter<'a>, QueryError> {
        let columns = self.pieces.iter().map(|piece| column(rows, &piece.column));
        Ok(ShapeWriter {
            shape: self,
            columns: columns.collect::<Result<_, _>>()?,
        })
    }
}

/// Writes rows of one batch.
pub(super) struct ShapeWriter<'a> {
    shape: &'a Shape,
    columns: Vec<&'a ArrayRef>,
}

impl ShapeWriter<'_> {
    /// Appends a row as JSON in one line.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), QueryError> {
        for (piece, values) in self.shape.pieces.iter().zip(&self.columns) {
            out.extend_from_slice(&piece.before);
            match values
                .as_string_opt::<i32>()
                .filter(|_| piece.is_json && values.is_valid(row))
            {
                // What stands between the tokens of a value may be line ends; inside of texts they are escaped.
                Some(texts) => out.extend(texts.value(row).bytes().map(|byte| match byte {
                    b'\n' | b'\r' => b' ',
                    byte => byte,
                })),
                None => write_value(out, values, row)?,
            }
        }
        out.extend_from_slice(&self.shape.end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use event::StreamName;
    use serde_json::json;

    use super::*;

    fn stream() -> StreamDeclaration {
        let declared = "[events.fields]\nevent_name = \"string\"\nuser_id = { type = \"int\", optional = true }\n\
                        more = { type = \"json\", optional = true }";
        let mut streams = event::stream::parse_streams(&declared.parse().expect("TOML")).expect("streams");
        assert_eq!(streams[0].name, StreamName::parse("events").expect("a name"));
        streams.remove(0)
    }

    fn written(shape: &Shape) -> String {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a \"b\""]));
        let users: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
        let more: ArrayRef = Arc::new(StringArray::from(vec!["{\n\"x\":\r1}"]));
        let columns = [("event_name", names), ("user_id", users), ("more", more)];
        let columns = columns.map(|(name, column)| (name, column, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns).expect("columns");
        let mut out = Vec::new();
        shape
            .writer(&rows)
            .expect("columns are there")
            .write(0, &mut out)
            .expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_template_stands_for_values_and_everything_else_is_itself() {
        let template =
            json!({"event": "$event_name", "user_id": "$user_id", "kind": "$$x", "n": [1, null, "$more"]});
        let shape = Shape::parse(&template, &stream()).expect("right");
        assert_eq!(
            written(&shape),
            r#"{"event":"a \"b\"","user_id":null,"kind":"$x","n":[1,null,{ "x": 1}]}"#
        );
        let error = Shape::parse(&json!({"a": "$usr"}), &stream()).expect_err("unknown");
        assert!(error.contains("`usr`"), "{error}");
        let alone = Shape::parse(&json!("$event_name"), &stream()).expect("right");
        assert_eq!(written(&alone), r#""a \"b\"""#);
    }

    #[test]
    fn the_whole_event_has_every_field_in_order() {
        let shape = Shape::event(&stream());
        let columns: Vec<_> = shape.pieces.iter().map(|piece| piece.column.as_str()).collect();
        assert_eq!(
            columns,
            ["event_name", "user_id", "more", "_received_at", "_trace_id"]
        );
    }
}
