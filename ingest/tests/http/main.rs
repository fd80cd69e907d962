//! Ingest over real connections: `ingest::http::serve` and `Ingest::handle` on a loopback socket, driven by
//! clients that write their own bytes. The journal is a model in memory: groups of batches, each encoded as a
//! record, so what is appended is also what can be stored.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod answers;
mod bodies;
mod connections;
mod journal;
mod posts;
mod server;
