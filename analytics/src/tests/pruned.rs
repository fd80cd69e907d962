//! Answers do not hang on what is skipped: partials of blocks and runs, filters of keys, counts without reading.
//!
//! Each question is asked twice, as the second one finds what the first one kept, and of the lake, of the tail and of
//! both. Blocks and runs of the tests' build are a few rows.

use rand::RngExt;
use serde_json::{Value, json};

use event::moment::rfc3339;

use super::world::{BASE, World};

const HOUR: i64 = 3_600_000_000;

/// What an answer says beside where it comes from, and beside the distinct count, which is an estimate or exact.
fn told(mut answer: Value) -> Value {
    let object = answer.as_object_mut().expect("an object");
    object.remove("as_of");
    object.remove("key");
    for group in object
        .get_mut("groups")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        group.as_object_mut().expect("an object").remove("key");
    }
    rounded(&mut answer);
    answer
}

/// Sums of floats may differ in the last digits by the order of adding.
pub(super) fn rounded(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            *value = json!(format!("{:.6e}", number.as_f64().expect("is one")));
        }
        Value::Array(values) => values.iter_mut().for_each(rounded),
        Value::Object(members) => members.values_mut().for_each(rounded),
        _ => {}
    }
}

/// Some rows in files and some in the tail.
async fn rolled(world: &mut World) {
    for _ in 0..3 {
        for _ in 0..4 {
            world.append(50).await;
        }
        world.roll(2).await;
    }
}

#[tokio::test]
async fn statistics_from_partials_are_those_of_all_rows() {
    let mut world = World::new(41);
    rolled(&mut world).await;
    for round in 0..12 {
        let start = BASE + world.rng.random_range(-HOUR..20 * HOUR);
        let end = start + world.rng.random_range(0..12 * HOUR);
        for range in [
            "".to_owned(),
            format!("start={start}&"),
            format!("start={start}&end={end}&"),
        ] {
            for interval in ["", "interval=1h&", "interval=1d&"] {
                let question = format!("/v1/streams/run/stats?{range}{interval}");
                let (_, all) = world.get(&format!("{question}exact=true")).await;
                for _ in 0..2 {
                    let (_, found) = world.get(&question).await;
                    assert_eq!(told(found), told(all.clone()), "{question}");
                }
            }
        }
        if round % 4 == 3 {
            world.append(30).await;
            world.roll(1).await;
        }
    }
}

#[tokio::test]
async fn events_and_statistics_of_a_key_are_those_that_sql_finds() {
    let mut world = World::new(42);
    rolled(&mut world).await;
    for _ in 0..20 {
        let at = world.rng.random_range(0..world.model.len());
        let user = world.model[at].user.clone();
        let expected = world
            .sql(&format!(
                "SELECT _index, duration FROM run WHERE user_id = '{user}' ORDER BY _index"
            ))
            .await;
        let counted = world.model.iter().filter(|event| event.user == user).count();
        assert_eq!(expected.as_array().expect("rows").len(), counted);
        for _ in 0..2 {
            let (_, page) = world
                .get(&format!("/v1/streams/run/events?user_id={user}&limit=10000"))
                .await;
            let events = page["events"].as_array().expect("events").iter();
            let events = events.map(|event| json!([event["_index"], event["duration"]]));
            assert_eq!(Value::Array(events.collect()), expected, "{user}");
            let (_, stats) = world.get(&format!("/v1/streams/run/stats?user_id={user}")).await;
            assert_eq!(stats["count"], json!(counted), "{user}");
        }
    }
    let nobody = "/v1/streams/run/events?user_id=ffffffff-0000-4000-8000-000000000000";
    assert_eq!(world.get(nobody).await.1["events"], json!([]));
}

#[tokio::test]
async fn a_count_of_all_rows_is_the_number_of_rows_wherever_they_are() {
    let mut world = World::new(43);
    assert_eq!(world.sql("SELECT count(*) FROM run").await, json!([[0]]));
    for _ in 0..4 {
        world.append(70).await;
        for sql in [
            "SELECT count(*) FROM run",
            "SELECT count(1) FROM run",
            "SELECT count(*) FROM (SELECT 1 FROM run)",
        ] {
            assert_eq!(world.sql(sql).await, json!([[world.model.len()]]), "{sql}");
        }
        world.roll(1).await;
    }
    assert_eq!(
        world
            .sql("SELECT count(*) + sum(duration) - sum(duration) FROM run LIMIT 1")
            .await
            .to_string(),
        format!("[[{}]]", world.model.len())
    );
}

#[tokio::test]
async fn sums_of_integers_are_the_same_with_and_without_groups_windows_and_repeats() {
    let mut world = World::new(44);
    rolled(&mut world).await;
    let of = |kind: Option<&str>| -> i128 {
        let events = world
            .model
            .iter()
            .filter(|event| kind.is_none_or(|kind| event.kind == kind));
        events.map(|event| i128::from(event.duration)).sum()
    };
    let all = world.sql("SELECT CAST(sum(duration) AS VARCHAR) FROM run").await;
    assert_eq!(all, json!([[of(None).to_string()]]));
    let groups = world
        .sql("SELECT kind, CAST(sum(duration) AS VARCHAR) FROM run GROUP BY kind ORDER BY kind")
        .await;
    let expected = ["ride", "run", "walk"].map(|kind| json!([kind, of(Some(kind)).to_string()]));
    assert_eq!(groups, json!(expected));
    let different: std::collections::BTreeSet<i64> = world.model.iter().map(|event| event.duration).collect();
    let different: i128 = different.into_iter().map(i128::from).sum();
    let repeats = world
        .sql("SELECT CAST(sum(DISTINCT duration) AS VARCHAR) FROM run")
        .await;
    assert_eq!(repeats, json!([[different.to_string()]]));
    let filtered = world
        .sql("SELECT CAST(sum(duration) FILTER (WHERE kind = 'run') AS VARCHAR), sum(duration) FILTER (WHERE false) FROM run")
        .await;
    assert_eq!(filtered, json!([[of(Some("run")).to_string(), null]]));
}

#[tokio::test]
async fn an_offset_in_the_order_of_time_gives_the_rows_of_the_whole_order() {
    let mut world = World::new(45);
    rolled(&mut world).await;
    let mut times: Vec<i64> = world.model.iter().map(|event| event.at).collect();
    times.sort_unstable();
    for _ in 0..40 {
        let (skip, take) = (
            world.rng.random_range(1..times.len() + 20),
            world.rng.random_range(1..40usize),
        );
        let expected: Vec<String> = times
            .iter()
            .skip(skip)
            .take(take)
            .map(|at| rfc3339(*at))
            .collect();
        for sql in [
            "SELECT at FROM run ORDER BY at",
            "SELECT r.at AS t FROM run r ORDER BY t, duration",
        ] {
            let found = world.sql(&format!("{sql} LIMIT {take} OFFSET {skip}")).await;
            let found: Vec<Value> = found
                .as_array()
                .expect("rows")
                .iter()
                .map(|row| row[0].clone())
                .collect();
            assert_eq!(json!(found), json!(expected), "{sql} LIMIT {take} OFFSET {skip}");
        }
    }
}

/// Times of as many events, in the order in which they come.
fn times(rng: &mut impl rand::Rng, kind: usize, count: usize) -> Vec<i64> {
    let late = rng.random_range(0.0..0.3);
    let different = rng.random_range(1..6i64);
    let of = |rng: &mut _, at: usize| {
        let rng: &mut dyn rand::Rng = rng;
        let ordered = BASE + at as i64 * 1_000_000;
        match kind {
            0 => ordered,
            // Some come much later than they happened.
            1 if rng.random_bool(late) => BASE + rng.random_range(0..=at as i64) * 1_000_000,
            1 => ordered,
            2 => BASE + rng.random_range(0..HOUR),
            // Few moments, all at once or one after the other.
            3 => BASE + rng.random_range(0..different),
            4 => BASE + (at as i64 * different / count as i64) * HOUR,
            // Everything twice.
            5 => BASE + (at % (count / 2).max(1)) as i64 * 1_000_000,
            // As far apart as moments of these years can be.
            _ => rng.random_range(0..=4_000_000_000_000_000i64) >> rng.random_range(0..50),
        }
    };
    (0..count).map(|at| of(rng, at)).collect()
}

#[tokio::test]
async fn a_deep_offset_gives_the_rows_of_the_whole_order_however_late_events_are() {
    let seed: u64 = rand::random();
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        200
    } else {
        7
    };
    for round in 0..rounds {
        let mut world = World::new(seed.wrapping_add(round as u64));
        let count = world.rng.random_range(30..500);
        let all = times(&mut world.rng, round % 7, count);
        for record in all.chunks(37) {
            world.append_of(record).await;
            // Sometimes everything is in files, sometimes some of it, sometimes nothing.
            if world.rng.random_bool(0.2) {
                let records = world.rng.random_range(1..4);
                world.roll(records).await;
            }
        }
        let mut expected: Vec<_> = world
            .model
            .iter()
            .map(|event| (event.at, event.duration, event.user.clone()))
            .collect();
        expected.sort();
        for _ in 0..12 {
            let skip = world.rng.random_range(1..expected.len() + 20);
            let take = world.rng.random_range(1..40usize);
            let rows = |all: &mut dyn Iterator<Item = &(i64, i64, String)>| -> Value {
                let wanted = all.skip(skip).take(take);
                wanted
                    .map(|(at, duration, user)| json!([rfc3339(*at), duration, user]))
                    .collect()
            };
            for (order, expected) in [
                ("at, duration, user_id", rows(&mut expected.iter())),
                (
                    "at DESC, duration DESC, user_id DESC",
                    rows(&mut expected.iter().rev()),
                ),
            ] {
                let sql = format!(
                    "SELECT at, duration, user_id FROM run ORDER BY {order} LIMIT {take} OFFSET {skip}"
                );
                assert_eq!(world.sql(&sql).await, expected, "kind {}: {sql}", round % 7);
            }
        }
    }
}
