//! Queues of RabbitMQ as sources, and answers that change the state of rows, against real servers.

mod support;

use std::collections::BTreeMap;

use journal::Batcher;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use sources::{OutboxOptions, QueueOptions, ResponsesOptions, SourceKind};
use support::*;

fn event(n: i64) -> String {
    json!({"event_id": format!("e{n}"), "n": n, "made": "2024-09-10T09:12:33Z"}).to_string()
}

fn queue(broker: &Broker, name: &str) -> SourceKind {
    SourceKind::Queue(QueueOptions {
        url: broker.url.clone(),
        queue: name.to_owned(),
        prefetch: 50,
    })
}

/// A queue whose refused messages go to another one.
async fn with_dead_letters(broker: &Broker, name: &str) -> String {
    let dead = format!("{name}.dead");
    broker.queue(&dead, FieldTable::default()).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    arguments.insert(
        "x-dead-letter-routing-key".into(),
        AMQPValue::LongString(dead.as_str().into()),
    );
    broker.queue(name, arguments).await;
    dead
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_become_events_and_what_is_none_is_dead_lettered() {
    let Some(url) = server("AMQP_URL") else { return };
    let (broker, log, name) = (Broker::new(&url).await, Log::new(), format!("test.{}", random()));
    let dead = with_dead_letters(&broker, &name).await;
    let source = start(&log.batcher(), queue(&broker, &name));
    for n in 0..20 {
        broker.send(&name, &event(n)).await;
    }
    for bad in ["no JSON", "{\"event_id\":\"x\"}", ""] {
        broker.send(&name, bad).await;
    }
    broker.send(&name, &event(20)).await;
    until("all are taken", async || {
        let progress = part(&source, "queue");
        (progress.taken, progress.refused) == (21, 3)
    })
    .await;
    source.shutdown().await;
    assert_eq!(log.events(&stream()).await.len(), 21);
    assert_eq!(log.rejects().await.len(), 3);
    assert_eq!(broker.counts(&name).await, (0, 0), "nothing comes again");
    until("the dead are there", async || broker.counts(&dead).await.0 == 3).await;
    assert_eq!(broker.take(&dead).await.as_deref(), Some("no JSON"));
    broker.delete(&name).await;
    broker.delete(&dead).await;
}

/// Method: the journal makes the append durable and never tells; the source dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_after_it_is_durable() {
    let Some(url) = server("AMQP_URL") else { return };
    let (broker, log, name) = (Broker::new(&url).await, Log::new(), format!("test.{}", random()));
    broker.queue(&name, FieldTable::default()).await;
    broker.send(&name, &event(1)).await;
    let gate = Gate::new(&log, Mode::Silent);
    let mut silent = gate.silent.subscribe();
    let source = start(&Batcher::new(gate), queue(&broker, &name));
    silent.wait_for(|count| *count == 1).await.expect("an append");
    drop(source);
    until("the broker has it again", async || {
        broker.counts(&name).await == (1, 0)
    })
    .await;
    let source = start(&log.batcher(), queue(&broker, &name));
    until("it is taken", async || part(&source, "queue").taken == 1).await;
    source.shutdown().await;
    assert_eq!(
        ids(&log.events(&stream()).await),
        ["e1", "e1"],
        "at least once, with the same id"
    );
    assert_eq!(broker.counts(&name).await, (0, 0));
    broker.delete(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_to_the_broker_is_told_and_mended() {
    let Some(url) = server("AMQP_URL") else { return };
    let (broker, log, name) = (Broker::new(&url).await, Log::new(), format!("test.{}", random()));
    let proxy = Proxy::before(&authority(&url)).await;
    let source = SourceKind::Queue(QueueOptions {
        url: through(&url, &proxy),
        queue: name.clone(),
        prefetch: 50,
    });
    let source = start(&log.batcher(), source);
    until("it has made the queue", async || {
        let progress = part(&source, "queue");
        assert_eq!(progress.stopped, None);
        broker.connection.status().connected() && has_queue(&broker, &name).await
    })
    .await;
    broker.send(&name, &event(1)).await;
    until("it is taken", async || part(&source, "queue").taken == 1).await;
    proxy.open.send_replace(false);
    until("it is told", async || part(&source, "queue").failing.is_some()).await;
    broker.send(&name, &event(2)).await;
    proxy.open.send_replace(true);
    until("it is taken", async || part(&source, "queue").taken == 2).await;
    assert_eq!(part(&source, "queue").failing, None);
    source.shutdown().await;
    assert_eq!(ids(&log.events(&stream()).await), ["e1", "e2"]);
    broker.delete(&name).await;
}

async fn has_queue(broker: &Broker, name: &str) -> bool {
    let channel = broker.connection.create_channel().await.expect("a channel");
    let options = lapin::options::QueueDeclareOptions {
        passive: true,
        ..lapin::options::QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await
        .is_ok()
}

fn answered(database: &Database, broker: &Broker, queue: &str) -> OutboxOptions {
    let states = [
        ("completed", "done"),
        ("rejected", "rejected"),
        ("assigned", "assigned"),
    ];
    let states: BTreeMap<_, _> = states
        .map(|(status, state)| (status.to_owned(), state.to_owned()))
        .into();
    OutboxOptions {
        responses: Some(ResponsesOptions {
            url: broker.url.clone(),
            queue: queue.to_owned(),
            id: "event_id".to_owned(),
            status: "status".to_owned(),
            states: Some(states),
            prefetch: 50,
        }),
        ..database.outbox()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_change_the_state_of_rows_and_bad_ones_are_set_aside() {
    let (Some(base), Some(url)) = (server("POSTGRES_URL"), server("AMQP_URL")) else {
        return;
    };
    let (database, broker, log) = (Database::new(&base).await, Broker::new(&url).await, Log::new());
    let name = format!("test.{}", random());
    let dead = with_dead_letters(&broker, &name).await;
    database.insert(0, 10).await;
    let source = start(
        &log.batcher(),
        SourceKind::Outbox(Box::new(answered(&database, &broker, &name))),
    );
    until("all are sent", async || database.states().await == "sent=10").await;
    let good = [
        ("e1", "assigned"),
        ("e1", "completed"),
        ("e2", "rejected"),
        ("e3", "assigned"),
        ("e3", "assigned"),
    ];
    let bad = [
        "no JSON".to_owned(),
        json!({"status": "completed"}).to_string(),
        json!({"event_id": "e4", "status": "lost"}).to_string(),
        json!({"event_id": "nobody", "status": "completed"}).to_string(),
        json!({"event_id": ["e4"], "status": "completed"}).to_string(),
        "{\"event_id\":\"e4\\u0000\",\"status\":\"completed\"}".to_owned(),
    ];
    for (id, status) in good {
        broker
            .send(
                &name,
                &json!({"event_id": id, "status": status, "by": 7}).to_string(),
            )
            .await;
    }
    for bad in &bad {
        broker.send(&name, bad).await;
    }
    broker
        .send(
            &name,
            &json!({"event_id": "e5", "status": "completed"}).to_string(),
        )
        .await;
    until("all are read", async || {
        let progress = part(&source, "responses");
        (progress.taken, progress.refused) == (6, 6)
    })
    .await;
    source.shutdown().await;
    assert_eq!(database.states().await, "assigned=1 done=2 rejected=1 sent=6");
    let rejects = log.rejects().await;
    let message = |n: usize| rejects[n]["message"].as_str().expect("a message").to_owned();
    assert_eq!(rejects.len(), 6);
    assert!(
        (0..6).any(|n| message(n) == "response: no row has the id `nobody`"),
        "{rejects:?}"
    );
    assert!((0..6).any(|n| message(n) == "response: `lost` is not one of assigned, completed, rejected"));
    assert_eq!(
        broker.counts(&name).await,
        (0, 0),
        "nothing is redelivered for ever"
    );
    until("the dead are there", async || broker.counts(&dead).await.0 == 6).await;
    for queue in [&name, &dead] {
        broker.delete(queue).await;
    }
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_table_refuses_harms_no_other_answer() {
    let (Some(base), Some(url)) = (server("POSTGRES_URL"), server("AMQP_URL")) else {
        return;
    };
    let (database, broker, log) = (Database::new(&base).await, Broker::new(&url).await, Log::new());
    let name = format!("test.{}", random());
    broker.queue(&name, FieldTable::default()).await;
    database.insert(0, 4).await;
    database
        .run("ALTER TABLE orders ADD CHECK (state IN ('pending', 'sent', 'refused', 'done'))")
        .await;
    let mut options = answered(&database, &broker, &name);
    if let Some(responses) = &mut options.responses {
        responses.states = None;
    }
    for (id, status) in [("e0", "done"), ("e1", "nonsense"), ("e2", "done")] {
        broker
            .send(&name, &json!({"event_id": id, "status": status}).to_string())
            .await;
    }
    let source = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    until("all are read", async || {
        let progress = part(&source, "responses");
        (progress.taken, progress.refused) == (2, 1)
    })
    .await;
    until("the others are sent", async || {
        let states = database.states().await;
        // An answer that comes before the relay is an answer all the same.
        states.starts_with("done=2") && !states.contains("pending")
    })
    .await;
    source.shutdown().await;
    broker.delete(&name).await;
    database.drop_schema().await;
}
