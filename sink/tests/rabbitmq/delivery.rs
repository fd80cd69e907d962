//! What arrives: every event once when nothing breaks, in order, with the same ids, and on disk.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{ExchangeKind, types::ShortString};
use serde_json::json;

use crate::broker::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_once_in_order_persistent_and_with_its_own_id() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    for batch in 0..20 {
        world.append(batch * 150, (batch + 1) * 150).await;
    }
    let sink = world.start(&world.options());
    caught_up(&sink).await;
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    assert_eq!(found.len(), 3_000);
    for (n, (body, properties)) in (0..).zip(&found) {
        let expected = json!({"event_id": id(n), "n": n, "made": 1_700_000_000_000 + n, "at": {"page": format!("/{n}")}});
        assert_eq!(*body, expected);
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        assert_eq!(text(properties.message_id()), Some(id(n)));
        assert_eq!(
            text(properties.content_type()).as_deref(),
            Some("application/json")
        );
        assert_eq!(text(properties.kind()).as_deref(), Some("orders"));
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(*properties.timestamp(), Some(1_700_000_000));
        assert!(
            properties
                .headers()
                .as_ref()
                .is_some_and(|headers| headers.inner().contains_key("trace_id"))
        );
    }
    // After a restart it goes on where it was, and publishes nothing again.
    world.append(3_000, 3_010).await;
    let sink = world.start(&world.options());
    caught_up(&sink).await;
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    assert_eq!(found.len(), 10);
    assert_eq!(found[0].0["n"], 3_000);
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_field_the_id_is_the_place_in_the_journal() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    world.append(0, 2).await;
    world.append(2, 3).await;
    let mut options = world.options();
    options.message_id = None;
    let sink = world.start(&options);
    caught_up(&sink).await;
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    let ids: Vec<_> = found
        .iter()
        .filter_map(|(_, properties)| properties.message_id().clone())
        .collect();
    let ids: Vec<_> = ids.iter().map(ShortString::as_str).collect();
    assert_eq!(ids, ["orders/0:0:0", "orders/0:0:1", "orders/0:1:0"]);
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_tried_again_with_a_clear_reason() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    world.append(0, 500).await;
    let mut options = world.options();
    options.exchange.clone_from(&world.name);
    options.routing_key = Some("new.{stream}".to_owned());
    options.queue = None;
    let sink = world.start(&options);
    until("it says that there is no exchange", async || {
        progress(&sink)
            .await
            .failing
            .is_some_and(|why| why.contains("no exchange"))
    })
    .await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let (exchange, queue) = (
        ShortString::from(world.name.as_str()),
        ShortString::from(world.name.as_str()),
    );
    let none = FieldTable::default;
    world
        .channel
        .exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, none())
        .await
        .expect("declared");
    until("it says that no queue takes the messages", async || {
        let expected = format!(
            "no queue takes messages of exchange `{}` with routing key `new.orders`",
            world.name
        );
        progress(&sink)
            .await
            .failing
            .is_some_and(|why| why.contains(&expected))
    })
    .await;
    assert_eq!(progress(&sink).await.committed.0, 0);
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    world
        .channel
        .queue_declare(queue.clone(), options, none())
        .await
        .expect("declared");
    let bound = world.channel.queue_bind(
        queue,
        exchange.clone(),
        "new.#".into(),
        QueueBindOptions::default(),
        none(),
    );
    bound.await.expect("bound");
    caught_up(&sink).await;
    assert_eq!(progress(&sink).await.failing, None);
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    let numbers: Vec<_> = found.iter().filter_map(|(body, _)| body["n"].as_u64()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    world
        .channel
        .exchange_delete(exchange, ExchangeDeleteOptions::default())
        .await
        .expect("deleted");
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_partition_publish_nothing_twice_as_long_as_both_live() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    world.append(0, 100).await;
    let sinks = [world.start(&world.options()), world.start(&world.options())];
    for batch in 1..10 {
        world.append(batch * 100, (batch + 1) * 100).await;
    }
    for sink in &sinks {
        until("everything is published", async || {
            // One of them stands still as long as the other one works, and knows no more than where it stopped.
            sinks_committed(&sinks).await >= 10 && progress(sink).await.stopped.is_none()
        })
        .await;
    }
    for sink in sinks {
        sink.shutdown().await;
    }
    let found = world.drain(&world.name).await;
    let numbers: Vec<_> = found.iter().filter_map(|(body, _)| body["n"].as_u64()).collect();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    world.remove().await;
}

/// The furthest of some sinks.
async fn sinks_committed(sinks: &[sink::DatabaseSink]) -> u64 {
    let mut furthest = 0;
    for sink in sinks {
        furthest = furthest.max(progress(sink).await.committed.0);
    }
    furthest
}
