//! Every durable row is seen exactly once and under one index, whatever rolls or is compacted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use rand::RngExt;
use serde_json::{Value, json};

use super::world::{BASE, Modelled, World, append, compact, post_sql, roll};
use event::moment::rfc3339;

fn steps() -> usize {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        2_000
    } else {
        40
    }
}

#[tokio::test]
async fn answers_agree_with_a_model_after_any_appends_rolls_and_compactions() {
    let mut world = World::new(11);
    for step in 0..steps() {
        match world.rng.random_range(0..4) {
            0 | 1 => {
                let count = world.rng.random_range(1..150);
                world.append(count).await;
            }
            2 => {
                let records = world.rng.random_range(1..4);
                world.roll(records).await;
            }
            _ => {
                let at = world.rng.random_range(0..4);
                world.compact(at);
            }
        }
        check_indexes(&mut world).await;
        check_offsets(&mut world).await;
        check_sums(&world).await;
        check_stats(&mut world, step).await;
        check_intervals(&mut world, step).await;
        check_pages(&mut world).await;
    }
}

fn as_json(index: usize, event: &Modelled) -> Value {
    json!({"_index": index, "user_id": event.user, "duration": event.duration, "score": event.score,
        "kind": event.kind, "at": rfc3339(event.at), "extra": event.extra(),
        "_received_at": rfc3339(BASE), "_trace_id": "07".repeat(16)})
}

async fn check_indexes(world: &mut World) {
    let count = world.model.len();
    for _ in 0..3 {
        let index = world.rng.random_range(0..count + 2);
        let (status, found) = world.get(&format!("/v1/streams/run/events/{index}")).await;
        match world.model.get(index) {
            Some(event) => assert_eq!((status, found), (StatusCode::OK, as_json(index, event))),
            None => assert_eq!(status, StatusCode::NOT_FOUND),
        }
    }
    let from = world.rng.random_range(0..=count);
    let to = (from + 200).min(count);
    let rows = world
        .sql(&format!(
            "SELECT _index, duration FROM run WHERE _index >= {from} AND _index < {to} ORDER BY _index LIMIT 1000"
        ))
        .await;
    let expected: Vec<Value> = (from..to)
        .map(|at| json!([at, world.model[at].duration]))
        .collect();
    assert_eq!(rows, Value::Array(expected));
}

/// OFFSET is a range of `_index`, over every mixture of files and tail.
async fn check_offsets(world: &mut World) {
    let count = world.model.len();
    let skip = world.rng.random_range(0..count + 20);
    let take = world.rng.random_range(0..120);
    let durations = |range: std::ops::Range<usize>| -> Vec<Value> {
        let events = world.model[range.start.min(count)..range.end.min(count)].iter();
        events.map(|event| json!([event.duration])).collect()
    };
    let page = Value::Array(durations(skip..skip + take));
    for sql in [
        format!("SELECT duration FROM run ORDER BY _index LIMIT {take} OFFSET {skip}"),
        format!(
            "SELECT d FROM (SELECT duration AS d, _index AS i FROM run) AS x ORDER BY i LIMIT {take} OFFSET {skip}"
        ),
    ] {
        assert_eq!(world.sql(&sql).await, page, "{sql}");
    }
    let mut newest = durations(count.saturating_sub(skip + take)..count.saturating_sub(skip));
    newest.reverse();
    let sql = format!("SELECT duration FROM run ORDER BY _index DESC LIMIT {take} OFFSET {skip}");
    assert_eq!(world.sql(&sql).await, Value::Array(newest), "{sql}");
    let oldest = durations(0..take);
    let sql = format!("SELECT duration FROM run ORDER BY _index LIMIT {take}");
    assert_eq!(world.sql(&sql).await, Value::Array(oldest), "{sql}");
    let rest = durations(skip..count);
    let sql = format!("SELECT duration FROM run ORDER BY _index OFFSET {skip}");
    let found = world.sql(&sql).await;
    assert_eq!(found.as_array().map(Vec::len), Some(rest.len().min(10_000)));
    assert_eq!(
        found.as_array().and_then(|rows| rows.first()),
        rest.first(),
        "{sql}"
    );
    let unordered = world
        .sql(&format!(
            "SELECT count(*) FROM (SELECT duration FROM run LIMIT {take} OFFSET {skip})"
        ))
        .await;
    assert_eq!(unordered, json!([[count.saturating_sub(skip).min(take)]]));
    // What drops or reorders rows in between keeps its own meaning.
    let mut walks = world.model.iter().filter(|event| event.kind == "walk").skip(3);
    let third = world
        .sql("SELECT duration FROM run WHERE kind = 'walk' ORDER BY _index LIMIT 1 OFFSET 3")
        .await;
    let expected: Vec<Value> = walks.next().iter().map(|event| json!([event.duration])).collect();
    assert_eq!(third, Value::Array(expected));
    let mut sorted: Vec<i64> = world.model.iter().map(|event| event.duration).collect();
    sorted.sort_unstable();
    let fifth = world
        .sql("SELECT duration AS _index FROM run ORDER BY _index LIMIT 1 OFFSET 5")
        .await;
    let expected: Vec<Value> = sorted.get(5).iter().map(|duration| json!([duration])).collect();
    assert_eq!(fifth, Value::Array(expected));
}

async fn check_sums(world: &World) {
    let rows = world
        .sql("SELECT count(*), sum(duration), min(at), count(score), sum(_index), count(DISTINCT user_id) FROM run")
        .await;
    let model = &world.model;
    let count = model.len();
    if count == 0 {
        assert_eq!(rows, json!([[0, null, null, 0, null, 0]]));
        return;
    }
    let users: BTreeSet<_> = model.iter().map(|event| &event.user).collect();
    let expected = json!([[
        count,
        model.iter().map(|event| event.duration).sum::<i64>(),
        rfc3339(model.iter().map(|event| event.at).min().expect("some")),
        model.iter().filter(|event| event.score.is_some()).count(),
        (0..count).sum::<usize>(),
        users.len(),
    ]]);
    assert_eq!(rows, expected);
}

async fn check_stats(world: &mut World, step: usize) {
    let span = 60_000_000 * (world.model.len() as i64 + 10);
    let start = BASE + world.rng.random_range(0..span);
    let end = start + world.rng.random_range(0..span);
    let query = match step % 3 {
        0 => String::new(),
        1 => format!("start={}&end={}", rfc3339(start), rfc3339(end)),
        _ => "kind=run&exact=true".to_owned(),
    };
    let within = |event: &Modelled| match step % 3 {
        0 => true,
        1 => event.at >= start && event.at < end,
        _ => event.kind == "run",
    };
    let (status, stats) = world.get(&format!("/v1/streams/run/stats?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{stats}");
    let events: Vec<_> = world.model.iter().filter(|event| within(event)).collect();
    assert_eq!(stats["count"], json!(events.len()), "{query}");
    assert_eq!(
        stats["first"],
        json!(events.iter().map(|event| event.at).min().map(rfc3339)),
        "{query}"
    );
    assert_eq!(
        stats["last"],
        json!(events.iter().map(|event| event.at).max().map(rfc3339)),
        "{query}"
    );
    let users: BTreeSet<_> = events.iter().map(|event| &event.user).collect();
    let distinct = stats["key"]["distinct"].as_u64().expect("a count");
    assert!(
        distinct.abs_diff(users.len() as u64) <= 1,
        "{distinct} for {}",
        users.len()
    );
    let duration = &stats["fields"]["duration"];
    if events.is_empty() {
        assert_eq!(duration["sum"], Value::Null);
        return;
    }
    assert_eq!(
        duration["sum"],
        json!(events.iter().map(|event| event.duration).sum::<i64>())
    );
    assert_eq!(
        duration["min"],
        json!(events.iter().map(|event| event.duration).min())
    );
    let scores: Vec<f64> = events.iter().filter_map(|event| event.score).collect();
    assert_eq!(stats["fields"]["score"]["count"], json!(scores.len()));
    if !scores.is_empty() {
        // Quarters add up exactly.
        assert_eq!(stats["fields"]["score"]["sum"], json!(scores.iter().sum::<f64>()));
    }
}

/// Counts by interval, of which some hold a whole file and some a part of one.
async fn check_intervals(world: &mut World, step: usize) {
    let minutes = [1i64, 7, 60, 600, 100_000][step % 5];
    let from = BASE + world.rng.random_range(0..6_000_000_000);
    let whole = step.is_multiple_of(2);
    let start = if whole { i64::MIN } else { from };
    let range = if whole {
        String::new()
    } else {
        format!("&start={}", rfc3339(from))
    };
    let mut expected: std::collections::BTreeMap<i64, (u64, i64)> = Default::default();
    for event in world.model.iter().filter(|event| event.at >= start) {
        let group = expected
            .entry(event.at.div_euclid(minutes * 60_000_000) * minutes * 60_000_000)
            .or_default();
        *group = (group.0 + 1, group.1 + event.duration);
    }
    if expected.len() > 10_000 {
        return;
    }
    let (status, stats) = world
        .get(&format!("/v1/streams/run/stats?interval={minutes}m{range}"))
        .await;
    assert_eq!(status, StatusCode::OK, "{stats}");
    let groups = stats["groups"].as_array().expect("groups").iter();
    let groups: Vec<Value> = groups
        .map(|group| json!([group["start"], group["count"], group["fields"]["duration"]["sum"]]))
        .collect();
    let expected: Vec<Value> = expected
        .iter()
        .map(|(at, (count, sum))| json!([rfc3339(*at), count, sum]))
        .collect();
    assert_eq!(groups, expected, "{minutes}m{range}");
}

/// Pages through a range while events arrive and files change in between: no gap, no double.
async fn check_pages(world: &mut World) {
    let end = BASE + 60_000_000 * world.model.len() as i64;
    let start = BASE + 600_000_000;
    let question = format!(
        "/v1/streams/run/events?start={}&end={}&limit=37",
        rfc3339(start),
        rfc3339(end)
    );
    let (mut cursor, mut found) = (String::new(), Vec::new());
    loop {
        let (status, page) = world.get(&format!("{question}{cursor}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        found.extend(
            page["events"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|event| event["_index"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        match world.rng.random_range(0..6) {
            0 => world.append(1).await,
            1 => world.roll(1).await,
            2 => world.compact(0),
            _ => {}
        }
    }
    let expected = world
        .model
        .iter()
        .enumerate()
        .filter(|(_, event)| event.at >= start && event.at < end);
    let expected: Vec<Value> = expected.map(|(index, _)| json!(index)).collect();
    assert_eq!(found, expected);
}

/// Counts all the time while another task appends, rolls and compacts. sum(_index) of n rows is n(n-1)/2 only
/// when each of them is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_never_seen_twice_or_missed_while_files_roll() {
    let mut world = World::new(12);
    world.append(100).await;
    let (acknowledged, done) = (Arc::new(AtomicUsize::new(100)), Arc::new(AtomicBool::new(false)));
    let (journal, tables) = (Arc::clone(&world.journal), world.tables.clone());
    let (counter, ended) = (Arc::clone(&acknowledged), Arc::clone(&done));
    let event = world.model[0].clone();
    let records = steps() * 5;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for step in 0..records {
            append(&journal, &vec![event.clone(); 1 + step % 90]).await;
            counter.fetch_add(1 + step % 90, Ordering::SeqCst);
            if step % 3 == 2 {
                roll(&journal, &tables, 2, format!("c{step}.parquet")).await;
            }
            if step % 12 == 11 {
                compact(&tables, step % 5, format!("m{step}.parquet"));
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    let mut rounds = 0;
    while !done.load(Ordering::SeqCst) || rounds < 5 {
        let before = acknowledged.load(Ordering::SeqCst) as i64;
        let sql = json!({"sql": "SELECT count(*), coalesce(sum(_index), 0), max(_index) FROM run"});
        let (status, answer) = post_sql(&world.analytics, &sql).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let row = &answer["rows"][0];
        let count = row[0].as_i64().expect("a count");
        assert!(count >= before, "{count} rows after {before} were acknowledged");
        assert_eq!(row[1].as_i64(), Some(count * (count - 1) / 2), "{answer}");
        assert_eq!(row[2].as_i64(), Some(count - 1));
        let (_, stats) = world.get("/v1/streams/run/stats").await;
        assert!(stats["count"].as_i64() >= Some(count), "{stats}");
        rounds += 1;
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
}
