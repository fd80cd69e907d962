//! RabbitMQ: connections that are made again, and queues that are made when they are not there.

use std::sync::Mutex;

use lapin::options::QueueDeclareOptions;
use lapin::runtime::default_runtime;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};

use super::UrlError;
use super::database::{unavailable, within};
use crate::AssignError;
use crate::retry::locked;

/// Whether a URL says how to reach a broker.
pub(super) fn check(url: &str) -> Result<(), UrlError> {
    // `amqps` is known to the parser, and there is nothing here to speak it with.
    if !url.starts_with("amqp://") {
        return Err(UrlError::Amqp);
    }
    url.parse::<AMQPUri>().map(drop).map_err(|_| UrlError::Amqp)
}

/// Connects.
pub(super) async fn connect(url: &str) -> Result<Connection, AssignError> {
    const OPERATION: &str = "connect to rabbitmq";
    let runtime = default_runtime().map_err(|error| unavailable(OPERATION, error.to_string()))?;
    let properties = ConnectionProperties::default().with_connection_name("tidemill assign".into());
    let connected = within(
        OPERATION,
        Connection::connect_with_runtime(url, properties, runtime),
    )
    .await?;
    connected.map_err(|error| unavailable(OPERATION, error.to_string()))
}

/// A channel on which the queue is there: as somebody has made it, or durable.
pub(super) async fn channel(connection: &Connection, queue: &str) -> Result<Channel, AssignError> {
    let open = || async {
        let opened = within("open a channel", connection.create_channel()).await?;
        opened.map_err(|error| unavailable("open a channel", error.to_string()))
    };
    let channel = open().await?;
    let look = QueueDeclareOptions::default().passive();
    let found = channel.queue_declare(queue.into(), look, FieldTable::default());
    if within("look for a queue", found).await?.is_ok() {
        return Ok(channel);
    }
    // What was not found has closed the channel.
    let channel = open().await?;
    let made = channel.queue_declare(
        queue.into(),
        QueueDeclareOptions::durable(),
        FieldTable::default(),
    );
    let made = within("make a queue", made).await?;
    made.map_err(|error| unavailable("make a queue", error.to_string()))?;
    Ok(channel)
}

/// Whether something can be done now, for whoever asks about health.
#[derive(Debug)]
pub(super) struct State(Mutex<Result<(), String>>);

impl State {
    pub(super) fn new(reason: &str) -> Self {
        Self(Mutex::new(Err(reason.to_owned())))
    }

    pub(super) fn read(&self) -> Result<(), String> {
        locked(&self.0).clone()
    }

    /// Notes how it is, and says so when that has changed.
    pub(super) fn set(&self, what: &'static str, state: Result<(), &AssignError>) {
        let state = state.map_err(ToString::to_string);
        let mut known = locked(&self.0);
        if known.is_ok() != state.is_ok() {
            match &state {
                Ok(()) => tracing::info!(what, "works again"),
                Err(error) => tracing::warn!(what, %error, "does not work, and is tried again"),
            }
        }
        *known = state;
    }
}
