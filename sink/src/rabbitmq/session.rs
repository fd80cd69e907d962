//! One connection to the broker, and the steps of a "transaction" on it.
//!
//! ```text
//! begin: take the position's message ──► load: publish, every message confirmed and routed ──► commit: the new
//! position published and confirmed, the old one acknowledged
//! ```
//!
//! A session that is dropped on the way closes its connection, and the broker gives the position back to whoever asks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::ArrowError;
use event::{Offset, Partition, StreamDeclaration};
use futures::FutureExt;
use futures::future::BoxFuture;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm,
};

use super::error::{failure, reply_code};
use super::message::{Messages, properties, short};
use super::options::Settings;
use super::position::{self, Names};
use crate::database::session::RefusedRow;
use crate::database::{Attempt, DatabaseError, Loaded, Rows, Session, StoredPosition, TargetTable};

/// Most messages that wait for their confirmation; beyond it the oldest is waited for first.
const UNCONFIRMED_MAX: usize = 512;

/// Most position messages that are looked at; there are two after the worst crash.
const POSITIONS_MAX: usize = 100;

/// AMQP's "there is none".
const NOT_FOUND: u16 = 404;

/// One connection.
pub(super) struct RabbitmqSession {
    settings: Arc<Settings>,
    connection: Connection,
    channel: Channel,
    /// Messages of the position that the open transaction replaces.
    held: Vec<BasicGetMessage>,
}

impl RabbitmqSession {
    pub(super) async fn connect(settings: Arc<Settings>) -> Result<Self, DatabaseError> {
        const OPERATION: &str = "connect";
        let name = ConnectionProperties::default().with_connection_name("tidemill".into());
        let connected = Connection::connect_uri(settings.uri.clone(), name).await;
        let connection = connected.map_err(|error| failure(OPERATION, &error))?;
        let channel = connection.create_channel().await;
        let channel = channel.map_err(|error| failure(OPERATION, &error))?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| failure("ask for confirmations", &error))?;
        Ok(Self {
            settings,
            connection,
            channel,
            held: Vec::new(),
        })
    }

    /// Whether there is a queue of that name. Asked on a channel of its own, since a "no" closes it.
    async fn has_queue(&self, name: &ShortString) -> Result<bool, DatabaseError> {
        const OPERATION: &str = "look for a queue";
        let channel = self.connection.create_channel().await;
        let channel = channel.map_err(|error| failure(OPERATION, &error))?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel
            .queue_declare(name.clone(), passive, FieldTable::default())
            .await;
        match found {
            Ok(_) => Ok(true),
            Err(error) if reply_code(&error) == Some(NOT_FOUND) => Ok(false),
            Err(error) => Err(failure(OPERATION, &error)),
        }
    }

    /// Declares a durable queue that is missing. One that is there may be of any kind.
    async fn declare(&self, name: &ShortString) -> Result<(), DatabaseError> {
        if self.has_queue(name).await? {
            return Ok(());
        }
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self
            .channel
            .queue_declare(name.clone(), durable, FieldTable::default())
            .await;
        declared
            .map(drop)
            .map_err(|error| failure("declare a queue", &error))
    }

    async fn check_exchange(&self, name: &str) -> Result<(), DatabaseError> {
        const OPERATION: &str = "look for the exchange";
        let channel = self.connection.create_channel().await;
        let channel = channel.map_err(|error| failure(OPERATION, &error))?;
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let found = channel
            .exchange_declare(short(name), ExchangeKind::Topic, passive, FieldTable::default())
            .await;
        found.map_err(|error| failure(OPERATION, &error))
    }

    async fn prepare_route(&self, stream: &StreamDeclaration) -> Result<(), DatabaseError> {
        let route = self.settings.route(stream);
        if !route.exchange.is_empty() {
            self.check_exchange(&route.exchange).await?;
        }
        let Some(queue) = route.queue.as_deref().map(short) else {
            return Ok(());
        };
        self.declare(&queue).await?;
        if route.exchange.is_empty() {
            return Ok(());
        }
        let (exchange, key) = (short(&route.exchange), short(&route.routing_key));
        let options = QueueBindOptions::default();
        let bound = self
            .channel
            .queue_bind(queue, exchange, key, options, FieldTable::default())
            .await;
        bound.map_err(|error| failure("bind the queue", &error))
    }

    /// Takes every message of the position that nobody else holds.
    async fn take_positions(&self, names: &Names) -> Result<Vec<BasicGetMessage>, DatabaseError> {
        let mut taken = Vec::new();
        while taken.len() < POSITIONS_MAX {
            let next = self
                .channel
                .basic_get(names.position.clone(), BasicGetOptions::default())
                .await;
            match next.map_err(|error| failure("read the position", &error))? {
                Some(message) => taken.push(message),
                None => break,
            }
        }
        Ok(taken)
    }

    async fn stored(
        &self,
        stream: &StreamDeclaration,
        partition: Partition,
        journal: &str,
    ) -> Result<StoredPosition, DatabaseError> {
        let names = Names::of(self.settings.group(), stream, partition);
        self.declare(&names.position).await?;
        if !self.has_queue(&names.begun).await? {
            self.store_first(&names, journal).await?;
        }
        match self.look(&names).await? {
            Some(stored) if stored.journal == journal => Ok(stored),
            Some(stored) => Err(other_journal(&names, &stored, journal)),
            None => Err(held(&names)),
        }
    }

    /// Reads the position without keeping it.
    async fn look(&self, names: &Names) -> Result<Option<StoredPosition>, DatabaseError> {
        let taken = self.take_positions(names).await?;
        let found = position::furthest(&taken);
        for message in &taken {
            let back = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            let given = message.nack(back).await;
            given.map_err(|error| failure("give the position back", &error))?;
        }
        Ok(found)
    }

    /// Stores the journal's start as the first position. Of several processes that find nothing one does it: whose queue
    /// the exclusive one is, which goes with its connection.
    async fn store_first(&self, names: &Names, journal: &str) -> Result<(), DatabaseError> {
        const OPERATION: &str = "begin the position";
        let channel = self.connection.create_channel().await;
        let channel = channel.map_err(|error| failure(OPERATION, &error))?;
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let locked = channel
            .queue_declare(names.beginning.clone(), exclusive, FieldTable::default())
            .await;
        locked.map_err(|error| failure(OPERATION, &error))?;
        if !self.has_queue(&names.begun).await? {
            // Somebody may have died after the position and before the mark.
            if self.look(names).await?.is_none() {
                let first = StoredPosition {
                    journal: journal.to_owned(),
                    offset: Offset(0),
                };
                self.publish_position(names, &first).await?;
            }
            self.declare(&names.begun).await?;
        }
        let unlocked = channel
            .queue_delete(names.beginning.clone(), QueueDeleteOptions::default())
            .await;
        unlocked.map(drop).map_err(|error| failure(OPERATION, &error))
    }

    async fn publish_position(&self, names: &Names, position: &StoredPosition) -> Result<(), DatabaseError> {
        let body = position::write(position);
        let sent = self
            .publish("", names.position.as_str(), &body, properties())
            .await?;
        confirmed("store the position", sent).await
    }

    async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<PublisherConfirm, DatabaseError> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = self
            .channel
            .basic_publish(short(exchange), short(routing_key), mandatory, body, properties)
            .await;
        sent.map_err(|error| failure("publish", &error))
    }

    async fn publish_rows(
        &self,
        stream: &StreamDeclaration,
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<(), DatabaseError> {
        const OPERATION: &str = "publish";
        let route = self.settings.route(stream);
        let mut waiting = VecDeque::new();
        let mut body = Vec::new();
        let mut first = true;
        for slice in rows.slices(range) {
            let messages = Messages::new(stream, &slice, self.settings.message_id());
            for row in slice.range.clone() {
                let place = rows.place(slice.first + row - slice.range.start);
                body.clear();
                messages
                    .write(row, &mut body)
                    .map_err(|error| unwritable(&error))?;
                let properties = messages.properties(row, rows.partition(), place);
                let properties = properties.map_err(|error| unwritable(&error))?;
                let sent = self
                    .publish(&route.exchange, &route.routing_key, &body, properties)
                    .await?;
                waiting.push_back(sent);
                // Alone, so that of a batch that nobody takes only one message goes and comes back.
                if std::mem::take(&mut first) || waiting.len() >= UNCONFIRMED_MAX {
                    let oldest = waiting.pop_front().expect("one was just added");
                    confirmed(OPERATION, oldest).await?;
                }
            }
        }
        for sent in waiting {
            confirmed(OPERATION, sent).await?;
        }
        Ok(())
    }

    /// Stores the position after the old one, which goes.
    async fn replace_position(
        &mut self,
        names: &Names,
        position: &StoredPosition,
    ) -> Result<(), DatabaseError> {
        self.publish_position(names, position).await?;
        for old in std::mem::take(&mut self.held) {
            let gone = old.ack(BasicAckOptions::default()).await;
            gone.map_err(|error| failure("remove the old position", &error))?;
        }
        Ok(())
    }
}

impl Session for RabbitmqSession {
    fn prepare<'a>(&'a mut self, table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        self.prepare_route(&table.stream).boxed()
    }

    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        self.stored(&table.stream, partition, journal).boxed()
    }

    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        async move {
            let names = Names::of(self.settings.group(), &table.stream, partition);
            self.held = self.take_positions(&names).await?;
            match position::furthest(&self.held) {
                Some(position) => Ok(Some(position)),
                None => Err(held(&names)),
            }
        }
        .boxed()
    }

    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        async move {
            self.publish_rows(&table.stream, rows, range).await?;
            Ok(Loaded::Rows {
                unwritable: Vec::new(),
            })
        }
        .boxed()
    }

    /// Nothing is ever refused here: what the broker does not take is tried again.
    fn refuse<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        let message = format!("{} rows have no place in a broker", refused.len());
        let error = DatabaseError::Denied {
            operation: "keep refused rows",
            message,
        };
        std::future::ready(Err(error)).boxed()
    }

    fn commit<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            let names = Names::of(self.settings.group(), &table.stream, partition);
            self.replace_position(&names, position).await
        }
        .boxed()
    }
}

/// Waits until the broker has a message, in at least one queue.
async fn confirmed(operation: &'static str, sent: PublisherConfirm) -> Result<(), DatabaseError> {
    let outage = |message: String| Err(DatabaseError::Outage { operation, message });
    match sent.await.map_err(|error| failure(operation, &error))? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => outage(format!(
            "no queue takes messages of exchange `{}` with routing key `{}`: {} (reply code {})",
            returned.exchange, returned.routing_key, returned.reply_text, returned.reply_code
        )),
        Confirmation::Nack(None) => outage("the broker did not take the message".to_owned()),
        Confirmation::NotRequested => outage("the channel gives no confirmations".to_owned()),
    }
}

fn held(names: &Names) -> DatabaseError {
    DatabaseError::Outage {
        operation: "take the position",
        message: format!(
            "queue `{}` is empty: another process works on the partition, or the queue was emptied; to begin at the \
             journal's start delete queue `{}`",
            names.position, names.begun
        ),
    }
}

fn other_journal(names: &Names, stored: &StoredPosition, journal: &str) -> DatabaseError {
    DatabaseError::Denied {
        operation: "read the position",
        message: format!(
            "queue `{}` stands at offset {} of journal `{}`, this is journal `{journal}`; to begin at the start of \
             this one delete the queues `{}` and `{}`",
            names.position, stored.offset, stored.journal, names.position, names.begun
        ),
    }
}

/// Columns that are not what their declaration says: a broken invariant, which a restart with other code may mend.
fn unwritable(error: &ArrowError) -> DatabaseError {
    DatabaseError::Denied {
        operation: "write an event as JSON",
        message: error.to_string(),
    }
}
