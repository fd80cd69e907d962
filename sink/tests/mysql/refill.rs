//! A database that was away for longer than the journal keeps records reads the lake, and then the journal.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use event::Partition;
use journal::Journal;
use lake::{Lake, LakeOptions, Table};
use sink::{DatabaseOptions, LakeSink, LakeSinkOptions};
use tokio::runtime::Handle;

use crate::faults::{assert_each_once, counted, lines};
use crate::world::{World, mysql_url, quick, until, until_caught_up};

fn lake_options() -> LakeSinkOptions {
    LakeSinkOptions {
        roll_every: Duration::from_millis(5),
        compact_every: Duration::from_millis(50),
        ..LakeSinkOptions::default()
    }
}

/// Appends until the journal has removed its first records, because the lake has them.
async fn outlive_the_journal(world: &World, table: &Arc<Table>, next: &AtomicU64) {
    let stream = table.declaration();
    let lake_sink = LakeSink::start(
        &Handle::current(),
        world.journal(),
        vec![Arc::clone(table)],
        lake_options(),
    );
    let before = world.journal.start(&stream.name).await.expect("a start")[0].offset;
    until("the journal has removed records", async || {
        for count in [1, 700, 50] {
            world.append(stream, &lines(next, count)).await;
        }
        world.journal.start(&stream.name).await.expect("a start")[0].offset > before
    })
    .await;
    lake_sink.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_has_no_more_comes_from_the_lake_once() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(LakeOptions::new(folder.path().to_owned(), world.journal.id().0))
        .await
        .expect("a lake");
    let table = lake.table(Arc::clone(&stream)).await.expect("a table");

    // Some is in the database already, and then it is away.
    world.append(&stream, &lines(&next, 10)).await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    until_caught_up(&sink).await;
    sink.shutdown().await;
    outlive_the_journal(&world, &table, &next).await;

    // Without a lake the stream stops rather than jumps.
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    let progress = sink.progress();
    until("it stopped", async || progress.read().await[0].stopped.is_some()).await;
    let reason = progress.read().await[0].stopped.clone().expect("stopped");
    assert!(reason.contains("gone"), "{reason}");
    sink.shutdown().await;

    // With one it goes on, in small transactions, while more is appended.
    let options = || DatabaseOptions {
        batch_rows: 300,
        refill: vec![Arc::clone(&table)],
        ..quick()
    };
    let sink = world.sink(&[Arc::clone(&stream)], options());
    for _ in 0..20 {
        world.append(&stream, &lines(&next, 30)).await;
    }
    until_caught_up(&sink).await;
    sink.shutdown().await;
    assert_each_once(&world, &next).await;
    let gaps = "SELECT COUNT(*) FROM (SELECT _offset, COUNT(*) c, MAX(_row) + 1 m FROM counted GROUP BY _offset) t \
                WHERE c <> m";
    assert_eq!(world.number(gaps).await, 0, "records are whole");

    // Again, and ended in the middle of it.
    outlive_the_journal(&world, &table, &next).await;
    let end = table
        .snapshot()
        .await
        .expect("a snapshot")
        .position(Partition(0))
        .offset;
    for _ in 0..5 {
        let sink = world.sink(&[Arc::clone(&stream)], options());
        let progress = sink.progress();
        let before = world.number("SELECT next_offset FROM tidemill_positions").await;
        until("something was written", async || {
            let all = progress.read().await;
            all[0].committed.0 as i64 > before || all[0].committed >= end
        })
        .await;
        drop(sink);
    }
    let sink = world.sink(&[Arc::clone(&stream)], options());
    until_caught_up(&sink).await;
    sink.shutdown().await;
    assert_each_once(&world, &next).await;
    world.remove().await;
}
