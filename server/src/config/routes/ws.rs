//! `[routes."WS /path"]`: a WebSocket that gets the events of a stream as they come.
//!
//! | key | |
//! |---|---|
//! | `stream` | the stream |
//! | `shape` | what is told of an event: JSON in which `$field` stands for a value; all of it when absent |
//! | `after` | what must have committed an event before it is told: `journal`, `lake`, a destination; `live.after` when absent |

use analytics::live::Shape;
use event::StreamName;

use super::RoutePath;
use super::reading::Reading;

/// A path at which events are sent as they come.
#[derive(Clone, Debug)]
pub struct WsConfig {
    /// The stream that they are of.
    pub stream: StreamName,
    /// What is told of an event.
    pub shape: Option<serde_json::Value>,
    /// What must have committed an event, as it is written.
    pub after: Option<String>,
}

const KEYS: &[&str] = &["stream", "shape", "after"];

/// Reads the section. What `after` names is checked when everything else is known.
pub(super) fn read(reading: &mut Reading<'_>, path: &RoutePath) -> Option<WsConfig> {
    reading.unknown_keys(KEYS);
    reading.no_parameters(path);
    let (shape, after) = (reading.json("shape"), reading.text("after"));
    let stream = reading.stream()?;
    if let Some(Err(message)) = shape.as_ref().map(|shape| Shape::parse(shape, stream)) {
        reading.problem("shape", message);
    }
    Some(WsConfig {
        stream: stream.name.clone(),
        shape,
        after: after.map(str::to_owned),
    })
}
