//! The recipes: each started from its own files, and asked as the clients of the system that it replaces ask.

mod activity_metrics;
mod event_streaming;
#[path = "../harness/mod.rs"]
mod harness;
mod runify;
mod starter;
#[path = "../harness/tour.rs"]
mod tour;
mod user_tracking;
#[path = "../harness/websocket.rs"]
mod websocket;
