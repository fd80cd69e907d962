//! REST: what the documentation says, limits, and equality with SQL.

use std::sync::Arc;

use http::StatusCode;
use lake::Snapshot;
use serde_json::{Value, json};

use super::world::{BASE, World, get};
use event::moment::rfc3339;

async fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..6 {
        world.append(90).await;
    }
    world.roll(2).await;
    world.roll(2).await;
    world
}

#[tokio::test]
async fn rest_answers_equal_the_documented_sql() {
    let world = filled(21).await;
    let (start, end) = (rfc3339(BASE + 3_600_000_000), rfc3339(BASE + 5 * 3_600_000_000));
    let range = format!("at >= '{start}' AND at < '{end}'");

    let (_, stats) = world
        .get(&format!(
            "/v1/streams/run/stats?start={start}&end={end}&exact=true"
        ))
        .await;
    let rows = world
        .sql(&format!(
            "SELECT count(*), min(at), max(at), count(DISTINCT user_id), min(duration), max(duration), sum(duration), \
             avg(duration), sum(score) FROM run WHERE {range}"
        ))
        .await;
    let fields = &stats["fields"];
    let duration = &fields["duration"];
    assert_eq!(
        json!([[
            stats["count"],
            stats["first"],
            stats["last"],
            stats["key"]["distinct"],
            duration["min"],
            duration["max"],
            duration["sum"],
            duration["avg"],
            fields["score"]["sum"]
        ]]),
        rows
    );

    let (_, stats) = world
        .get(&format!(
            "/v1/streams/run/stats?start={start}&end={end}&interval=1h&by=kind"
        ))
        .await;
    let rows = world
        .sql(&format!(
            "SELECT date_trunc('hour', at) AS hour, kind, count(*), sum(duration) FROM run WHERE {range} \
             GROUP BY hour, kind ORDER BY hour, kind"
        ))
        .await;
    let groups = stats["groups"].as_array().expect("groups").iter();
    let groups = groups.map(|group| {
        json!([
            group["start"],
            group["kind"],
            group["count"],
            group["fields"]["duration"]["sum"]
        ])
    });
    assert_eq!(Value::Array(groups.collect()), rows);

    let (_, page) = world
        .get(&format!(
            "/v1/streams/run/events?start={start}&end={end}&kind=run&limit=20"
        ))
        .await;
    let rows = world
        .sql(&format!(
            "SELECT _index, user_id, duration FROM run WHERE {range} AND kind = 'run' ORDER BY _index LIMIT 20"
        ))
        .await;
    let events = page["events"].as_array().expect("events").iter();
    let events = events.map(|event| json!([event["_index"], event["user_id"], event["duration"]]));
    assert_eq!(Value::Array(events.collect()), rows);
}

#[tokio::test]
async fn wrong_parameters_are_named_with_400_and_unknown_things_are_404() {
    let world = filled(22).await;
    for query in [
        "events?limit=0",
        "events?limit=10001",
        "events?start=yesterday",
        "events?cursor=zz",
        "events?cursor=0000000012",
        "events?duration=fast",
        "events?kind=fly",
        "events?user_id=me",
        "events?extra=1",
        "events?nothing=1",
        "events?kind=run&kind=run",
        "events/one",
        "events/-1",
        "stats?interval=1y",
        "stats?by=nothing",
        "stats?by=score",
        "stats?exact=maybe",
    ] {
        let (status, problem) = world.get(&format!("/v1/streams/run/{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["status"], 400, "{query}");
    }
    for path in [
        "/v1/streams/none",
        "/v1/streams/none/events",
        "/v1/streams/none/stats",
        "/v1/streams/run/events/999999",
    ] {
        assert_eq!(world.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_event_that_retention_removed_is_gone_and_indexes_do_not_shift() {
    let world = filled(23).await;
    let (_, before) = world.get("/v1/streams/run/events/200").await;
    let snapshot = Arc::clone(&world.tables.0.lock().expect("whole"));
    let removed = snapshot.files[0].rows;
    let after = Snapshot {
        files: snapshot.files[1..].to_vec().into(),
        removed,
        ..(*snapshot).clone()
    };
    *world.tables.0.lock().expect("whole") = Arc::new(after);
    assert_eq!(world.get("/v1/streams/run/events/0").await.0, StatusCode::GONE);
    assert_eq!(
        world
            .get(&format!("/v1/streams/run/events/{}", removed - 1))
            .await
            .0,
        StatusCode::GONE
    );
    assert_eq!(world.get("/v1/streams/run/events/200").await.1, before);
    let (_, page) = world.get("/v1/streams/run/events?limit=1").await;
    assert_eq!(page["events"][0]["_index"], removed);
    assert_eq!(
        world.sql("SELECT min(_index), max(_index) FROM run").await,
        json!([[removed, 539]])
    );
}

#[tokio::test]
async fn partials_of_files_survive_a_restart_and_damage() {
    let world = filled(24).await;
    let (_, stats) = world.get("/v1/streams/run/stats").await;
    let partials = world.directory.path().join("cache/partials");
    let all = std::fs::read_dir(&partials).expect("there");
    let all: Vec<_> = all.map(|entry| entry.expect("a file").path()).collect();
    let of_blocks = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(".blocks.json");
    let files: Vec<_> = all.iter().filter(|path| !of_blocks(path)).collect();
    // The whole of each file, and its blocks.
    assert_eq!((files.len(), all.len()), (2, 4));
    for blocks in all.iter().filter(of_blocks) {
        let whole = std::fs::read(blocks).expect("there");
        std::fs::write(blocks, &whole[..whole.len() / 2]).expect("cut");
    }
    assert_eq!(get(&world.reopened(), "/v1/streams/run/stats").await.1, stats);
    let whole = std::fs::read(files[0]).expect("there");
    std::fs::write(files[0], &whole[..whole.len() / 2]).expect("cut");
    let text = std::fs::read_to_string(files[1])
        .expect("text")
        .replace("\"count\":180", "\"count\":181");
    std::fs::write(files[1], text).expect("changed");
    assert_eq!(get(&world.reopened(), "/v1/streams/run/stats").await.1, stats);
}

#[tokio::test]
async fn streams_are_described_with_their_state() {
    let world = filled(25).await;
    let (status, stream) = world.get("/v1/streams/run").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(stream["lake"]["events"], 360);
    assert_eq!(stream["lag_records"], 2);
    assert_eq!(stream["fields"][3]["values"], json!(["walk", "run", "ride"]));
    let (_, all) = world.get("/v1/streams").await;
    assert_eq!(all["streams"].as_array().map(Vec::len), Some(2));
    let (status, stats) = world.get("/v1/stats").await;
    assert_eq!(status, StatusCode::OK, "{stats}");
    assert_eq!(stats["streams"][1]["count"], 540);
}

#[tokio::test]
async fn partials_of_files_that_are_gone_go_as_well() {
    let mut world = World::new(26);
    let partials = world.directory.path().join("cache/partials");
    let kept = || std::fs::read_dir(&partials).expect("there").count();
    let mut most = 0;
    for _ in 0..280 {
        world.append(1).await;
        world.roll(1).await;
        assert_eq!(world.get("/v1/streams/run/stats").await.0, StatusCode::OK);
        most = most.max(kept());
        world.compact(0);
    }
    let files = world.tables.0.lock().expect("whole").files.len();
    assert_eq!(files, 1);
    assert!(most >= 200 && kept() < 100, "{} of at most {most}", kept());
}

#[tokio::test]
async fn spill_files_of_processes_that_ended_go_at_the_start() {
    let world = World::new(27);
    let spill = world.directory.path().join("cache/spill");
    let own = spill.join(std::process::id().to_string());
    // No process has this number: it is beyond the largest one of Linux.
    let dead = spill.join("4294967295");
    std::fs::create_dir_all(dead.join("datafusion-x")).expect("made");
    assert!(own.exists());
    drop(world.reopened());
    assert!(own.exists() && !dead.exists());
}
