//! The desk of several processes, around a real PostgreSQL, Redis and RabbitMQ, and when one of them dies.

#[path = "servers/own.rs"]
mod own;
#[path = "servers/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assign::{AssignError, AssignOptions, Desk, Settled, Settlement, Status};
use futures::future::join_all;
use tokio::task::JoinSet;
use world::{Draws, World, until};

const LONG: Duration = Duration::from_secs(600);

fn options(limit: u32, session: Duration) -> AssignOptions {
    AssignOptions {
        limit,
        session,
        ..AssignOptions::default()
    }
}

/// Method: four desks with sixteen assigners each, six people, more events than these may have, and somebody who settles
/// while the others assign; somebody looks all the time, in the database and in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_assigners_never_put_more_than_fifty_on_anybody() {
    let Some(world) = World::shared("the limit").await else {
        return;
    };
    let desks: Vec<_> = (0..4)
        .map(|_| Arc::new(world.desk(options(50, LONG), 16)))
        .collect();
    let users = ["a", "b", "c", "d", "e", "f"];
    until("people are there", async || desks[0].begin("a").await.is_ok()).await;
    join_all(users.map(|user| desks[1].begin(user))).await;
    world.post((0..1_000).map(|number| format!("e{number}"))).await;
    let mut looking = JoinSet::new();
    looking.spawn(world.look_for_more_than(50));
    until("everybody has as many as may be", async || {
        world.loads().await.values().sum::<i64>() == 300
    })
    .await;
    assert_eq!(
        world.loads().await,
        users.iter().map(|user| ((*user).to_owned(), 50)).collect()
    );
    until("Redis counts the same", async || {
        world.redis_counts().await == world.loads().await
    })
    .await;
    let mut draws = Draws(7);
    while world.count("SELECT count(*) FROM assignments").await < 1_000 {
        let open = world.open(100).await;
        let settling = open.iter().map(|id| {
            let desk = Arc::clone(&desks[draws.below(4) as usize]);
            async move { desk.settle(id, Settlement::Completed).await }
        });
        for settled in join_all(settling).await {
            assert_eq!(settled, Ok(Settled::Now));
        }
        assert!(looking.try_join_next().is_none(), "somebody had more");
    }
    world.judge(1_000).await;
    until("Redis counts the same", async || {
        world.redis_counts().await == world.loads().await
    })
    .await;
    join_all(desks.iter().map(|desk| desk.shutdown())).await;
    assert!(looking.try_join_next().is_none(), "somebody had more");
    looking.shutdown().await;
    let answers = world.answers().await;
    assert_eq!(
        answers
            .values()
            .flatten()
            .filter(|status| *status == "assigned")
            .count(),
        1_000
    );
    let ended = answers
        .values()
        .filter(|statuses| *statuses == &["assigned", "completed"])
        .count() as i64;
    assert_eq!(
        ended,
        world
            .count("SELECT count(*) FROM assignments WHERE status = 'completed'")
            .await
    );
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_frees_the_place_once_and_what_is_no_event_is_kept() {
    let Some(world) = World::shared("statuses").await else {
        return;
    };
    let desk = world.desk(options(2, LONG), 4);
    world
        .post_raw(["no JSON", "{}", r#"{"event_id":"nul\u0000"}"#].map(String::from))
        .await;
    world.post(["1", "1", "2", "3"].map(String::from)).await;
    until("somebody is there", async || desk.begin("a").await.is_ok()).await;
    until("two are assigned", async || world.open(9).await.len() == 2).await;
    let first = world.open(9).await.remove(0);
    assert_eq!(
        desk.settle("nobody's", Settlement::Completed).await,
        Err(AssignError::Unknown)
    );
    assert_eq!(
        desk.settle("\0", Settlement::Completed).await,
        Err(AssignError::Unknown)
    );
    assert_eq!(desk.settle(&first, Settlement::Rejected).await, Ok(Settled::Now));
    assert_eq!(
        desk.settle(&first, Settlement::Rejected).await,
        Ok(Settled::Before)
    );
    let other = desk.settle(&first, Settlement::Completed).await;
    assert_eq!(other, Err(AssignError::Ended(Status::Rejected)));
    until("the third has the place", async || world.open(9).await.len() == 2).await;
    until("what is no event is kept", async || {
        world.count("SELECT count(*) FROM assignment_refused").await == 3
    })
    .await;
    until("nothing is left in the queue", async || {
        world.waiting().await == 0
    })
    .await;
    world.judge(3).await;
    assert!(desk.health().await.is_good(), "{:?}", desk.health().await);
    desk.shutdown().await;
    world.remove().await;
}

/// Such as the service that was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_program_is_left_alone_and_the_way_out_is_named() {
    let Some(world) = World::shared("foreign").await else {
        return;
    };
    let database = world.postgres().await.expect("postgres");
    database
        .batch_execute("CREATE TABLE assignments (id serial PRIMARY KEY, worker text); INSERT INTO assignments VALUES (1, 'x')")
        .await
        .expect("made");
    let desk = world.desk(options(2, LONG), 1);
    until("the desk says what is in its way", async || {
        format!("{:?}", desk.health().await).contains("CREATE SCHEMA tidemill")
    })
    .await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM assignments WHERE worker = 'x'")
            .await,
        1
    );
    desk.shutdown().await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_has_goes_to_others_when_the_session_ends() {
    let Some(world) = World::shared("sessions").await else {
        return;
    };
    let desk = world.desk(options(5, Duration::from_secs(2)), 4);
    until("somebody is there", async || desk.begin("goes").await.is_ok()).await;
    world.post((0..5).map(|number| number.to_string())).await;
    until("all are assigned", async || world.open(9).await.len() == 5).await;
    assert_eq!(desk.end("nobody").await, Ok(false));
    assert_eq!(desk.end("goes").await, Ok(true));
    let before = world.open(9).await;
    desk.begin("stays").await.expect("room");
    let stays = BTreeMap::from([("stays".to_owned(), 5)]);
    until("all are with the other one", async || {
        desk.begin("stays").await.expect("room");
        world.loads().await == stays
    })
    .await;
    let ended = desk.settle(&before[0], Settlement::Completed).await;
    assert_eq!(ended, Err(AssignError::Ended(Status::Reassigned)));
    let late = BTreeMap::from([("late".to_owned(), 5)]);
    until("what the silent one had is with who came later", async || {
        desk.begin("late").await.expect("room");
        world.loads().await == late
    })
    .await;
    until("Redis counts the same", async || {
        world.redis_counts().await == world.loads().await
    })
    .await;
    world.judge(5).await;
    desk.shutdown().await;
    world.remove().await;
}

/// Method: desks are dropped as a crash ends them, at another moment in each round, while events come and others work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_crash_of_a_process_at_any_moment_nothing_is_forgotten_or_with_two() {
    let Some(world) = World::shared("crashes").await else {
        return;
    };
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        60
    } else {
        8
    };
    let users = ["a", "b", "c"];
    let mut draws = Draws(11);
    let mut posted = 0;
    let other = world.desk(options(50, LONG), 4);
    until("people are there", async || other.begin("a").await.is_ok()).await;
    join_all(users.map(|user| other.begin(user))).await;
    for _ in 0..rounds {
        let desk = world.desk(options(50, LONG), 16);
        world
            .post((posted..posted + 30).map(|number| format!("e{number}")))
            .await;
        posted += 30;
        let settling = async {
            loop {
                for id in world.open(20).await {
                    // Where it is asked may be down.
                    let _ = desk.settle(&id, Settlement::Completed).await;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(50 + draws.below(250)), settling).await;
        drop(desk);
    }
    world.settle_all(&other, posted).await;
    world.judge(posted).await;
    until("Redis counts the same", async || {
        world.redis_counts().await == world.loads().await
    })
    .await;
    other.shutdown().await;
    world.answered_everything(posted).await;
    world.remove().await;
}

/// Method: servers of our own, of which one is killed in each round while events come and are settled; Redis loses all of
/// its data each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_forgotten_or_with_two_when_any_server_is_killed() {
    let Some(mut world) = World::own("servers that are killed").await else {
        return;
    };
    world.keep_queues().await;
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        15
    } else {
        3
    };
    let desk = Arc::new(world.desk(options(50, LONG), 16));
    let mut posted = 0;
    for round in 0..rounds {
        world
            .post((posted..posted + 150).map(|number| format!("e{number}")))
            .await;
        posted += 150;
        let beginning = async || {
            // Redis may have forgotten everybody.
            let all = join_all(["a", "b", "c"].map(|user| desk.begin(user))).await;
            all.iter().all(Result::is_ok)
        };
        until("people are there", beginning).await;
        until("work is under way", async || {
            world.try_count("SELECT count(*) FROM assignments").await > posted - 120
        })
        .await;
        world.kill(round % 3);
        assert!(world.is_down(round % 3), "it is down");
        world.up(round % 3).await;
        until("everything works again", async || desk.health().await.is_good()).await;
        until("people are there again", beginning).await;
        world.settle_all(&desk, posted).await;
    }
    world.judge(posted).await;
    until("Redis counts the same", async || {
        world.redis_counts().await == world.loads().await
    })
    .await;
    desk.shutdown().await;
    world.answered_everything(posted).await;
}
