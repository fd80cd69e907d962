//! Queues of RabbitMQ: messages that are acknowledged when what they ask for is durable.
//!
//! `connection.rs` consumes a queue for whoever needs one; `queue.rs` brings its messages into a stream as events.

mod connection;
mod queue;

pub use connection::check_url;
pub(crate) use connection::{Broker, Consuming, Message, split};
pub use queue::QueueOptions;
pub(crate) use queue::QueueSource;
