//! `[routes."WS /path"]`: a WebSocket that gets the events of a stream as they come.

use event::StreamName;

use super::RoutePath;
use super::reading::Reading;

/// A path at which events are sent as they come.
#[derive(Clone, Debug)]
pub struct WsConfig {
    /// The stream that they are of.
    pub stream: StreamName,
}

const KEYS: &[&str] = &["stream"];

/// Reads the section.
pub(super) fn read(reading: &mut Reading<'_>, path: &RoutePath) -> Option<WsConfig> {
    reading.unknown_keys(KEYS);
    reading.no_parameters(path);
    let stream = reading.stream()?;
    Some(WsConfig {
        stream: stream.name.clone(),
    })
}
