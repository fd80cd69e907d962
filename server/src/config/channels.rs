//! Where a destination of the kind `redis` publishes: keys of its own.

use super::destinations::DestinationKind;
use super::reading::Reading;

/// Begins the names of channels when nothing is said.
const PREFIX: &str = "tidemill.";

/// Where events are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelsConfig {
    /// The one channel of all streams.
    pub channel: Option<String>,
    /// A stream's channel is this and its name, when there is no one channel.
    pub prefix: String,
}

impl Reading<'_> {
    pub(super) fn channels(&mut self, kind: Option<DestinationKind>) -> ChannelsConfig {
        let (foreign, of) = match kind {
            Some(DestinationKind::Redis) => (&["table_prefix", "load_data", "tables"][..], "a database"),
            _ => (&["channel", "channel_prefix"][..], "`redis`"),
        };
        let table = self.table;
        for key in foreign.iter().filter(|key| table.contains_key(**key)) {
            self.problem(key, format!("is a setting of {of}"));
        }
        let (channel, prefix) = (self.text("channel"), self.text("channel_prefix"));
        if channel.is_some() && prefix.is_some() {
            self.problem("channel_prefix", "and `channel` are both given: keep one");
        }
        if channel.as_ref().is_some_and(String::is_empty) {
            self.problem("channel", "is empty");
        }
        ChannelsConfig {
            channel,
            prefix: prefix.unwrap_or_else(|| PREFIX.to_owned()),
        }
    }
}
