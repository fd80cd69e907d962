//! Load: seeded events, and the client that sends them at a pace and measures the answers.
//!
//! ```text
//! generate (or files) ──► replay::batches ──► connections ──► a server ──► replay::Report
//! ```
//!
//! `tidemill generate` and `replay`, the demo, the benches and the soak test all use this one code, so that a
//! figure means the same wherever it is printed. Nothing in here knows the running server: it speaks HTTP only.

pub mod ask;
pub mod endpoint;
pub mod generate;
pub mod replay;
