//! What the binary `tidemill` is made of: configuration, the running server, and the command line.
//!
//! ```text
//! cli ──► config (parse → check) ──► serve: journal ─ lake ─ sink ─ analytics ─ ingest ─ sockets
//! ```
//!
//! Only this crate opens sockets, reads configuration and the environment, and knows every stage; the stages
//! never know each other.

mod access;
pub mod cli;
pub mod config;
pub mod load;
pub mod processor;
pub mod serve;
pub mod version;
