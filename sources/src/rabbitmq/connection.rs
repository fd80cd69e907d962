//! A queue that is consumed by hand: what is not acknowledged when the connection goes comes again.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ErrorKind};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::SourceError;

/// Longest time for any answer of the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often either side shows that it lives, unless the URL says another time.
const HEARTBEAT_SECONDS: u16 = 10;

/// Longest name in AMQP, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// AMQP's "there is none".
const NOT_FOUND: u16 = 404;

/// Whether a URL says how to reach a broker.
///
/// # Errors
/// What is wrong with it, without any part of it.
pub fn check_url(url: &str) -> Result<(), String> {
    Broker::parse(url).map(drop)
}

/// How to reach a broker.
#[derive(Clone)]
pub(crate) struct Broker(AMQPUri);

impl Broker {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "is not a URL of RabbitMQ: expected `amqp://user:password@host:port/vhost`, with \
             everything but letters, digits and `-._~` percent-encoded; the virtual host `/` is `%2F` or left out";
        let parsed = url::Url::parse(url).map_err(|_| FORM.to_owned())?;
        let mut uri: AMQPUri = url.parse().map_err(|_: String| FORM.to_owned())?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(
                "begins with `amqps://`, which is not supported: let a TLS proxy beside the process speak to the \
                 broker, and write `amqp://`"
                    .to_owned(),
            );
        }
        match parsed.host() {
            Some(url::Host::Ipv6(address)) => uri.authority.host = address.to_string(),
            Some(_) => {}
            None => return Err(FORM.to_owned()),
        }
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self(uri))
    }
}

/// A queue that is being consumed.
pub(crate) struct Consuming {
    /// Dropping it closes it.
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

/// A message that nobody has acknowledged yet.
pub(crate) type Message = Delivery;

/// Messages that are done with, and those that are refused, whose numbers are given in order.
pub(crate) fn split<'a>(messages: &'a [Message], refused: &[usize]) -> (Vec<&'a Message>, Vec<&'a Message>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (at, message) in messages.iter().enumerate() {
        if refused.binary_search(&at).is_ok() {
            bad.push(message);
        } else {
            good.push(message);
        }
    }
    (good, bad)
}

impl Consuming {
    /// Connects and consumes. A queue that is missing is declared durable; one that is there may be of any kind.
    pub(crate) async fn begin(broker: &Broker, queue: &str, prefetch: u16) -> Result<Self, SourceError> {
        let name = ShortString::try_new(queue).map_err(|_| {
            SourceError::Config(format!(
                "queue `{queue}` exceeds AMQP's limit of {NAME_BYTES_MAX} bytes"
            ))
        })?;
        let begun = timeout(ANSWER_WITHIN, consume(broker, &name, prefetch)).await;
        begun.unwrap_or_else(|_| Err(SourceError::late("consume a queue", ANSWER_WITHIN)))
    }

    /// Waits for messages, and gives as many as are there, up to `most`. `None` when told to stop.
    pub(crate) async fn next(
        &mut self,
        most: usize,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<Vec<Message>>, SourceError> {
        let mut told = stopping.clone();
        let first = tokio::select! {
            biased;
            _ = told.wait_for(|stop| *stop) => return Ok(None),
            first = self.consumer.next() => delivered(first)?,
        };
        let mut messages = vec![first];
        while messages.len() < most
            && let Some(next) = self.consumer.next().now_or_never()
        {
            messages.push(delivered(next)?);
        }
        Ok(Some(messages))
    }

    /// Says that messages are done with.
    pub(crate) async fn acknowledge(&self, messages: &[&Message]) -> Result<(), SourceError> {
        for message in messages {
            let acknowledged = message.ack(BasicAckOptions::default()).await;
            acknowledged.map_err(|error| failure("acknowledge a message", &error))?;
        }
        Ok(())
    }

    /// Says that messages are of no use: the broker dead-letters them if the queue says where to, and else drops them.
    pub(crate) async fn refuse(&self, messages: &[&Message]) -> Result<(), SourceError> {
        for message in messages {
            let refused = message.nack(BasicNackOptions::default()).await;
            refused.map_err(|error| failure("refuse a message", &error))?;
        }
        Ok(())
    }

    /// Ends in order, so that the last acknowledgements arrive.
    pub(crate) async fn end(self) {
        let closing = async {
            // What cannot be closed is gone already.
            let _ = self.channel.close(200, ShortString::from("done")).await;
            let _ = self.connection.close(200, ShortString::from("done")).await;
        };
        let _ = timeout(Duration::from_secs(1), closing).await;
    }
}

async fn consume(broker: &Broker, queue: &ShortString, prefetch: u16) -> Result<Consuming, SourceError> {
    const OPERATION: &str = "consume a queue";
    let failed = |error| failure(OPERATION, &error);
    let name = ConnectionProperties::default().with_connection_name("tidemill".into());
    let connection = Connection::connect_uri(broker.0.clone(), name).await;
    let connection = connection.map_err(|error| failure("connect to RabbitMQ", &error))?;
    declare(&connection, queue).await?;
    let channel = connection.create_channel().await.map_err(failed)?;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(failed)?;
    let consumer = channel.basic_consume(
        queue.clone(),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = consumer.await.map_err(failed)?;
    Ok(Consuming {
        connection,
        channel,
        consumer,
    })
}

async fn declare(connection: &Connection, queue: &ShortString) -> Result<(), SourceError> {
    const OPERATION: &str = "declare a queue";
    let failed = |error| failure(OPERATION, &error);
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    // A "no" closes the channel.
    let channel = connection.create_channel().await.map_err(failed)?;
    match channel
        .queue_declare(queue.clone(), passive, FieldTable::default())
        .await
    {
        Ok(_) => return Ok(()),
        Err(error) if reply_code(&error) == Some(NOT_FOUND) => {}
        Err(error) => return Err(failure(OPERATION, &error)),
    }
    let channel = connection.create_channel().await.map_err(failed)?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(queue.clone(), durable, FieldTable::default())
        .await;
    declared.map(drop).map_err(failed)
}

fn delivered(next: Option<lapin::Result<Message>>) -> Result<Message, SourceError> {
    const OPERATION: &str = "wait for messages";
    match next {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(failure(OPERATION, &error)),
        None => Err(SourceError::Away {
            operation: OPERATION,
            message: "the broker ended the consumer: the queue was removed, or the connection closed"
                .to_owned(),
        }),
    }
}

fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

fn failure(operation: &'static str, error: &lapin::Error) -> SourceError {
    let message = match error.kind() {
        ErrorKind::ProtocolError(said) => format!("{} (reply code {})", said.get_message(), said.get_id()),
        _ => error.to_string(),
    };
    SourceError::Away { operation, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_to_reach_the_broker_and_no_part_of_it_is_shown() {
        for url in [
            "amqp://me:hunter2@broker:5672/%2f",
            "amqp://[::1]",
            "amqp://broker//",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for wrong in [
            "hunter2",
            "amqps://me:hunter2@broker",
            "amqp://me@broker:hunter2",
            "amqp:///hunter2",
        ] {
            let error = check_url(wrong).expect_err(wrong);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
