//! A row that PostgreSQL does not take goes aside with the reason; the rest goes on.

use std::time::{Duration, Instant};

use event::FieldType;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{DatabaseOptions, TableMapping};

use super::world::{World, field, int, mapped, numbers, optional, options, shared_url, simple, stream, text};

const SEED: u64 = 20_261_121;

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_hold_is_refused_with_its_reason_and_the_rest_goes_on() {
    let Some(url) = shared_url("what_postgres_cannot_hold_is_refused_with_its_reason_and_the_rest_goes_on")
    else {
        return;
    };
    let world = World::new(&url).await;
    let stream = stream(
        "odd",
        vec![
            field("n", int()),
            optional("note", text()),
            optional("meta", FieldType::Json),
        ],
    );
    let bad = [
        (r#""note":"a\u0000b""#, "22021"),
        (r#""meta":{"a":"\u0000"}"#, "22P05"),
        (r#""other":"\\\u0000""#, "22P05"),
        (r#""meta":1e200000"#, "22003"),
        (r#""meta":[0,{"a":-1e-99999}]"#, "22003"),
    ];
    let mut lines = numbers(0..1_000);
    for (index, (member, _)) in bad.iter().enumerate() {
        lines.insert(100 * index + 7, format!("{{\"n\":{},{member}}}", 5_000 + index));
    }
    world.append(&stream, &lines).await;
    world.run(std::slice::from_ref(&stream), options()).await;

    assert_eq!(world.count("odd").await, 1_000);
    let refused = world
        .rows("SELECT target, _offset, _row, code, reason, event FROM tidemill_refused ORDER BY _row")
        .await;
    assert_eq!(refused.len(), bad.len(), "{refused:?}");
    for (index, (row, (member, code))) in refused.iter().zip(bad).enumerate() {
        let number = (100 * index + 7).to_string();
        assert_eq!(
            row[..4],
            ["odd".to_owned(), "0".to_owned(), number, code.to_owned()],
            "{row:?}"
        );
        assert!(row[4].len() > 10, "{row:?}");
        let expected = format!("{{\"n\":{},", 5_000 + index);
        assert!(row[5].starts_with(&expected), "{row:?}");
        if member.contains("\\u0000") {
            assert!(row[5].contains("\\u0000"), "{row:?}");
        }
    }
    world.drop_schema().await;
}

/// Constraints that only the server knows, so that every bad row is found by halving.
#[tokio::test(flavor = "multi_thread")]
async fn many_refused_rows_are_found_among_many_good_ones() {
    let Some(url) = shared_url("many_refused_rows_are_found_among_many_good_ones") else {
        return;
    };
    println!("seed {SEED}");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let world = World::new(&url).await;
    let stream = simple("checked");
    world.append(&stream, &numbers(0..1)).await;
    world.run(std::slice::from_ref(&stream), options()).await;
    world
        .admin
        .batch_execute("ALTER TABLE checked ADD CHECK (n % 7 <> 3)")
        .await
        .expect("a constraint");
    let mut bad = 0;
    for _ in 0..4 {
        let mut lines = Vec::new();
        for _ in 0..2_000 {
            // Rare ones in some places, runs of them in others.
            let n: i64 = if random.random_bool(0.01) {
                7 * random.random_range(0..99) + 3
            } else {
                7
            };
            let run = if n % 7 == 3 { random.random_range(1..20) } else { 1 };
            bad += if n % 7 == 3 { run } else { 0 };
            lines.extend((0..run).map(|_| format!("{{\"n\":{n}}}")));
        }
        world.append(&stream, &lines).await;
    }
    world.run(std::slice::from_ref(&stream), options()).await;
    assert_eq!(world.count("tidemill_refused").await, bad, "seed {SEED}");
    assert_eq!(world.count("tidemill_refused WHERE code = '23514'").await, bad);
    assert_eq!(world.count("checked WHERE n % 7 = 3").await, 0);
    assert!(world.count("checked").await > 7_500);
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_full_of_zeros_is_refused_as_fast_as_one() {
    let Some(url) = shared_url("a_table_full_of_zeros_is_refused_as_fast_as_one") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = simple("zeros");
    let lines: Vec<_> = (0..20_000)
        .map(|n| {
            format!(
                "{{\"n\":{n},\"note\":\"{}\"}}",
                if n % 10 == 0 { "fine" } else { "\\u0000" }
            )
        })
        .collect();
    world.append(&stream, &lines).await;
    let begun = Instant::now();
    let options = DatabaseOptions {
        batch_rows: 50_000,
        ..options()
    };
    world.run(std::slice::from_ref(&stream), options).await;
    println!("20,000 rows, 18,000 of them refused: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(world.count("zeros").await, 2_000);
    assert_eq!(world.count("tidemill_refused WHERE code = '22021'").await, 18_000);
    world.drop_schema().await;
}

/// What a constraint that may wait until the commit says is found with its row as well.
#[tokio::test(flavor = "multi_thread")]
async fn constraints_that_wait_for_the_commit_refuse_rows_too() {
    let Some(url) = shared_url("constraints_that_wait_for_the_commit_refuse_rows_too") else {
        return;
    };
    let world = World::new(&url).await;
    world
        .admin
        .batch_execute(
            "CREATE TABLE people (id bigint PRIMARY KEY); INSERT INTO people VALUES (1), (2); \
             CREATE TABLE visits (n bigint PRIMARY KEY REFERENCES people DEFERRABLE INITIALLY DEFERRED)",
        )
        .await
        .expect("tables");
    let stream = simple("seen");
    world.append(&stream, &numbers(1..5)).await;
    let mapping = TableMapping {
        table: Some("visits".to_owned()),
        columns: Some([("n".to_owned(), "n".to_owned())].into()),
        key: vec!["n".to_owned()],
        ..TableMapping::default()
    };
    world
        .run(std::slice::from_ref(&stream), mapped(&stream, mapping))
        .await;
    assert_eq!(
        world.rows("SELECT n FROM visits ORDER BY n").await,
        [["1"], ["2"]]
    );
    let refused = world
        .rows("SELECT _row, code FROM tidemill_refused ORDER BY _row")
        .await;
    assert_eq!(refused, [["2", "23503"], ["3", "23503"]]);
    world.drop_schema().await;
}
