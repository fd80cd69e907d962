//! Ingest: from an HTTP request to a durable answer.
//!
//! [`Ingest`] answers one `POST` of events: it checks the head, admits the request against a byte budget,
//! streams the body through the decoder, appends what was accepted and what was rejected as one group, and
//! answers once all of it is durable. [`http`] serves connections with the limits and the strictness that
//! every route needs. The server owns sockets and routing and calls both.
//!
//! Promises kept here: I-1 (accepted + rejected = submitted, durable before the answer), I-4 (budget, caps,
//! timeouts), I-7 (once closed nothing new begins, what is in flight finishes).
//!
//! ```text
//! connection ─► http::serve ─► Ingest::handle ─► request (head) ─► admission ─► body ─► inflate ─► Decoder
//!                                    ▲                                                               │
//!                                    └── answer ◄── Batcher::append [accepted …, _rejects] ◄─────────┘
//! ```

mod admission;
mod answer;
mod body;
mod counts;
pub mod http;
mod inflate;
mod media;
mod options;
mod post;
pub mod problem;
mod request;
pub mod route;
mod service;
pub mod trace;

pub use options::IngestOptions;
pub use post::{FixedAnswer, InvalidAnswer, MESSAGE_PLACE, PostRoute, PostSource};
pub use problem::Problem;
pub use route::Route;
pub use service::Ingest;
pub use trace::TraceContext;
