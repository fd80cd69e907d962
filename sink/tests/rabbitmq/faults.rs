//! What breaks: the way to the broker, the broker, and the process before it could store its position.

use std::collections::BTreeSet;

use lapin::options::BasicGetOptions;

use crate::broker::*;

/// Every event at least once, and the first time in order.
fn all_there(found: &[(serde_json::Value, lapin::BasicProperties)], count: u64) {
    let mut seen = BTreeSet::new();
    let mut next = 0;
    for (body, properties) in found {
        let n = body["n"].as_u64().expect("a number");
        let message = properties.message_id().as_ref().expect("an id");
        assert_eq!(message.as_str(), id(n), "the same id, however often");
        if seen.insert(n) {
            assert_eq!(n, next, "out of order");
            next += 1;
        }
    }
    assert_eq!(next, count, "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_again_and_again_loses_nothing() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    let proxy = Proxy::before(&url).await;
    let mut options = world.options();
    options.url = proxy.url(&url);
    let sink = world.start(&options);
    let mut count = 0;
    for round in 0..6 {
        for _ in 0..5 {
            world.append(count, count + 200).await;
            count += 200;
        }
        if round % 2 == 0 {
            // Whatever is on its way is cut in the middle.
            until("something is published", async || {
                progress(&sink).await.committed.0 > 0
            })
            .await;
        }
        proxy.open.send_replace(false);
        // All of it may have been through before.
        world.append(count, count + 200).await;
        count += 200;
        until("it is told", async || progress(&sink).await.failing.is_some()).await;
        proxy.open.send_replace(true);
    }
    caught_up(&sink).await;
    assert_eq!(progress(&sink).await.failing, None);
    sink.shutdown().await;
    all_there(&world.drain(&world.name).await, count);
    world.remove().await;
}

/// Method: the test holds the position, so the sink can publish nothing; what it would have published comes when the
/// position is given back.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_position_holds_the_partition() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    world.append(0, 10).await;
    let sink = world.start(&world.options());
    caught_up(&sink).await;
    let (other, channel) = connect(&url).await;
    let position = format!("{}.group.orders.0.position", world.name);
    until("the position is there to be taken", async || {
        waiting(&channel, &position).await == 1
    })
    .await;
    let held = channel
        .basic_get(position.into(), BasicGetOptions::default())
        .await
        .expect("a queue");
    let held = held.expect("a position");
    let stored: serde_json::Value = serde_json::from_slice(&held.data).expect("JSON");
    assert_eq!(stored["offset"], 1);
    world.append(10, 20).await;
    until("it says why", async || {
        progress(&sink)
            .await
            .failing
            .is_some_and(|why| why.contains("another process works on the partition"))
    })
    .await;
    assert_eq!(waiting(&world.channel, &world.name).await, 10);
    // It dies, and the broker gives the position back.
    other.close(200, "done".into()).await.expect("closed");
    drop((held, channel));
    caught_up(&sink).await;
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    assert_eq!(found.len(), 20, "nothing twice");
    all_there(&found, 20);
    world.remove().await;
}

/// Method: a sink is dropped in the middle of publishing, again and again, as kill -9 would end it.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_what_was_not_covered_by_the_position_comes_again_with_the_same_ids() {
    let Some(url) = shared() else { return };
    let world = World::new(&url).await;
    for batch in 0..40 {
        world.append(batch * 100, (batch + 1) * 100).await;
    }
    let mut committed = 0;
    for _ in 0..3 {
        let sink = world.start(&world.options());
        until("it gets on", async || {
            let progress = progress(&sink).await;
            progress.committed.0 > committed || progress.committed == progress.end
        })
        .await;
        committed = progress(&sink).await.committed.0;
        drop(sink);
    }
    let sink = world.start(&world.options());
    caught_up(&sink).await;
    sink.shutdown().await;
    let found = world.drain(&world.name).await;
    eprintln!("{} messages for 4000 events", found.len());
    all_there(&found, 4_000);
    world.remove().await;
}

/// Method: a broker of the test's own is killed while messages come, and started again over its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_has_every_event() {
    if std::env::var_os("TIDEMILL_SOAK").is_none() {
        eprintln!("left out: starts a broker twice; TIDEMILL_SOAK=1 runs it");
        return;
    }
    let Some(mut broker) = OwnBroker::start().await else {
        return;
    };
    let world = World::new(&broker.url).await;
    let sink = world.start(&world.options());
    world.append(0, 1_000).await;
    caught_up(&sink).await;
    world.append(1_000, 5_000).await;
    broker.kill();
    world.append(5_000, 6_000).await;
    until("it is told", async || progress(&sink).await.failing.is_some()).await;
    broker.up().await;
    caught_up(&sink).await;
    sink.shutdown().await;
    let (_connection, channel) = connect(&broker.url).await;
    all_there(&drain(&channel, &world.name).await, 6_000);
}
