//! The configured POST routes in the document: in what form events are taken, and which statuses come back.

use std::sync::Arc;

use event::{FieldDeclaration, FieldType, StreamDeclaration};
use ingest::PostSource;
use serde_json::{Map, Value, json};

use super::{field_schema, ingest, problem, query, schema_name};
use crate::config::{PostConfig, RouteConfig, RouteKind};

/// Paths and their POST operations, of routes that take events of these streams.
pub(super) fn operations<'a>(
    routes: &'a [RouteConfig],
    streams: &'a [Arc<StreamDeclaration>],
) -> impl Iterator<Item = (String, Value)> {
    routes.iter().filter_map(|route| {
        let RouteKind::Post(post) = &route.kind else {
            return None;
        };
        let stream = streams.iter().find(|stream| stream.name == post.stream)?;
        Some((route.path.to_string(), operation(post, stream)))
    })
}

fn operation(post: &PostConfig, stream: &StreamDeclaration) -> Value {
    let mut operation = ingest(stream);
    match &post.source {
        PostSource::Body => {}
        PostSource::Envelope(envelope) => {
            let event =
                json!({ "$ref": format!("#/components/schemas/{}", schema_name(stream.name.as_str())) });
            let mut members = Map::new();
            members.insert(
                envelope.member.clone(),
                json!({ "type": "array", "items": event }),
            );
            for (member, field) in &envelope.fields {
                let schema = stream.field(field).map_or_else(|| json!({}), field_schema);
                members.insert(member.clone(), schema);
            }
            let schema = json!({ "type": "object", "required": [envelope.member], "properties": members });
            let content = json!({ "application/json": { "schema": schema } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        PostSource::Query => {
            let parameters: Vec<_> = stream.fields.iter().map(parameter).collect();
            operation["parameters"] = json!(parameters);
            if let Some(operation) = operation.as_object_mut() {
                operation.remove("requestBody");
            }
        }
    }
    if let Some(answer) = &post.answer {
        let mut responses = json!({ "default": problem() });
        responses[answer.status.to_string()] = json!({ "description": "At least one event is stored" });
        let invalid = post.invalid.as_ref().map(|invalid| invalid.status);
        for status in invalid.map_or_else(|| vec![400, 422], |status| vec![status]) {
            responses[status.to_string()] =
                json!({ "description": "Nothing was accepted, or the request is not what it says it is" });
        }
        operation["responses"] = responses;
    }
    operation
}

/// A field as a parameter of the query string.
fn parameter(field: &FieldDeclaration) -> Value {
    let mut alone = field.clone();
    (alone.optional, alone.description) = (false, String::new());
    let schema = match field.kind {
        // Any JSON, as text.
        FieldType::Json => json!({ "type": "string" }),
        _ => field_schema(&alone),
    };
    let mut parameter = query(&field.path.join("."), &field.description, schema);
    parameter["required"] = json!(!field.optional);
    parameter
}
