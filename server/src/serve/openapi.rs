//! `GET /openapi.json`: OpenAPI 3.1, made of the declarations, the configured routes and the fixed ones.

pub(super) mod people;
mod posts;
mod views;

use std::sync::Arc;

use analytics::PAGE_EVENTS_MAX;
use event::{FieldDeclaration, FieldType, RejectCode, StreamDeclaration, TimeUnit, UnknownFields};
use serde_json::{Map, Value, json};

use crate::config::RouteConfig;

/// 0001-01-01 and 10000-01-01 in seconds since 1970: what lies between is a timestamp.
const YEAR_1_S: i64 = -62_135_596_800;
const YEAR_10000_S: i64 = 253_402_300_800;

/// The document about these streams and the routes that are about them alone. `secured` says that requests need a
/// token.
pub(super) fn document(streams: &[Arc<StreamDeclaration>], routes: &[RouteConfig], secured: bool) -> Value {
    let mut paths = Map::new();
    let mut schemas = fixed_schemas();
    for stream in streams {
        let name = stream.name.as_str();
        schemas.insert(schema_name(name), event_schema(stream));
        if !stream.name.is_built_in() && stream.rollup.is_none() {
            paths.insert(
                format!("/v1/streams/{name}/events"),
                json!({
                    "get": range(stream), "post": ingest(stream)
                }),
            );
            for route in &stream.routes {
                paths.insert(route.clone(), json!({ "post": ingest(stream) }));
            }
        } else {
            paths.insert(
                format!("/v1/streams/{name}/events"),
                json!({ "get": range(stream) }),
            );
        }
        paths.insert(
            format!("/v1/streams/{name}/events/{{index}}"),
            json!({ "get": nth(name) }),
        );
        paths.insert(
            format!("/v1/streams/{name}/stats"),
            json!({ "get": stats(stream) }),
        );
        paths.insert(
            format!("/v1/streams/{name}"),
            json!({
                "get": plain(&format!("Declaration, schema and counts of `{name}`"))
            }),
        );
    }
    paths.extend(fixed_paths());
    for (path, operation) in views::operations(routes, streams) {
        // A path may take events as well.
        let place = paths.entry(path).or_insert_with(|| json!({}));
        place["get"] = operation;
    }
    for (path, operation) in posts::operations(routes, streams) {
        let place = paths.entry(path).or_insert_with(|| json!({}));
        place["post"] = operation;
    }
    let security = if secured {
        json!([{ "token": [] }])
    } else {
        json!([])
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidemill",
            "version": crate::version::TEXT,
            "description": "Takes events in bulk, makes them durable before it answers, answers questions about them."
        },
        "paths": paths,
        "security": security,
        "components": { "schemas": schemas, "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } }
    })
}

fn schema_name(stream: &str) -> String {
    format!("event_{}", stream.trim_start_matches('_'))
}

fn fixed_paths() -> Map<String, Value> {
    let sql_answers = json!({
        "200": { "description": "The rows, in the form that `Accept` names", "content": {
            "application/json": {}, "application/x-ndjson": {}, "text/csv": {},
            "application/vnd.apache.arrow.stream": {}, "application/vnd.apache.parquet": {}, "text/plain": {}
        } },
        "default": problem()
    });
    let all = json!({
        "/v1/streams": { "get": plain("Every stream: declaration, schema, counts") },
        "/v1/stats": { "get": plain("Counts and statistics of every stream, at a glance") },
        "/v1/sql": {
            "get": {
                "summary": "Answers one read-only SQL statement", "tags": ["questions"],
                "parameters": [
                    query_required("q", "the statement", json!({"type": "string", "minLength": 1})),
                    query("limit", "most rows", json!({"type": "integer", "minimum": 0}))
                ],
                "responses": sql_answers
            },
            "post": {
                "summary": "Answers one read-only SQL statement", "tags": ["questions"],
                "requestBody": { "required": true, "content": {
                    "text/plain": { "schema": { "type": "string" } },
                    "application/json": { "schema": { "type": "object", "required": ["sql"], "properties": {
                        "sql": { "type": "string", "minLength": 1 }, "params": { "type": "array" },
                        "limit": { "type": "integer", "minimum": 0 },
                        "timeout": { "type": "string", "pattern": "^[1-9][0-9]{0,2}s$" }
                    } } }
                } },
                "responses": sql_answers
            }
        },
        "/livez": { "get": plain("Whether the process runs") },
        "/readyz": { "get": {
            "summary": "Whether events can be taken and questions answered", "tags": ["operations"],
            "responses": { "200": { "description": "ready" }, "503": { "description": "not ready; the body says why" } }
        } },
        "/metrics": { "get": plain("Prometheus text") },
        "/version": { "get": plain("Which Tidemill this is") },
        "/openapi.json": { "get": plain("This document") },
        "/docs": { "get": plain("This document for people, by Swagger UI") },
        "/redoc": { "get": plain("This document for people, by ReDoc") }
    });
    match all {
        Value::Object(paths) => paths,
        _ => Map::new(),
    }
}

fn fixed_schemas() -> Map<String, Value> {
    let codes: Vec<&str> = RejectCode::ALL.iter().map(|code| code.as_str()).collect();
    let position = json!({ "type": "object", "properties": {
        "partition": { "type": "integer" }, "offset": { "type": "integer" } } });
    let rejection = json!({ "type": "object", "properties": {
        "line": { "type": "integer" }, "code": { "type": "string", "enum": codes },
        "field": { "type": ["string", "null"] }, "message": { "type": "string" }, "retryable": { "type": "boolean" }
    } });
    let answer = json!({ "type": "object", "properties": {
        "accepted": { "type": "integer" }, "rejected": { "type": "integer" },
        "durability": { "type": "string", "enum": ["fsync", "kafka_acks_all"] },
        "trace_id": { "type": "string" },
        "positions": { "type": "array", "items": position },
        "rejections": { "type": "array", "items": rejection },
        "rejections_truncated": { "type": "boolean" }
    } });
    let problem = json!({ "type": "object", "description": "RFC 9457", "properties": {
        "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" },
        "detail": { "type": "string" }
    } });
    Map::from_iter([
        ("ingest_answer".to_owned(), answer),
        ("problem".to_owned(), problem),
    ])
}

fn ingest(stream: &StreamDeclaration) -> Value {
    let event = json!({ "$ref": format!("#/components/schemas/{}", schema_name(stream.name.as_str())) });
    json!({
        "summary": format!("Takes events of `{}`: durable when it answers", stream.name),
        "description": stream.description,
        "tags": ["events in"],
        "parameters": [query("on_error", "`reject` makes the request all or nothing", json!({"type": "string", "enum": ["skip", "reject"]}))],
        "requestBody": { "required": true, "content": {
            "application/x-ndjson": { "schema": { "type": "string", "description": "one event a line" } },
            "application/json": { "schema": { "oneOf": [event.clone(), { "type": "array", "minItems": 1, "items": event }] } }
        } },
        "responses": {
            "200": { "description": "At least one event was accepted", "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/ingest_answer" } } } },
            "422": { "description": "Every line was rejected", "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/ingest_answer" } } } },
            "429": { "description": "Too much is in flight: try again after `Retry-After`" },
            "503": { "description": "The journal cannot take it now: try again after `Retry-After`" },
            "default": problem()
        }
    })
}

fn range(stream: &StreamDeclaration) -> Value {
    let name = stream.name.as_str();
    let mut value = plain(&format!(
        "Events of `{name}` in [start, end), in index order, with a stable cursor"
    ));
    value["tags"] = json!(["questions"]);
    let mut parameters = times();
    parameters.push(query(
        "limit",
        "most events of one page",
        json!({"type": "integer", "minimum": 1, "maximum": PAGE_EVENTS_MAX}),
    ));
    parameters.push(query(
        "cursor",
        "`next_cursor` of the last page, with everything else as it was",
        json!({"type": "string", "pattern": "^[0-9a-f]{9,24}$"}),
    ));
    parameters.extend(stream.fields.iter().filter_map(filter));
    value["parameters"] = json!(parameters);
    value
}

/// The range of time that a question is about.
fn times() -> Vec<Value> {
    vec![
        query("start", "the first moment", moment()),
        query("end", "the moment after the last", moment()),
    ]
}

/// A moment in a question.
fn moment() -> Value {
    json!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "integer", "format": "int64", "description": "microseconds since 1970"}
    ]})
}

/// What a field must equal. Parts of JSON are for SQL.
fn filter(field: &FieldDeclaration) -> Option<Value> {
    if field.kind == FieldType::Json {
        return None;
    }
    let schema = match &field.kind {
        FieldType::Int { .. } => json!({"type": "integer", "format": "int64"}),
        FieldType::String { .. } => json!({"type": "string"}),
        FieldType::Timestamp { .. } => moment(),
        FieldType::Bool
        | FieldType::Float { .. }
        | FieldType::Enum { .. }
        | FieldType::Uuid
        | FieldType::Json => {
            let mut plain = field.clone();
            plain.optional = false;
            plain.description = String::new();
            field_schema(&plain)
        }
    };
    Some(query(
        &field.name,
        "only events in which this field has this value",
        schema,
    ))
}

fn nth(stream: &str) -> Value {
    json!({
        "summary": format!("The nth event of `{stream}`, from 0"),
        "tags": ["questions"],
        "parameters": [{ "name": "index", "in": "path", "required": true, "schema": { "type": "integer", "format": "int64", "minimum": 0 } }],
        "responses": {
            "200": { "description": "The event" }, "404": { "description": "Past the end" },
            "410": { "description": "Removed by retention" }, "default": problem()
        }
    })
}

fn stats(stream: &StreamDeclaration) -> Value {
    let mut value = plain(&format!("Counts and statistics of `{}`", stream.name));
    value["tags"] = json!(["questions"]);
    let mut parameters = times();
    parameters.push(query(
        "interval",
        "one row for each, as `1h`; more rows than an answer may have are an error",
        json!({"type": "string", "pattern": "^[1-9][0-9]{0,3}[dw]$|^[1-9][0-9]{0,3}h$|^[1-9][0-9]{0,5}[ms]$"}),
    ));
    let fields = stream.fields.iter().filter(|field| field.kind != FieldType::Json);
    let names: Vec<_> = fields.map(|field| field.name.as_str()).collect();
    if !names.is_empty() {
        let by = json!({"type": "string", "enum": names});
        parameters.push(query("by", "one row for each value of this field", by));
    }
    value["parameters"] = json!(parameters);
    value
}

fn plain(summary: &str) -> Value {
    json!({ "summary": summary, "tags": ["operations"], "responses": { "200": { "description": "The answer" }, "default": problem() } })
}

fn query(name: &str, about: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

fn query_required(name: &str, about: &str, schema: Value) -> Value {
    let mut parameter = query(name, about, schema);
    parameter["required"] = json!(true);
    parameter
}

fn problem() -> Value {
    json!({ "description": "What went wrong", "content": {
        "application/problem+json": { "schema": { "$ref": "#/components/schemas/problem" } } } })
}

/// The JSON Schema of one event. A field that is read from inside another value is shown where it is read.
fn event_schema(stream: &StreamDeclaration) -> Value {
    let mut schema = json!({ "type": "object", "description": stream.description });
    for field in &stream.fields {
        place(&mut schema, &field.path, field);
    }
    if stream.unknown_fields == UnknownFields::Reject {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn place(schema: &mut Value, path: &[String], field: &FieldDeclaration) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        let whole = field_schema(field);
        // A `json` field may be declared beside columns that are read from inside of it.
        let place = &mut schema["properties"][key];
        if place.is_null() {
            *place = whole;
        } else {
            place["description"] = whole["description"].clone();
        }
        if !field.optional {
            match schema["required"].as_array_mut() {
                Some(required) => required.push(json!(key)),
                None => schema["required"] = json!([key]),
            }
        }
    } else {
        let below = &mut schema["properties"][key];
        if !below.is_object() {
            *below = json!({ "type": ["object", "null"] });
        }
        if !field.optional && below["type"].is_array() {
            below["type"] = json!("object");
        }
        place(below, rest, field);
    }
}

fn field_schema(field: &FieldDeclaration) -> Value {
    let mut schema = match &field.kind {
        FieldType::Bool => json!({ "type": "boolean" }),
        FieldType::Int { min, max } => {
            let mut schema = json!({ "type": "integer", "format": "int64" });
            if *min != i64::MIN {
                schema["minimum"] = json!(min);
            }
            if *max != i64::MAX {
                schema["maximum"] = json!(max);
            }
            schema
        }
        FieldType::Float { .. } => json!({ "type": "number" }),
        FieldType::String { max_bytes } => json!({ "type": "string", "maxLength": max_bytes }),
        FieldType::Enum { values } => json!({ "type": "string", "enum": values }),
        FieldType::Uuid => json!({ "type": "string", "format": "uuid" }),
        FieldType::Timestamp { unit: None } => json!({ "type": "string", "format": "date-time" }),
        FieldType::Timestamp { unit: Some(unit) } => {
            let (name, of_second) = match unit {
                TimeUnit::Seconds => ("seconds since 1970", 1),
                TimeUnit::Milliseconds => ("milliseconds since 1970", 1_000),
                TimeUnit::Microseconds => ("microseconds since 1970", 1_000_000),
            };
            json!({
                "type": "integer", "format": "int64", "description": name,
                "minimum": YEAR_1_S * of_second, "maximum": YEAR_10000_S * of_second - 1
            })
        }
        FieldType::Json => json!({}),
    };
    if field.optional
        && let Some(kind) = schema.get("type").cloned()
    {
        schema["type"] = json!([kind, "null"]);
    }
    if !field.description.is_empty() {
        schema["description"] = json!(field.description);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let rejects = Arc::new(StreamDeclaration::rejects());
        let document = document(&[rejects], &[], true);
        let text = document.to_string();
        let references = text
            .split("\"$ref\":\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        let mut found = 0;
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
            found += 1;
        }
        assert!(found > 0);
        assert_eq!(document["openapi"], "3.1.0");
    }
}
