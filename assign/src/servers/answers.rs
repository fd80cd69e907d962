//! Sends answers that the database has to the broker, and forgets each when the broker has confirmed it.
//!
//! One process at a time does it, so the answers about one event arrive in their order. A crash between the
//! confirmation and the removal sends some again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection};
use tokio::time::timeout;
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};

use super::assigner::Core;
use super::broker;
use super::database::{failed, unavailable, within};
use crate::AssignError;
use crate::retry::Retry;

/// Most answers that are on their way at once.
const ANSWERS_MAX: i64 = 500;
/// How often it is looked for answers of processes that died.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// A parameter of a statement.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Sends answers until told to stop, and then once more what there is.
pub(super) async fn run(core: Arc<Core>) {
    let mut prepared = core.prepared.subscribe();
    let mut stopping = core.stopping.subscribe();
    let mut retry = Retry::default();
    let mut broker = None;
    tokio::select! {
        found = prepared.wait_for(|prepared| *prepared) => if found.is_err() { return },
        _ = stopping.wait_for(|stopping| *stopping) => return,
    }
    loop {
        let last = core.is_stopping();
        let sent = send_all(&core, &mut broker).await;
        core.answering
            .set("answering over rabbitmq", sent.as_ref().map(|_| ()));
        if sent.is_err() {
            broker = None;
            if !last {
                retry.wait().await;
            }
        } else {
            retry.reset();
        }
        if last {
            return;
        }
        if sent.is_ok() {
            tokio::select! {
                _ = timeout(LOOK_EVERY, core.answers.notified()) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }
}

/// A connection and the channel on which everything is confirmed.
struct Broker {
    _connection: Connection,
    channel: Channel,
}

async fn send_all(core: &Core, broker: &mut Option<Broker>) -> Result<(), AssignError> {
    let known = broker.take().filter(|broker| broker.channel.status().connected());
    let connected = match known {
        Some(connected) => connected,
        None => connect(core).await?,
    };
    while send_some(core, &connected.channel).await? {}
    *broker = Some(connected);
    Ok(())
}

async fn connect(core: &Core) -> Result<Broker, AssignError> {
    let connection = broker::connect(&core.servers.amqp_url).await?;
    let channel = broker::channel(&connection, &core.servers.answers).await?;
    let confirm = channel.confirm_select(ConfirmSelectOptions::default());
    let confirm = within("ask for confirmations", confirm).await?;
    confirm.map_err(|error| unavailable("ask for confirmations", error.to_string()))?;
    Ok(Broker {
        _connection: connection,
        channel,
    })
}

/// Sends some answers; says whether there may be more.
async fn send_some(core: &Core, channel: &Channel) -> Result<bool, AssignError> {
    const OPERATION: &str = "read answers";
    let told = |error: Error| failed(OPERATION, &error);
    let mut lent = core.database.lend().await?;
    let begin = lent.client().transaction();
    let transaction = within(OPERATION, begin).await?.map_err(told)?;
    let mine =
        "SELECT pg_try_advisory_xact_lock(hashtextextended('tidemill.answers.' || current_schema(), 0))";
    let mine = within(OPERATION, transaction.query_typed_one(mine, &[])).await?;
    if !mine.and_then(|row| row.try_get::<_, bool>(0)).map_err(told)? {
        within(OPERATION, transaction.rollback()).await?.map_err(told)?;
        lent.keep();
        return Ok(false);
    }
    let oldest = "SELECT id, body FROM assignment_answers ORDER BY id LIMIT $1";
    let rows = within(
        OPERATION,
        transaction.query_typed(oldest, &[(&ANSWERS_MAX, Type::INT8)]),
    )
    .await?;
    let mut ids: Vec<i64> = Vec::new();
    let mut bodies: Vec<String> = Vec::new();
    for row in rows.map_err(told)? {
        ids.push(row.try_get(0).map_err(told)?);
        bodies.push(row.try_get(1).map_err(told)?);
    }
    if !ids.is_empty() {
        publish(core, channel, &ids, &bodies).await?;
        let forget = "DELETE FROM assignment_answers WHERE id = ANY($1)";
        let sent: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
        within(OPERATION, transaction.execute_typed(forget, &sent))
            .await?
            .map_err(told)?;
    }
    within(OPERATION, transaction.commit()).await?.map_err(told)?;
    lent.keep();
    metrics::counter!("tidemill_assign_answers_total").increment(ids.len() as u64);
    Ok(ids.len() as i64 == ANSWERS_MAX)
}

/// Publishes answers in their order, and waits until the broker has every one of them in the queue.
async fn publish(core: &Core, channel: &Channel, ids: &[i64], bodies: &[String]) -> Result<(), AssignError> {
    const OPERATION: &str = "publish answers";
    let told = |error: lapin::Error| unavailable(OPERATION, error.to_string());
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let mut confirms = Vec::with_capacity(bodies.len());
    for (id, body) in ids.iter().zip(bodies) {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.to_string().into());
        let queue = core.servers.answers.as_str().into();
        let sent = channel.basic_publish("".into(), queue, options, body.as_bytes(), properties);
        confirms.push(within(OPERATION, sent).await?.map_err(told)?);
    }
    for confirmed in within(OPERATION, join_all(confirms)).await? {
        let confirmed = confirmed.map_err(told)?;
        // One that comes back found no queue.
        if !confirmed.is_ack() || confirmed.take_message().is_some() {
            return Err(unavailable(OPERATION, "the broker did not take an answer"));
        }
    }
    Ok(())
}
