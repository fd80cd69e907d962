//! The configured GET routes in the document: what may be asked, and which statuses come back.

use std::sync::Arc;

use analytics::views::{Meaning, NEWEST_EVENTS_MAX, Order, View, ViewQuestion};
use event::StreamDeclaration;
use serde_json::{Value, json};

use super::{filter, problem, query, stats, times};
use crate::config::{FixedConfig, GetConfig, RouteConfig, RouteKind, RoutePath};

/// Paths and their GET operations, of routes about these streams alone.
pub(super) fn operations<'a>(
    routes: &'a [RouteConfig],
    streams: &'a [Arc<StreamDeclaration>],
) -> impl Iterator<Item = (String, Value)> {
    routes.iter().filter_map(|route| {
        let operation = match &route.kind {
            RouteKind::Get(GetConfig::Fixed(fixed)) => of_fixed(fixed),
            RouteKind::Get(GetConfig::View(view)) => of_view(view, &route.path, streams)?,
            RouteKind::Post(_) | RouteKind::Ws(_) => return None,
        };
        Some((route.path.to_string(), operation))
    })
}

fn of_fixed(fixed: &FixedConfig) -> Value {
    let mut responses =
        json!({ fixed.answer.status.to_string(): { "description": "What is always answered" } });
    if let Some(unready) = &fixed.unready {
        responses[unready.status.to_string()] = json!({ "description": "The process is not ready" });
    }
    json!({ "summary": "Answers the same each time", "tags": ["operations"], "responses": responses })
}

fn of_view(view: &View, path: &RoutePath, streams: &[Arc<StreamDeclaration>]) -> Option<Value> {
    let declared = |name: &event::StreamName| streams.iter().find(|stream| stream.name == *name);
    let read: Option<Vec<_>> = view.streams().iter().map(declared).collect();
    let read = read?;
    let names: Vec<_> = read.iter().map(|stream| format!("`{}`", stream.name)).collect();
    let names = names.join(", ");
    let summary = match &view.question {
        ViewQuestion::Events(events) => match events.order {
            Order::Index => format!("Events of {names}, in index order"),
            Order::Newest => format!("Events of {names}, the newest received first"),
        },
        ViewQuestion::Event(_) => format!("The nth event of {names}, from 0"),
        ViewQuestion::Statistics(_) => format!("Counts and statistics of {names}"),
    };
    let parameters = view.parameters.named.iter().map(|(name, meaning)| {
        let mut parameter = parameter(view, name, meaning, read.first().copied());
        if path.parameters().any(|of_path| of_path == name) {
            parameter["in"] = json!("path");
            parameter["required"] = json!(true);
        } else if view.parameters.required.contains(name) {
            parameter["required"] = json!(true);
        }
        parameter
    });
    let invalid = view.invalid.as_ref().map_or(400, |invalid| invalid.status);
    let mut responses = json!({
        "200": { "description": "The answer", "content": { "application/json": {} } },
        invalid.to_string(): { "description": "The request is wrong, or asks for more than one answer has" },
        "default": problem()
    });
    if let ViewQuestion::Event(event) = &view.question {
        let missing = event.missing.as_ref().map_or(404, |missing| missing.status);
        responses[missing.to_string()] = json!({ "description": "There is no such event" });
    }
    Some(json!({
        "summary": summary, "tags": ["questions"], "parameters": parameters.collect::<Vec<_>>(), "responses": responses
    }))
}

fn parameter(view: &View, name: &str, meaning: &Meaning, stream: Option<&Arc<StreamDeclaration>>) -> Value {
    let lenient = view.parameters.lenient;
    let (limit_max, offset_max) = match &view.question {
        ViewQuestion::Events(events) => {
            let newest = events.order == Order::Newest;
            (
                events.limit_max,
                newest.then(|| NEWEST_EVENTS_MAX - events.limit_max),
            )
        }
        ViewQuestion::Event(_) | ViewQuestion::Statistics(_) => (0, None),
    };
    let number = |max: Option<usize>| {
        let mut schema = json!({ "type": "integer", "format": "int64", "minimum": 0 });
        if let Some(max) = max {
            schema["maximum"] = json!(max);
        }
        if lenient.numbers { json!({}) } else { schema }
    };
    let moment = |at: usize| times().into_iter().nth(at).map(|time| time["schema"].clone());
    let of_stats = |word: &str| {
        let whole = stats(stream?);
        let parameters = whole["parameters"].as_array()?.clone();
        parameters
            .into_iter()
            .find(|one| one["name"] == word)
            .map(|one| one["schema"].clone())
    };
    let (about, schema) = match meaning {
        Meaning::Start => ("the first moment", moment(0)),
        Meaning::End => ("the moment after the last", moment(1)),
        Meaning::Limit => ("most events", Some(number(Some(limit_max)))),
        Meaning::Offset => ("events that are skipped", Some(number(offset_max))),
        Meaning::Cursor => ("where the last page ended, with everything else as it was", None),
        Meaning::Index => ("the number of the event, from 0", Some(number(None))),
        Meaning::Interval => ("one row for each, as `1h`", of_stats("interval")),
        Meaning::By => ("one row for each value of this field", of_stats("by")),
        Meaning::Field(field) => (
            "only events in which this field has this value",
            value(view, field, stream),
        ),
    };
    query(name, about, schema.unwrap_or_else(|| json!({ "type": "string" })))
}

/// What a field may equal, with the names that stand for several values.
fn value(view: &View, field: &str, stream: Option<&Arc<StreamDeclaration>>) -> Option<Value> {
    if view.parameters.lenient.values {
        return Some(json!({}));
    }
    let mut schema = filter(stream?.field(field)?)?["schema"].clone();
    if let (Some(values), Some(aliases)) = (schema["enum"].as_array_mut(), view.parameters.aliases.get(field))
    {
        values.extend(aliases.keys().map(|name| json!(name)));
    }
    Some(schema)
}
