//! Messages of a queue → events of a stream. One message is one JSON object, held to the rule of every request.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::connection::{Broker, Consuming, Message, split};
use crate::inlet::Inlet;
use crate::progress::Shared;
use crate::{Part, SourceError};

/// Which queue.
#[derive(Clone)]
pub struct QueueOptions {
    /// `amqp://user:password@host:port/vhost`. It may carry a password, so it is never shown.
    pub url: String,
    /// The queue; declared durable when it is missing.
    pub queue: String,
    /// Most messages that are taken and not acknowledged yet.
    pub prefetch: u16,
}

impl fmt::Debug for QueueOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOptions")
            .field("url", &"(secret)")
            .field("queue", &self.queue)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}

/// Brings the messages of one queue into one stream.
pub(crate) struct QueueSource {
    inlet: Arc<Inlet>,
    broker: Broker,
    options: QueueOptions,
}

impl QueueSource {
    pub(crate) fn new(inlet: Arc<Inlet>, options: QueueOptions) -> Result<Self, SourceError> {
        let broker =
            Broker::parse(&options.url).map_err(|error| SourceError::Config(format!("`url` {error}")))?;
        Ok(Self {
            inlet,
            broker,
            options,
        })
    }

    async fn take(&self, shared: &Shared, stopping: &watch::Receiver<bool>) -> Result<(), SourceError> {
        let mut consuming =
            Consuming::begin(&self.broker, &self.options.queue, self.options.prefetch).await?;
        shared.works();
        while let Some(messages) = consuming.next(self.options.prefetch.into(), stopping).await? {
            self.store(&consuming, &messages, shared).await?;
        }
        consuming.end().await;
        Ok(())
    }

    /// Makes messages durable, then acknowledges them. What is no event is in `_rejects` by then, and is dead-lettered.
    async fn store(
        &self,
        consuming: &Consuming,
        messages: &[Message],
        shared: &Shared,
    ) -> Result<(), SourceError> {
        let portion = self
            .inlet
            .decode(messages.iter().map(|message| message.data.as_slice()));
        let refused: Vec<usize> = portion.rejects.iter().map(|(at, _)| *at).collect();
        let accepted = portion.accepted as u64;
        self.inlet.append(portion).await?;
        let (good, bad) = split(messages, &refused);
        consuming.acknowledge(&good).await?;
        consuming.refuse(&bad).await?;
        shared.took(accepted, refused.len() as u64);
        if !refused.is_empty() {
            tracing::warn!(
                source = self.inlet.source(),
                stream = self.inlet.stream().name.as_str(),
                refused = refused.len(),
                "messages are no events of the stream; `_rejects` has them with the reasons"
            );
        }
        Ok(())
    }
}

impl Part for QueueSource {
    fn work<'a>(
        &'a mut self,
        shared: &'a Shared,
        stopping: &'a watch::Receiver<bool>,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        self.take(shared, stopping).boxed()
    }
}
