//! The bus between processes: what destinations have committed, told by those who commit to those who show it.
//!
//! A position goes into a hash and, when it is new, onto a channel of the same name, by one script. So whoever listens
//! is told at once, and whoever missed it (Pub/Sub keeps nothing) finds it in the hash when it looks next: nothing is
//! ever right or wrong because of the bus, only early or late. Positions only rise, whatever order they come in.
//!
//! ```text
//! field     <destination>/<stream>/<partition>/<journal>
//! value     offset
//! message   <field> <offset>
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use event::{Offset, Partition};
use futures::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::error::failure;
use super::options::{RedisUrlError, client};
use crate::database::DatabaseError;

/// How long Redis may take for anything.
const RESPONSE_TIME: Duration = Duration::from_secs(10);

/// Raises positions, and tells those that rose.
static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for i = 1, #ARGV, 2 do \
           local known = redis.call('HGET', KEYS[1], ARGV[i]) \
           if not known or tonumber(known) < tonumber(ARGV[i + 1]) then \
             redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) \
             redis.call('PUBLISH', KEYS[1], ARGV[i] .. ' ' .. ARGV[i + 1]) \
           end \
         end",
    )
});

/// What a destination has committed of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusPosition {
    /// The destination's name.
    pub destination: String,
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// The log that the offset is one of.
    pub journal: String,
    /// Everything below is committed.
    pub offset: Offset,
}

impl BusPosition {
    fn field(&self) -> String {
        let Self {
            destination,
            stream,
            partition,
            journal,
            ..
        } = self;
        format!("{destination}/{stream}/{partition}/{journal}")
    }

    fn parse(field: &str, offset: &str) -> Option<Self> {
        let mut parts = field.splitn(4, '/');
        Some(Self {
            destination: parts.next()?.to_owned(),
            stream: parts.next()?.to_owned(),
            partition: Partition(parts.next()?.parse().ok()?),
            journal: parts.next()?.to_owned(),
            offset: Offset(offset.parse().ok()?),
        })
    }
}

/// A bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    /// The name of hash and channel.
    name: String,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Who tells.
pub struct Announcer {
    connection: MultiplexedConnection,
    name: String,
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// A bus of that name. Connects to nobody yet.
    ///
    /// # Errors
    /// [`RedisUrlError`] (input), without any part of the URL.
    pub fn new(url: &str, name: &str) -> Result<Self, RedisUrlError> {
        Ok(Self {
            client: client(url)?,
            name: name.to_owned(),
        })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, DatabaseError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(RESPONSE_TIME))
            .set_response_timeout(Some(RESPONSE_TIME));
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connected.map_err(|error| failure("connect", &error))
    }

    /// Connects, to tell.
    ///
    /// # Errors
    /// [`DatabaseError`] when Redis is away or refuses.
    pub async fn announcer(&self) -> Result<Announcer, DatabaseError> {
        Ok(Announcer {
            connection: self.connect().await?,
            name: self.name.clone(),
        })
    }

    /// Listens, and looks every `poll`, and gives all positions to `heard`, also those that it knows. Ends only with an
    /// error, after which it may be called again.
    pub async fn listen(&self, poll: Duration, heard: impl FnMut(BusPosition) + Send) -> DatabaseError {
        match self.listen_on(poll, heard).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn listen_on(
        &self,
        poll: Duration,
        mut heard: impl FnMut(BusPosition) + Send,
    ) -> Result<std::convert::Infallible, DatabaseError> {
        let mut connection = self.connect().await?;
        let subscribed = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(&self.name).await?;
            Ok::<_, redis::RedisError>(subscription)
        };
        let late = |_| DatabaseError::Timeout {
            operation: "subscribe",
            waited_ms: RESPONSE_TIME.as_millis(),
        };
        let subscription = timeout(RESPONSE_TIME, subscribed).await.map_err(late)?;
        let subscription = subscription.map_err(|error| failure("subscribe", &error))?;
        let mut messages = subscription.into_on_message();
        let mut ticks = interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else {
                        let message = "the subscription ended".to_owned();
                        return Err(DatabaseError::Outage { operation: "listen", message });
                    };
                    let text = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
                    if let Some(position) = text.rsplit_once(' ').and_then(|(field, offset)| BusPosition::parse(field, offset)) {
                        heard(position);
                    }
                }
                // The first one comes at once: what was told before this listened.
                _ = ticks.tick() => {
                    let all: HashMap<String, String> = redis::cmd("HGETALL")
                        .arg(&self.name)
                        .query_async(&mut connection)
                        .await
                        .map_err(|error| failure("look for positions", &error))?;
                    for (field, offset) in &all {
                        BusPosition::parse(field, offset).into_iter().for_each(&mut heard);
                    }
                }
            }
        }
    }
}

impl Announcer {
    /// Tells positions.
    ///
    /// # Errors
    /// [`DatabaseError`] when Redis is away or refuses; the connection is of no use then.
    pub async fn announce(&mut self, positions: &[BusPosition]) -> Result<(), DatabaseError> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut script = ANNOUNCE.key(&self.name);
        for position in positions {
            script.arg(position.field()).arg(position.offset.0);
        }
        let told: Result<(), _> = script.invoke_async(&mut self.connection).await;
        told.map_err(|error| failure("announce positions", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = BusPosition {
            destination: "warehouse".to_owned(),
            stream: "running".to_owned(),
            partition: Partition(3),
            journal: "cluster/with/slashes".to_owned(),
            offset: Offset(7),
        };
        assert_eq!(BusPosition::parse(&position.field(), "7"), Some(position));
        for wrong in ["", "a/b", "a/b/c/d", "a/b/-1/d"] {
            assert_eq!(BusPosition::parse(wrong, "7"), None, "{wrong}");
        }
        assert_eq!(BusPosition::parse("a/b/0/d", "x"), None);
    }
}
