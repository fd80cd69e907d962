//! What is told of an event: a template whose places are columns.
//!
//! Places are the declared fields, `_extra`, the system columns, `_index`, and `event`: the whole event as its client
//! could have sent it. A value is written as the general routes write it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use event::json::EventWriter;
use event::template::Part;
use event::{FieldType, StreamDeclaration, Template, schema};

use crate::QueryError;
use crate::json::write_value;
use crate::parameters::column;

/// The place of the whole event. No column has this name without being meant: a field that is called so comes first.
const WHOLE: &str = "event";

/// What is told of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventShape {
    parts: Vec<ShapePart>,
}

#[derive(Clone, Debug, PartialEq)]
enum ShapePart {
    Text(Vec<u8>),
    Index,
    /// A column; `json` says that its text is JSON already.
    Column {
        name: String,
        json: bool,
    },
    Whole,
}

impl EventShape {
    /// A shape with places for columns of `stream`.
    ///
    /// # Errors
    /// The name of the first place that is no column.
    pub fn new(stream: &StreamDeclaration, template: &Template) -> Result<Self, String> {
        let columns = schema::lake(stream);
        let part = |part: &Part| match part {
            Part::Text(text) => Ok(ShapePart::Text(text.clone())),
            Part::Place(name) if columns.column_with_name(name).is_some() => {
                let is_json = |name: &str| {
                    stream
                        .field(name)
                        .is_some_and(|field| field.kind == FieldType::Json)
                };
                Ok(ShapePart::Column {
                    name: name.clone(),
                    json: name == schema::EXTRA || is_json(name),
                })
            }
            Part::Place(name) if name == schema::INDEX => Ok(ShapePart::Index),
            Part::Place(name) if name == WHOLE => Ok(ShapePart::Whole),
            Part::Place(name) => Err(name.clone()),
        };
        let parts = template.parts().iter().map(part);
        Ok(Self {
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// As the general routes tell an event of `stream`: `_index`, the fields, `_extra`, `_received_at`, `_trace_id`.
    pub(crate) fn general(stream: &StreamDeclaration) -> Self {
        let columns = schema::lake(stream);
        let hidden = [schema::PARTITION, schema::OFFSET, schema::ROW];
        let names = columns.fields().iter().map(|field| field.name().as_str());
        let names = names.filter(|name| !hidden.contains(name));
        let places = std::iter::once(schema::INDEX)
            .chain(names)
            .map(|name| (name, name));
        Self::new(stream, &Template::object(places)).expect("its own columns are there")
    }

    /// The columns that it needs.
    pub(crate) fn columns(&self, stream: &StreamDeclaration) -> Vec<String> {
        let mut columns = Vec::new();
        for part in &self.parts {
            match part {
                ShapePart::Text(_) | ShapePart::Index => {}
                ShapePart::Column { name, .. } => columns.push(name.clone()),
                ShapePart::Whole => {
                    columns.extend(stream.fields.iter().map(|field| field.name.clone()));
                    let all = schema::lake(stream);
                    columns.extend(
                        all.column_with_name(schema::EXTRA)
                            .map(|_| schema::EXTRA.to_owned()),
                    );
                }
            }
        }
        columns
    }

    /// A writer for rows that have these columns.
    pub(crate) fn writer<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        rows: &'a RecordBatch,
    ) -> Result<ShapeWriter<'a>, QueryError> {
        let part = |part: &'a ShapePart| {
            Ok(match part {
                ShapePart::Text(text) => WriterPart::Text(text),
                ShapePart::Index => WriterPart::Index,
                ShapePart::Column { name, json } => WriterPart::Column(column(rows, name)?, *json),
                ShapePart::Whole => WriterPart::Whole(EventWriter::new(stream, rows)),
            })
        };
        let parts = self.parts.iter().map(part);
        Ok(ShapeWriter {
            parts: parts.collect::<Result<_, QueryError>>()?,
        })
    }
}

/// Writes events of one batch.
pub(crate) struct ShapeWriter<'a> {
    parts: Vec<WriterPart<'a>>,
}

enum WriterPart<'a> {
    Text(&'a [u8]),
    Index,
    Column(&'a ArrayRef, bool),
    Whole(EventWriter<'a>),
}

impl ShapeWriter<'_> {
    /// Writes one row; its index is null where it is not final yet.
    pub(crate) fn write(&self, out: &mut Vec<u8>, row: usize, index: Option<u64>) -> Result<(), QueryError> {
        for part in &self.parts {
            match part {
                WriterPart::Text(text) => out.extend_from_slice(text),
                WriterPart::Index => match index {
                    Some(index) => out.extend_from_slice(index.to_string().as_bytes()),
                    None => out.extend_from_slice(b"null"),
                },
                WriterPart::Column(values, true) if values.is_valid(row) => {
                    out.extend_from_slice(values.as_string::<i32>().value(row).as_bytes());
                }
                WriterPart::Column(values, _) => write_value(out, values, row)?,
                WriterPart::Whole(writer) => writer.write(row, out)?,
            }
        }
        Ok(())
    }
}
