//! A stream whose ids are unique: each has one row for ever, the first one's, whatever ends in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::StreamDeclaration;
use event::stream::parse_streams;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{DatabaseOptions, OnConflict, TableMapping};

use super::world::{World, caught_up, mapped, one, options, shared_url, until};

const SEED: u64 = 20_261_124;

fn unique(kind: &str) -> Arc<StreamDeclaration> {
    let text = format!(
        "[s]\nunique = \"id\"\n[s.fields]\nid = \"{kind}\"\nn = \"int\"\nnote = {{ type = \"string\", optional = true }}"
    );
    let streams = parse_streams(&text.parse().expect("TOML"));
    Arc::new(streams.expect("right").remove(0))
}

fn id(kind: &str, number: u64) -> String {
    match kind {
        "uuid" => format!("\"{}\"", uuid::Uuid::from_u128(u128::from(number) << 40)),
        "int" => number.cast_signed().wrapping_neg().to_string(),
        // What a statement could trip over.
        _ => format!("\"'\\\\{number}\\\" \\u0009%\""),
    }
}

/// Each round runs in a task that is dropped wherever it is, as a killed process would be.
#[tokio::test(flavor = "multi_thread")]
async fn each_id_has_the_first_rows_values_after_abrupt_ends() {
    let Some(url) = shared_url("each_id_has_the_first_rows_values_after_abrupt_ends") else {
        return;
    };
    println!("seed {SEED}");
    for kind in ["uuid", "int", "string"] {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let world = World::new(&url).await;
        let stream = unique(kind);
        let mut first: BTreeMap<u64, i64> = BTreeMap::new();
        let mut n = 0;
        for _ in 0..8 {
            for _ in 0..random.random_range(1..6) {
                let count = random.random_range(1..800);
                let lines: Vec<_> = (0..count)
                    .map(|_| {
                        n += 1;
                        let number = random.random_range(0..3_000);
                        first.entry(number).or_insert(n);
                        format!("{{\"id\":{},\"n\":{n}}}", id(kind, number))
                    })
                    .collect();
                world.append(&stream, &lines).await;
            }
            let options = DatabaseOptions {
                batch_rows: random.random_range(1..1_500),
                commit_every: Duration::from_millis(random.random_range(1..20)),
                ..options()
            };
            let sink = world.start(std::slice::from_ref(&stream), options);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
            drop(sink);
        }
        world.run(std::slice::from_ref(&stream), options()).await;
        let mut expected: Vec<_> = first.values().map(|n| vec![n.to_string()]).collect();
        expected.sort_by_key(|row| row[0].parse::<i64>().expect("a number"));
        assert_eq!(world.rows("SELECT n FROM s ORDER BY n").await, expected, "{kind}");
        assert_eq!(world.count("tidemill_refused").await, 0, "{kind}");
        let key = "SELECT count(*) FROM pg_index WHERE indrelid = 's'::regclass AND indisprimary AND indnkeyatts = 1";
        assert_eq!(one(&world.admin, key).await, 1, "the id is the primary key");
        world.drop_schema().await;
    }
}

/// The table that the collector of R3 has made, with one more rule.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_rule_of_a_declared_table_is_broken_without_a_word() {
    let Some(url) = shared_url("no_other_rule_of_a_declared_table_is_broken_without_a_word") else {
        return;
    };
    let world = World::new(&url).await;
    world
        .admin
        .batch_execute(
            "CREATE TABLE user_events (event_id UUID PRIMARY KEY, n BIGINT NOT NULL UNIQUE,
             full_event_data JSONB, received_at TIMESTAMPTZ DEFAULT now());
             INSERT INTO user_events VALUES ('00000000-0000-0000-0000-000000000001', -1, NULL)",
        )
        .await
        .expect("creates");
    let columns = [("id", "event_id"), ("n", "n")].map(|(field, name)| (field.to_owned(), name.to_owned()));
    let mapping = TableMapping {
        table: Some("user_events".to_owned()),
        columns: Some(columns.into_iter().collect()),
        key: vec!["event_id".to_owned()],
        event: Some("full_event_data".to_owned()),
        on_conflict: OnConflict::Ignore,
        ..TableMapping::default()
    };
    let stream = unique("uuid");
    let line = |number: u128, n: i64| format!("{{\"id\":\"{}\",\"n\":{n}}}", uuid::Uuid::from_u128(number));
    // 1 is there already; 3 repeats another column's value; 4 comes twice.
    let lines = [
        line(1, 1),
        line(2, 2),
        line(3, 2),
        line(4, 4),
        line(4, 5),
        line(5, 6),
    ];
    world.append(&stream, &lines).await;
    let sink = world.start(std::slice::from_ref(&stream), mapped(&stream, mapping));
    caught_up(&sink.progress()).await;
    assert_eq!(sink.progress().read().await[0].duplicates, 2);
    // Somebody else writes an id while the sink runs.
    world
        .admin
        .batch_execute("INSERT INTO user_events VALUES ('00000000-0000-0000-0000-000000000007', 70)")
        .await
        .expect("inserts");
    world
        .append(&stream, &[line(6, 60), line(7, 7), line(2, 80)])
        .await;
    until("both are counted", Duration::from_secs(30), async || {
        sink.progress().read().await[0].duplicates == 4
    })
    .await;
    sink.shutdown().await;
    let rows = world
        .rows("SELECT right(event_id::text, 1), n FROM user_events ORDER BY 1")
        .await;
    let expected = [
        ("1", "-1"),
        ("2", "2"),
        ("4", "4"),
        ("5", "6"),
        ("6", "60"),
        ("7", "70"),
    ];
    let expected = expected.map(|(id, n)| vec![id.to_owned(), n.to_owned()]);
    assert_eq!(rows, expected);
    let refused = world
        .rows("SELECT code, event::json ->> 'n' FROM tidemill_refused")
        .await;
    assert_eq!(refused, [vec!["23505".to_owned(), "2".to_owned()]]);
    world.drop_schema().await;
}

/// Bad values stand beside ids that come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_is_refused_beside_duplicates() {
    let Some(url) = shared_url("a_row_that_is_refused_is_refused_beside_duplicates") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = unique("string");
    for round in 0..3 {
        let mut lines: Vec<_> = (0..40)
            .map(|number| format!("{{\"id\":\"i{number}\",\"n\":{round}}}"))
            .collect();
        lines.push(format!("{{\"id\":\"bad{round}\",\"n\":1,\"note\":\"\\u0000\"}}"));
        lines.push(format!("{{\"id\":\"\\u0000{round}\",\"n\":1}}"));
        lines.push(format!("{{\"id\":\"new{round}\",\"n\":1}}"));
        world.append(&stream, &lines).await;
        world.run(std::slice::from_ref(&stream), options()).await;
    }
    assert_eq!(world.count("s").await, 43);
    assert_eq!(world.count("s WHERE id LIKE 'i%' AND n = 0").await, 40);
    assert_eq!(world.count("tidemill_refused").await, 6);
    world.drop_schema().await;
}
