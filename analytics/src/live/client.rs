//! Somebody who watches: a place among those who may, counted for as long as it lives.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Something that a connection holds for as long as it is open, such as its place among all connections. The server
/// puts it into the extensions of a request that may be upgraded, since it hears nothing of the connection after that.
#[derive(Clone)]
pub struct Held(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    kind: &'static str,
    stream: String,
    _place: OwnedSemaphorePermit,
    _held: Option<Held>,
}

impl Client {
    /// A client of that kind (`sse`, `websocket`).
    pub(super) fn new(
        kind: &'static str,
        stream: &str,
        place: OwnedSemaphorePermit,
        held: Option<Held>,
    ) -> Self {
        metrics::gauge!("tidemill_live_clients", "kind" => kind).increment(1.0);
        Self {
            kind,
            stream: stream.to_owned(),
            _place: place,
            _held: held,
        }
    }

    /// Counts events that were handed over to be sent.
    pub(super) fn sent(&self, events: u64) {
        let labels = [("kind", self.kind.to_owned()), ("stream", self.stream.clone())];
        metrics::counter!("tidemill_live_events_total", &labels).increment(events);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        metrics::gauge!("tidemill_live_clients", "kind" => self.kind).decrement(1.0);
    }
}
