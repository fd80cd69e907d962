//! The routes of assigning in the document, and what they take away from it: nobody posts to the streams of steps and
//! answers.

use event::StreamName;
use serde_json::{Value, json};

use super::{plain, problem};

/// Adds what a process that assigns answers. `own` are the streams that it writes itself.
pub(in crate::serve) fn add(document: &mut Value, own: &[StreamName]) {
    let paths = &mut document["paths"];
    for stream in own {
        let events = paths.get_mut(format!("/v1/streams/{stream}/events"));
        if let Some(events) = events.and_then(Value::as_object_mut) {
            events.remove("post");
        }
    }
    paths["/users/{user}/active"] = json!({
        "parameters": [parameter("user", 256)],
        "post": operation("Somebody is there, for the time of a session from now on"),
        "delete": operation("Somebody goes; what is open goes to others")
    });
    let mut settle = operation("Somebody says what became of an event");
    settle["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": {
        "type": "object", "required": ["status"],
        "properties": { "status": { "type": "string", "enum": ["completed", "rejected"] } }
    } } } });
    paths["/assignments/{assignment}"] =
        json!({ "parameters": [parameter("assignment", 512)], "put": settle });
    let mut health = plain("Whether events can be handed to people");
    health["responses"]["503"] = json!({ "description": "They cannot; the body says why" });
    paths["/health"] = json!({ "get": health });
}

fn operation(summary: &str) -> Value {
    json!({ "summary": summary, "tags": ["people"], "responses": {
        "200": { "description": "Done", "content": { "application/json": { "schema": { "type": "object" } } } },
        "default": problem()
    } })
}

fn parameter(name: &str, length_max: usize) -> Value {
    json!({ "name": name, "in": "path", "required": true,
        "schema": { "type": "string", "minLength": 1, "maxLength": length_max } })
}
