//! Each event is there exactly once (I-2): abandoned tasks, zombies, paused processes, ended backends.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use event::{Offset, Partition};
use futures::SinkExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::DatabaseOptions;
use sink::DatabaseSink;
use sink::database::{Attempt, DatabaseError, Loaded, StoredPosition, TargetTable, transaction};

use super::breaking::Breaking;
use super::world::{World, caught_up, connect, numbers, one, options, rows, shared_url, simple, until};

const SEED: u64 = 20_261_122;

/// Each round runs in a task that is dropped wherever it is, as a killed process would be.
#[tokio::test(flavor = "multi_thread")]
async fn after_abrupt_ends_each_row_is_there_once() {
    let Some(url) = shared_url("after_abrupt_ends_each_row_is_there_once") else {
        return;
    };
    println!("seed {SEED}");
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        300
    } else {
        15
    };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let world = World::new(&url).await;
    let stream = simple("abrupt");
    let mut appended = 0;
    for _ in 0..rounds {
        for _ in 0..random.random_range(1..6) {
            let count = random.random_range(1..3_000);
            world.append(&stream, &numbers(appended..appended + count)).await;
            appended += count;
        }
        let options = DatabaseOptions {
            batch_rows: random.random_range(1..6_000),
            commit_every: Duration::from_millis(random.random_range(1..20)),
            ..options()
        };
        let sink = world.start(std::slice::from_ref(&stream), options);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        drop(sink);
    }
    world.run(std::slice::from_ref(&stream), options()).await;
    assert_eq!(world.count("abrupt").await, appended, "seed {SEED}");
    assert_eq!(
        one(&world.admin, "SELECT count(DISTINCT n) FROM abrupt").await,
        appended
    );
    world.drop_schema().await;
}

/// The connection is lost before or after every single step, of which the worst is after the commit: it was made,
/// and nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_any_step_loses_and_repeats_nothing() {
    let Some(url) = shared_url("a_session_that_ends_at_any_step_loses_and_repeats_nothing") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("steps");
    let mut appended = 0;
    // prepare, position, begin, load, and after a refusal load, load …, refuse, commit.
    let steps = 16;
    for step in 1..=steps {
        for after in [false, true] {
            let mut lines = numbers(appended..appended + 20);
            lines.push("{\"n\":-1,\"note\":\"\\u0000\"}".to_owned());
            appended += 20;
            world.append(&stream, &lines).await;
            let breaking = Arc::new(Breaking {
                database: world.database(),
                left: Arc::new(AtomicI64::new(step)),
                after,
            });
            let sink = DatabaseSink::start(
                &tokio::runtime::Handle::current(),
                Arc::<journal::embedded::EmbeddedJournal>::clone(&world.journal),
                std::slice::from_ref(&stream),
                breaking,
                options(),
            )
            .expect("maps");
            caught_up(&sink.progress()).await;
            sink.shutdown().await;
            assert_eq!(
                world.count("steps").await,
                appended,
                "step {step}, after: {after}"
            );
        }
    }
    let distinct = "SELECT count(DISTINCT n) FROM steps WHERE n >= 0";
    assert_eq!(one(&world.admin, distinct).await, appended);
    assert_eq!(world.count("tidemill_refused").await, 2 * steps);
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_of_one_partition_write_each_row_once() {
    let Some(url) = shared_url("two_sinks_of_one_partition_write_each_row_once") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("twins");
    let options = DatabaseOptions {
        batch_rows: 500,
        ..options()
    };
    let sinks = [(); 2].map(|()| world.start(std::slice::from_ref(&stream), options.clone()));
    for part in 0..40 {
        world
            .append(&stream, &numbers(500 * part..500 * (part + 1)))
            .await;
    }
    for sink in &sinks {
        caught_up(&sink.progress()).await;
    }
    for sink in sinks {
        sink.shutdown().await;
    }
    assert_eq!(world.count("twins").await, 20_000);
    assert_eq!(
        one(&world.admin, "SELECT count(DISTINCT n) FROM twins").await,
        20_000
    );
    world.drop_schema().await;
}

async fn prepared(world: &World, table: &Arc<TargetTable>) -> Box<dyn sink::database::Session> {
    let mut session = world.database().connect().await.expect("connects");
    session.prepare(table).await.expect("prepares");
    let position = session
        .position(table, Partition(0), "j")
        .await
        .expect("a position");
    assert_eq!(position.journal, "j");
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_with_an_old_position_writes_nothing() {
    let Some(url) = shared_url("a_zombie_with_an_old_position_writes_nothing") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("zombie");
    let table = Arc::new(TargetTable::resolve(Arc::clone(&stream), "", None).expect("resolves"));
    let mut first = prepared(&world, &table).await;
    let mut second = prepared(&world, &table).await;
    let rows = rows(&stream, 0, &numbers(0..10));
    let written = transaction::write(first.as_mut(), &table, &rows, "j")
        .await
        .expect("writes");
    assert_eq!((written.inserted, written.refused), (10, 0));
    for journal in ["j", "another"] {
        let error = transaction::write(second.as_mut(), &table, &rows, journal).await;
        assert!(matches!(error, Err(DatabaseError::Moved { .. })), "{error:?}");
        second = prepared(&world, &table).await;
    }
    assert_eq!(world.count("zombie").await, 10);
    world.drop_schema().await;
}

/// A process that is paused in the middle of a transaction, with everything locked, holds nobody up for long, and
/// when it goes on it writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_transaction_is_ended_by_whoever_needs_its_position() {
    let Some(url) = shared_url("a_paused_transaction_is_ended_by_whoever_needs_its_position") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("paused");
    let table = Arc::new(TargetTable::resolve(Arc::clone(&stream), "", None).expect("resolves"));
    let lines = numbers(0..10);
    world.append(&stream, &lines).await;
    let journal = journal::Journal::id(&*world.journal).to_string();
    let mut paused = world.database().connect().await.expect("connects");
    paused.prepare(&table).await.expect("prepares");
    paused
        .position(&table, Partition(0), &journal)
        .await
        .expect("a position");
    let stored = paused.begin(&table, Partition(0)).await.expect("begins");
    assert_eq!(stored.map(|stored| stored.offset), Some(Offset(0)));
    let rows = rows(&stream, 0, &lines);
    let loaded = paused
        .load(&table, &rows, 0..10, Attempt::First)
        .await
        .expect("loads");
    assert_eq!(
        loaded,
        Loaded::Rows {
            unwritable: Vec::new()
        }
    );

    // The server would end it after a minute by itself; this is by the lock.
    world.run(std::slice::from_ref(&stream), options()).await;
    assert_eq!(world.count("paused").await, 10);
    let position = StoredPosition {
        journal,
        offset: Offset(1),
    };
    let committed = paused.commit(&table, Partition(0), &position).await;
    assert!(committed.is_err());
    assert_eq!(world.count("paused").await, 10);
    world.drop_schema().await;
}

/// The same in the middle of a COPY, where the server looks at none of its own limits while it waits for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_rest_never_comes_is_ended_by_whoever_needs_its_position() {
    let Some(url) = shared_url("a_copy_whose_rest_never_comes_is_ended_by_whoever_needs_its_position") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("copying");
    world.append(&stream, &numbers(0..10)).await;
    world.run(std::slice::from_ref(&stream), options()).await;

    let (paused, _driver) = connect(&world.url).await.expect("connects");
    paused
        .batch_execute(
            "SET statement_timeout = '1s'; BEGIN; \
             SELECT pg_advisory_xact_lock(hashtextextended('tidemill copying copying 0', 0))",
        )
        .await
        .expect("locks as a sink does");
    let copy = "COPY copying FROM STDIN (FORMAT binary)";
    let sink: tokio_postgres::CopyInSink<bytes::Bytes> = paused.copy_in(copy).await.expect("begins");
    let mut sink = std::pin::pin!(sink);
    let beginning = bytes::Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0");
    sink.send(beginning).await.expect("sends");

    world.append(&stream, &numbers(10..20)).await;
    let begun = std::time::Instant::now();
    world.run(std::slice::from_ref(&stream), options()).await;
    println!("the position was free after {:?}", begun.elapsed());
    assert_eq!(world.count("copying").await, 20);
    assert!(sink.finish().await.is_err());
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_backends_lose_and_repeat_nothing() {
    let Some(url) = shared_url("ended_backends_lose_and_repeat_nothing") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("ended");
    let options = DatabaseOptions {
        batch_rows: 2_000,
        ..options()
    };
    let sink = world.start(std::slice::from_ref(&stream), options);
    // The search path is in the options of the connection and nowhere in a view; the statements name it by table.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'tidemill' AND pid <> pg_backend_pid() AND query LIKE '%\"ended\"%'";
    let mut ended = 0;
    let mut appended = 0;
    while ended < 10 || appended < 60_000 {
        world.append(&stream, &numbers(appended..appended + 3_000)).await;
        appended += 3_000;
        ended += one(&world.admin, end).await;
        assert!(appended < 3_000_000, "no backend was ever met");
    }
    caught_up(&sink.progress()).await;
    sink.shutdown().await;
    println!("{ended} backends were ended");
    assert_eq!(world.count("ended").await, appended);
    assert_eq!(
        one(&world.admin, "SELECT count(DISTINCT n) FROM ended").await,
        appended
    );
    world.drop_schema().await;
}

/// The position is deleted by somebody who wants everything again; the key by position keeps rows from being there
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_position_fills_an_emptied_table_again() {
    let Some(url) = shared_url("a_deleted_position_fills_an_emptied_table_again") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("again");
    world.append(&stream, &numbers(0..100)).await;
    let sink = world.start(std::slice::from_ref(&stream), options());
    caught_up(&sink.progress()).await;
    world
        .admin
        .batch_execute("BEGIN; TRUNCATE again; DELETE FROM tidemill_positions; COMMIT")
        .await
        .expect("deleted");
    world.append(&stream, &numbers(100..110)).await;
    until("it is full again", Duration::from_secs(30), async || {
        world.count("again").await == 110
    })
    .await;
    sink.shutdown().await;
    world.drop_schema().await;
}
