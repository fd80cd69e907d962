//! Conditions on texts and groups by them are answered with the numbers of dictionaries, and their answers are those of
//! whoever looks at every text: in files with dictionaries, without, with too small ones, in the tail, without a text.

use rand::RngExt;
use serde_json::{Value, json};

use super::pruned::rounded;
use super::world::{Modelled, World};

/// Some rows in files of all kinds, some of them merged, and mostly some in the tail.
async fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..world.rng.random_range(4..9) {
        for _ in 0..world.rng.random_range(1..6) {
            let count = world.rng.random_range(1..60);
            world.append(count).await;
        }
        let records = world.rng.random_range(1..6);
        world.roll(records).await;
    }
    if world.rng.random_bool(0.5) {
        world.compact(1);
    }
    world
}

async fn plan(world: &World, sql: &str) -> String {
    let plan = world.sql(&format!("EXPLAIN {sql}")).await;
    plan.to_string()
}

/// Rows in one order.
fn sorted(mut rows: Value) -> Vec<String> {
    rounded(&mut rows);
    let rows = rows.as_array().expect("rows").iter();
    let mut rows: Vec<String> = rows.map(ToString::to_string).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn rows_that_conditions_on_texts_let_pass_are_those_of_the_model() {
    type Passes = Box<dyn Fn(&Modelled) -> bool>;
    let seed: u64 = rand::random();
    for round in 0..6 {
        let mut world = filled(seed.wrapping_add(round)).await;
        let mut user = || {
            let at = world.rng.random_range(0..world.model.len());
            world.model[at].user.clone()
        };
        let (one, other) = (user(), user());
        let end = one[34..].to_owned();
        let user_is = |user: &str| -> Passes {
            let user = user.to_owned();
            Box::new(move |event| event.user == user)
        };
        let (both, above, like) = ((one.clone(), other.clone()), one.clone(), end.clone());
        let (of_two, to_three, many) = (one.clone(), other.clone(), both.clone());
        let conditions: Vec<(String, Passes)> = vec![
            (format!("user_id = '{one}'"), user_is(&one)),
            (format!("'{other}' = user_id"), user_is(&other)),
            (
                "user_id = 'ffffffff-0000-4000-8000-000000000000'".to_owned(),
                user_is(""),
            ),
            (
                format!("user_id IN ('{one}', '{other}', 'nobody')"),
                Box::new(move |event| event.user == both.0 || event.user == both.1),
            ),
            (
                format!("user_id IN ('{one}', 'b', 'c', 'd', 'e', '{other}', '{one}')"),
                Box::new(move |event| event.user == many.0 || event.user == many.1),
            ),
            (
                format!("user_id > '{one}'"),
                Box::new(move |event| event.user > above),
            ),
            (
                format!("user_id LIKE '%{end}'"),
                Box::new(move |event| event.user.ends_with(&like)),
            ),
            (
                format!("user_id = '{one}' AND kind = 'run'"),
                Box::new(move |event| event.user == of_two && event.kind == "run"),
            ),
            (
                format!("upper(kind) <> 'RUN' AND user_id <> '{other}' AND kind <> 'walk'"),
                Box::new(move |event| event.kind == "ride" && event.user != to_three),
            ),
            ("kind = 'swim'".to_owned(), Box::new(|_| false)),
            ("kind LIKE '%'".to_owned(), Box::new(|_| true)),
            (
                "extra IS NULL".to_owned(),
                Box::new(|event| event.extra().is_none()),
            ),
            (
                "extra IS NULL OR json_get_int(extra, 'n') < 100000".to_owned(),
                Box::new(|event| event.extra().is_none() || event.duration < 100_000),
            ),
            (
                "extra IS NOT NULL AND kind = 'walk'".to_owned(),
                Box::new(|event| event.extra().is_some() && event.kind == "walk"),
            ),
        ];
        for (condition, passes) in &conditions {
            let of = world.model.iter().enumerate().filter(|(_, event)| passes(event));
            let expected: Vec<_> = of
                .map(|(at, event)| json!([at, event.duration, event.kind]))
                .collect();
            let sql = format!("SELECT _index, duration, kind FROM run WHERE {condition} ORDER BY _index");
            assert_eq!(world.sql(&sql).await, Value::Array(expected.clone()), "{sql}");
            let sql = format!("SELECT count(*), count(score) FROM run WHERE {condition}");
            let scores = world
                .model
                .iter()
                .filter(|event| passes(event) && event.score.is_some());
            assert_eq!(
                world.sql(&sql).await,
                json!([[expected.len(), scores.count()]]),
                "{sql}"
            );
        }
        // The last character of a user is not enough for a number: whoever asks gets the error.
        let (sql, body) = ("SELECT count(*) FROM run WHERE CAST(user_id AS INT) = 7", world);
        let (status, problem) = super::world::post_sql(&body.analytics, &json!({"sql": sql})).await;
        assert_eq!(status, http::StatusCode::BAD_REQUEST, "{problem}");
    }
}

#[tokio::test]
async fn files_whose_dictionaries_lack_a_text_are_not_read() {
    let mut world = World::new(52);
    world.append(60).await;
    world.roll(1).await;
    world.append(60).await;
    world.roll(1).await;
    world.append(60).await;
    world.roll(1).await;
    let files = async |condition: &str| {
        let plan = plan(&world, &format!("SELECT duration FROM run WHERE {condition}")).await;
        ["00001", "00002", "00003"].map(|file| plan.contains(file))
    };
    assert_eq!(files("upper(kind) = 'RUN'").await, [true, true, true]);
    // The first one has no dictionaries, so nobody knows without reading it.
    assert_eq!(files("upper(kind) = 'SWIM'").await, [true, false, false]);
    // Of users a bloom filter does.
    let nobody = "user_id = 'ffffffff-0000-4000-8000-000000000000'";
    assert_eq!(files(nobody).await, [false, false, false]);
}

#[tokio::test]
async fn groups_by_texts_are_those_of_whoever_looks_at_each_text() {
    let seed: u64 = rand::random();
    let mut by_number = 0;
    for round in 0..8 {
        let world = filled(seed.wrapping_add(round)).await;
        for text in ["user_id", "kind", "extra"] {
            for condition in [
                "",
                "WHERE duration > 500000",
                "WHERE kind <> 'run'",
                "WHERE score IS NULL AND duration > 0",
            ] {
                for functions in [
                    "count(*), sum(duration), min(at), max(duration) FILTER (WHERE kind = 'ride'), avg(score)",
                    "count(score), count(DISTINCT duration), stddev(score)",
                    "max(user_id), min(extra), bool_or(score IS NULL)",
                ] {
                    let asked = |text: &str| {
                        format!("SELECT {text}, {functions} FROM run {condition} GROUP BY {text}")
                    };
                    // An expression is grouped by the engine.
                    let expected = sorted(world.sql(&asked(&format!("nullif({text}, '')"))).await);
                    let sql = asked(text);
                    by_number += usize::from(plan(&world, &sql).await.contains("TextGroupsExec"));
                    let found = sorted(world.sql(&sql).await);
                    assert_eq!(found, expected, "{sql}");
                }
                let distinct = |text: &str| format!("SELECT count(DISTINCT {text}) FROM run {condition}");
                let expected = world.sql(&distinct(&format!("nullif({text}, '')"))).await;
                assert_eq!(world.sql(&distinct(text)).await, expected, "{text} {condition}");
            }
        }
    }
    println!("{by_number} of 288 plans grouped by number");
    assert!(by_number > 0, "seed {seed}");
}

#[tokio::test]
async fn groups_by_texts_go_by_number_where_files_have_dictionaries_and_nothing_else_looks_at_the_text() {
    let mut world = World::new(53);
    let by_kind = "SELECT kind, count(*) FROM run GROUP BY kind";
    for most_have in [false, true, true] {
        // The first file has none.
        world.append(60).await;
        world.roll(1).await;
        assert_eq!(plan(&world, by_kind).await.contains("TextGroupsExec"), most_have);
    }
    world.append(10).await;
    for (sql, by_number) in [
        (by_kind, true),
        ("SELECT count(DISTINCT user_id) FROM run", true),
        (
            "SELECT user_id, max(at) FROM run WHERE duration > 0 AND at > '2024-01-01' GROUP BY user_id",
            true,
        ),
        ("SELECT kind, max(user_id) FROM run GROUP BY kind", true),
        ("SELECT user_id, max(user_id) FROM run GROUP BY user_id", false),
        (
            "SELECT u, max(v) FROM (SELECT user_id AS u, user_id AS v FROM run) GROUP BY u",
            false,
        ),
        (
            "SELECT kind, count(*) FROM run WHERE kind <> 'run' AND duration > 0 GROUP BY kind",
            false,
        ),
        (
            "SELECT kind, user_id, count(*) FROM run GROUP BY kind, user_id",
            false,
        ),
        ("SELECT duration, count(*) FROM run GROUP BY duration", false),
        (
            "SELECT kind, array_agg(duration ORDER BY at) FROM run GROUP BY kind",
            false,
        ),
    ] {
        let found = plan(&world, sql).await;
        assert_eq!(found.contains("TextGroupsExec"), by_number, "{sql}: {found}");
        assert!(
            !world.sql(sql).await.as_array().expect("rows").is_empty(),
            "{sql}"
        );
    }
}
