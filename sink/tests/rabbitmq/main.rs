//! RabbitMQ as a destination, against a real broker: confirmed, mandatory, persistent, at least once with the same ids,
//! the position in the broker.

mod broker;
mod delivery;
mod faults;
