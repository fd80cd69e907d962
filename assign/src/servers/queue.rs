//! Takes events from the queue, so many at once, and acknowledges each when its assignment is committed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::assigner::{Core, Handled};
use super::broker;
use super::database::{unavailable, within};
use crate::AssignError;
use crate::retry::Retry;

/// Those who assign end within this time once nothing new comes.
const FINISH: Duration = Duration::from_secs(10);

/// Takes events until told to stop.
pub(super) async fn run(core: Arc<Core>) {
    let mut prepared = core.prepared.subscribe();
    let mut stopping = core.stopping.subscribe();
    let mut retry = Retry::default();
    tokio::select! {
        // Without tables there is nothing to do with an event.
        found = prepared.wait_for(|prepared| *prepared) => if found.is_err() { return },
        _ = stopping.wait_for(|stopping| *stopping) => return,
    }
    while !core.is_stopping() {
        let took = take(&core).await;
        if let Err(error) = took {
            core.taking.set("taking events from rabbitmq", Err(&error));
            tokio::select! {
                () = retry.wait() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        } else {
            retry.reset();
        }
    }
}

/// Takes events over one connection until that ends.
async fn take(core: &Arc<Core>) -> Result<(), AssignError> {
    const OPERATION: &str = "take events from the queue";
    let told = |error: lapin::Error| unavailable(OPERATION, error.to_string());
    let connection = broker::connect(&core.servers.amqp_url).await?;
    let channel = broker::channel(&connection, &core.servers.queue).await?;
    let most = channel.basic_qos(core.servers.workers, BasicQosOptions::default());
    within(OPERATION, most).await?.map_err(told)?;
    let queue = core.servers.queue.as_str().into();
    let consume = channel.basic_consume(
        queue,
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut consumer = within(OPERATION, consume).await?.map_err(told)?;
    core.taking.set("taking events from rabbitmq", Ok(()));
    let mut stopping = core.stopping.subscribe();
    // The queue gives no more than `workers` before one is acknowledged.
    let mut assigners = JoinSet::new();
    let ended = loop {
        tokio::select! {
            delivery = consumer.next() => match delivery {
                Some(Ok(delivery)) => {
                    assigners.spawn(assign(Arc::clone(core), channel.clone(), delivery));
                }
                Some(Err(error)) => break Err(told(error)),
                None => break Err(unavailable(OPERATION, "the broker has ended it")),
            },
            Some(_) = assigners.join_next() => {}
            _ = stopping.wait_for(|stopping| *stopping) => break Ok(()),
        }
    };
    let finish = async { while assigners.join_next().await.is_some() {} };
    if timeout(FINISH, finish).await.is_err() {
        tracing::warn!(
            left = assigners.len(),
            "events go back to the queue in the middle of being assigned"
        );
        assigners.shutdown().await;
    }
    // What is not acknowledged goes back to the queue.
    let _ = timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
    ended
}

async fn assign(core: Arc<Core>, channel: Channel, delivery: Delivery) {
    let usable = || channel.status().connected();
    let handled = core.handle(&delivery.data, usable).await;
    let said = match handled {
        Handled::Done => delivery.acker.ack(BasicAckOptions::default()).await,
        Handled::Abandoned if usable() => {
            let back = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            delivery.acker.nack(back).await
        }
        Handled::Abandoned => return,
    };
    if let Err(error) = said {
        // It comes again, and is known then.
        tracing::debug!(%error, "a message could not be acknowledged");
    }
}
