//! `[routes."POST /path"]`: a further path that takes events of a stream.

use event::StreamName;

use super::RoutePath;
use super::reading::Reading;

/// A path that takes events.
#[derive(Clone, Debug)]
pub struct PostConfig {
    /// The stream that they are for.
    pub stream: StreamName,
}

const KEYS: &[&str] = &["stream"];

/// Reads the section.
pub(super) fn read(reading: &mut Reading<'_>, path: &RoutePath) -> Option<PostConfig> {
    reading.unknown_keys(KEYS);
    reading.no_parameters(path);
    let stream = reading.stream()?;
    Some(PostConfig {
        stream: stream.name.clone(),
    })
}
