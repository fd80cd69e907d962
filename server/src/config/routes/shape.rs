//! What is told of an event: `columns`, or a `shape` of any form.

use analytics::views::EventShape;
use event::template::Part;
use event::{StreamDeclaration, Template};
use toml::Value;

use super::super::check::hint;
use super::reading::Reading;

/// Reads `columns`, a list of names or a table that gives them others, or `shape`.
pub(super) fn read(reading: &mut Reading<'_>, stream: &StreamDeclaration) -> Option<EventShape> {
    let key = match (reading.value("columns"), reading.value("shape")) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            reading.problem("shape", "and `columns` are both given: keep one");
            return None;
        }
        (Some(_), None) => "columns",
        (None, Some(_)) => "shape",
    };
    let template = match reading.value(key) {
        Some(Value::Table(columns)) if key == "columns" => {
            let mut members = Vec::new();
            for (column, name) in columns {
                match name.as_str() {
                    Some(name) => members.push((name, column.as_str())),
                    None => reading.problem(&format!("{key}.{column}"), format!("{name} is not a name")),
                }
            }
            Template::object(members)
        }
        _ if key == "columns" => {
            let names = reading.texts(key)?;
            if names.is_empty() {
                reading.problem(key, "names no column");
            }
            Template::object(names.into_iter().map(|name| (name, name)))
        }
        _ => Template::new(&reading.json(key)?),
    };
    check_members(reading, key, &template);
    match EventShape::new(stream, &template) {
        Ok(shape) => Some(shape),
        Err(place) => {
            let fields = stream.fields.iter().map(|field| field.name.as_str());
            let system = ["_index", "_received_at", "_trace_id", "_extra"];
            let hint = hint(&place, fields.chain(system));
            reading.problem(
                key,
                format!("stream `{}` has no column `{place}`{hint}", stream.name),
            );
            None
        }
    }
}

/// Notes a member of the object of columns that is there twice.
fn check_members(reading: &mut Reading<'_>, key: &str, template: &Template) {
    let mut out = Vec::new();
    let never: Result<(), std::convert::Infallible> = template.write(&mut out, |_, out| {
        out.extend_from_slice(b"0");
        Ok(())
    });
    never.unwrap_or_else(|never| match never {});
    let parts = template
        .parts()
        .iter()
        .filter(|part| matches!(part, Part::Place(_)))
        .count();
    let whole: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(&out);
    if key == "columns" && whole.is_ok_and(|members| members.len() != parts) {
        reading.problem(key, "has a name twice");
    }
}
