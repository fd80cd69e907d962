//! The desk of one process: on a real journal, whatever order things come in and whenever it dies.

#[path = "embedded/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use assign::embedded::EmbeddedDesk;
use assign::{AssignError, AssignOptions, Desk, Settled, Settlement, Status};
use event::Offset;
use futures::future::join_all;
use journal::Journal;
use tokio::task::JoinSet;
use world::{World, until};

fn options(limit: u32, session: Duration) -> AssignOptions {
    AssignOptions {
        limit,
        session,
        ..AssignOptions::default()
    }
}

const LONG: Duration = Duration::from_secs(600);

/// Method: 64 clients at once renew sessions, post events and settle what is assigned; the stream of assignments, in its
/// order, is the judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_clients_at_once_never_put_more_than_the_limit_on_anybody() {
    const EVENTS: u64 = 64 * 25;
    let world = World::new();
    let desk = Arc::new(world.desk(options(50, LONG)).await);
    let users = ["a", "b", "c", "d", "e"];
    join_all(users.map(|user| desk.begin(user))).await;
    let seen = world::Seen::default();
    let mut watching = JoinSet::new();
    watching.spawn(seen.clone().watch(Arc::clone(&world.journal)));
    let mut clients = JoinSet::new();
    for client in 0..64_u64 {
        let (desk, journal, seen) = (Arc::clone(&desk), Arc::clone(&world.journal), seen.clone());
        clients.spawn(async move {
            for number in 0..25 {
                desk.begin(users[(client + number) as usize % users.len()])
                    .await
                    .expect("room");
                world::post(&journal, &[format!("e{}", client * 25 + number)]).await;
                // Somebody settles one that is open, and is often not the only one.
                if let Some(id) = seen.nth_open(client as usize % 7) {
                    let settled = desk.settle(&id, Settlement::Completed).await;
                    assert!(settled.is_ok(), "{settled:?}");
                    seen.forget(&id);
                }
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("a client");
    }
    // Whatever waits gets room as others are settled.
    until("every event is assigned", async || {
        let steps = world::steps(&world.journal).await;
        for (id, _) in world::open_of(&steps) {
            desk.settle(&id, Settlement::Rejected).await.expect("open");
        }
        world::opened(&steps).len() as u64 == EVENTS
    })
    .await;
    let steps = world.judged(50).await;
    assert_eq!(world::opened(&steps).len() as u64, EVENTS);
    desk.shutdown().await;
}

#[tokio::test]
async fn a_status_frees_the_place_once_and_unknown_ids_are_told() {
    let world = World::new();
    let desk = world.desk(options(2, LONG)).await;
    world::post(&world.journal, &["1", "2", "3"].map(str::to_owned)).await;
    desk.begin("a").await.expect("room");
    let open = world.wait_open(2).await;
    let (first, event) = open.first_key_value().expect("two");
    assert_eq!(
        desk.settle("nobody's", Settlement::Completed).await,
        Err(AssignError::Unknown)
    );
    assert_eq!(desk.settle(first, Settlement::Completed).await, Ok(Settled::Now));
    assert_eq!(
        desk.settle(first, Settlement::Completed).await,
        Ok(Settled::Before)
    );
    let other = desk.settle(first, Settlement::Rejected).await;
    assert_eq!(other, Err(AssignError::Ended(Status::Completed)));
    until("the third has the free place", async || {
        world::opened(&world::steps(&world.journal).await).len() == 3
    })
    .await;
    let answers = world.answers().await;
    let of_first: Vec<_> = answers
        .iter()
        .filter(|answer| answer["event_id"] == event.as_str())
        .collect();
    let statuses: Vec<_> = of_first
        .iter()
        .map(|answer| answer["status"].as_str().expect("text"))
        .collect();
    assert_eq!(statuses, ["assigned", "completed"]);
    assert_eq!(of_first[0]["user_id"], "a");
    world.judged(2).await;
}

#[tokio::test]
async fn the_same_event_twice_is_assigned_once_also_after_a_start() {
    let world = World::new();
    let ids = ["x", "x", "y"].map(str::to_owned);
    let desk = world.desk(options(50, LONG)).await;
    desk.begin("a").await.expect("room");
    world::post(&world.journal, &ids).await;
    let open = world.wait_open(2).await;
    let (done, _) = open.first_key_value().expect("two");
    desk.settle(done, Settlement::Completed).await.expect("open");
    desk.shutdown().await;
    // With a snapshot, and again without one.
    for from_snapshot in [true, false] {
        if !from_snapshot {
            std::fs::remove_file(world.directory().join("state")).expect("it was taken at the end");
        }
        let desk = world.desk(options(50, LONG)).await;
        desk.begin("a").await.expect("room");
        world::post(&world.journal, &ids).await;
        let marker = format!("z{from_snapshot}");
        world::post(&world.journal, std::slice::from_ref(&marker)).await;
        until("the marker is assigned", async || {
            world::opened(&world::steps(&world.journal).await).contains(&marker)
        })
        .await;
        assert_eq!(
            desk.settle(done, Settlement::Completed).await,
            Ok(Settled::Before)
        );
        drop(desk);
    }
    let steps = world.judged(50).await;
    assert_eq!(
        world::opened(&steps),
        BTreeSet::from(["x", "y", "ztrue", "zfalse"].map(str::to_owned))
    );
}

#[tokio::test]
async fn what_somebody_has_goes_to_others_when_the_session_ends_and_waits_while_nobody_has_room() {
    let world = World::new();
    let desk = world.desk(options(3, Duration::from_millis(500))).await;
    desk.begin("goes").await.expect("room");
    world::post(&world.journal, &["1", "2", "3", "4"].map(str::to_owned)).await;
    world.wait_open(3).await;
    assert_eq!(desk.end("nobody").await, Ok(false));
    assert_eq!(desk.end("goes").await, Ok(true));
    // Nobody is there: it stays.
    assert_eq!(world.wait_open(3).await.len(), 3);
    desk.begin("stays").await.expect("room");
    until("all three are with the other one", async || {
        desk.begin("stays").await.expect("room");
        let steps = world::steps(&world.journal).await;
        let reassigned = steps.iter().filter(|step| step["status"] == "reassigned").count();
        reassigned == 3 && world::open_of(&steps).len() == 3
    })
    .await;
    let open = world::steps(&world.journal).await;
    let moved = open
        .iter()
        .rev()
        .find(|step| step["status"] == "reassigned")
        .expect("three");
    let id = moved["assignment_id"].as_str().expect("text");
    let ended = desk.settle(id, Settlement::Completed).await;
    assert_eq!(ended, Err(AssignError::Ended(Status::Reassigned)));
    // Time ends sessions too. The fourth is with who came later already, so there is room for two.
    until("what the silent one has goes to who came later", async || {
        desk.begin("late").await.expect("room");
        let steps = world::steps(&world.journal).await;
        steps.iter().filter(|step| step["status"] == "reassigned").count() >= 5
    })
    .await;
    world.judged(3).await;
}

/// Method: the desk is dropped in the middle of its work, as often as there are rounds, and started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_at_any_moment_no_event_is_forgotten_or_with_two() {
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        200
    } else {
        15
    };
    let mut world = World::new();
    let mut posted = 0;
    for round in 0..rounds {
        let desk = world.desk(options(40, LONG)).await;
        for user in ["a", "b", "c"] {
            desk.begin(user).await.expect("room");
        }
        let ids: Vec<_> = (posted..posted + 20).map(|number| format!("e{number}")).collect();
        posted += 20;
        world::post(&world.journal, &ids).await;
        let settling = async {
            for (id, _) in world::open_of(&world::steps(&world.journal).await)
                .into_iter()
                .take(15)
            {
                desk.settle(&id, Settlement::Completed).await.expect("open");
            }
        };
        // Cut at another point of the work each time.
        let _ = tokio::time::timeout(Duration::from_micros(round * 1_700 % 23_000), settling).await;
        drop(desk);
        world = world.reopen().await;
    }
    let desk = world.desk(options(40, LONG)).await;
    desk.begin("a").await.expect("room");
    until("every event is assigned", async || {
        let steps = world::steps(&world.journal).await;
        for (id, _) in world::open_of(&steps) {
            desk.settle(&id, Settlement::Completed).await.expect("open");
        }
        world::opened(&steps).len() == posted
    })
    .await;
    world.judged(40).await;
}

#[tokio::test]
async fn what_the_journal_has_let_go_of_comes_from_the_archive() {
    let world = World::new();
    let desk = world.desk(options(50, LONG)).await;
    desk.begin("a").await.expect("room");
    world::post(&world.journal, &["1", "2"].map(str::to_owned)).await;
    world.wait_open(2).await;
    drop(desk);
    world::post(&world.journal, &["3".to_owned()]).await;
    let world = world.forget_everything().await;
    world::post(&world.journal, &["4".to_owned()]).await;
    let start = world.journal.start(&world::found().name).await.expect("known");
    assert!(
        start[0].offset > Offset(0),
        "the journal has nothing old any more"
    );
    let desk = EmbeddedDesk::start(options(50, LONG), world.options_with_archive())
        .await
        .expect("starts");
    desk.begin("a").await.expect("room");
    until(
        "the events that waited are assigned, and none twice",
        async || {
            let steps = world::steps_from(&world.journal, world.forgotten()).await;
            world::opened(&steps) == BTreeSet::from(["3", "4"].map(str::to_owned))
        },
    )
    .await;
    let loads = BTreeMap::from([("a", 4)]);
    let all = world.all_steps().await;
    assert_eq!(
        world::loads(&all),
        loads
            .iter()
            .map(|(user, load)| ((*user).to_owned(), *load))
            .collect()
    );
}
