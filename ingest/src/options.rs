//! Settings of ingest; the bounds behind them are in `event::limits`.

use event::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_BYTES_MAX};
use journal::Durability;

use crate::PostRoute;

/// Settings of [`Ingest`].
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// What an acknowledgement of the journal means ([`journal::Journal::durability`]).
    pub durability: Durability,
    /// Most bytes of bodies in flight; raised to `body_bytes_max`, so that the largest request always passes.
    pub in_flight_bytes_max: usize,
    /// Most bytes of an inflated body.
    pub body_bytes_max: usize,
    /// Most bytes of a compressed body.
    pub body_compressed_bytes_max: usize,
    /// `Retry-After` of a 429, in seconds.
    pub overload_retry_after: u64,
    /// `Retry-After` of a 503, in seconds.
    pub outage_retry_after: u64,
    /// `Allow` of `/v1/streams/{stream}/events` when something else than POST gets here.
    pub events_allow: &'static str,
    /// Routes that take events in a form of their own, besides those that the streams declare.
    pub routes: Vec<PostRoute>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            in_flight_bytes_max: 4 * BODY_BYTES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            body_compressed_bytes_max: BODY_COMPRESSED_BYTES_MAX,
            overload_retry_after: 1,
            outage_retry_after: 5,
            events_allow: "GET, HEAD, POST",
            routes: Vec::new(),
        }
    }
}
