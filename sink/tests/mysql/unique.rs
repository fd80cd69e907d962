//! A stream whose ids are unique: each has one row for ever, the first one's, whatever ends in between, by either way
//! in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::StreamDeclaration;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{DatabaseOptions, LoadData, OnConflict, TableMapping};

use crate::world::{World, mysql_url, quick, stream, until, until_caught_up};

const SEED: u64 = 20_261_125;

fn unique(kind: &str) -> Arc<StreamDeclaration> {
    stream(&format!(
        "[s]\nunique = \"id\"\n[s.fields]\nid = {kind}\nn = \"int\"\nnote = {{ type = \"string\", optional = true }}"
    ))
}

fn id(kind: &str, number: u64) -> String {
    match kind {
        "\"uuid\"" => format!("\"{}\"", uuid::Uuid::from_u128(u128::from(number) << 40)),
        "\"int\"" => number.cast_signed().wrapping_neg().to_string(),
        // What a statement could trip over.
        _ => format!("\"'\\\\{number}\\\" \\u0009%\""),
    }
}

/// Each round runs in a task that is dropped wherever it is, as a killed process would be.
#[tokio::test(flavor = "multi_thread")]
async fn each_id_has_the_first_rows_values_after_abrupt_ends() {
    let Some(url) = mysql_url() else { return };
    println!("seed {SEED}");
    for (kind, load_data) in [
        ("\"uuid\"", LoadData::Auto),
        ("\"int\"", LoadData::Off),
        ("{ type = \"string\", max_bytes = 64 }", LoadData::Auto),
    ] {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let world = World::new(&url).await;
        let stream = unique(kind);
        let mut first: BTreeMap<u64, i64> = BTreeMap::new();
        let mut n = 0;
        for _ in 0..8 {
            for _ in 0..random.random_range(1..6) {
                let mut lines = String::new();
                for _ in 0..random.random_range(1..800) {
                    n += 1;
                    let number = random.random_range(0..3_000);
                    first.entry(number).or_insert(n);
                    lines.push_str(&format!("{{\"id\":{},\"n\":{n}}}\n", id(kind, number)));
                }
                world.append(&stream, &lines).await;
            }
            let options = DatabaseOptions {
                batch_rows: random.random_range(1..1_500),
                commit_every: Duration::from_millis(random.random_range(1..20)),
                ..quick()
            };
            let sink = world.sink_by(&[Arc::clone(&stream)], options, load_data);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
            drop(sink);
        }
        let sink = world.sink_by(&[Arc::clone(&stream)], quick(), load_data);
        until_caught_up(&sink).await;
        sink.shutdown().await;
        let mut expected: Vec<i64> = first.values().copied().collect();
        expected.sort_unstable();
        let rows = world.rows("SELECT n FROM s ORDER BY n").await;
        let number = |row: &Vec<Option<String>>| -> i64 {
            let text = row[0].as_ref().expect("a number");
            text.parse().expect("a number")
        };
        assert_eq!(rows.iter().map(number).collect::<Vec<_>>(), expected, "{kind}");
        assert_eq!(
            world.number("SELECT count(*) FROM tidemill_refused").await,
            0,
            "{kind}"
        );
        world.remove().await;
    }
}

/// A table that somebody else has made, with one more rule.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_rule_of_a_declared_table_is_broken_without_a_word() {
    let Some(url) = mysql_url() else { return };
    for load_data in [LoadData::Auto, LoadData::Off] {
        let world = World::new(&url).await;
        world
            .run(
                "CREATE TABLE user_events (event_id CHAR(36) PRIMARY KEY, n BIGINT NOT NULL UNIQUE, \
                 received_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
            )
            .await;
        let line =
            |number: u128, n: i64| format!("{{\"id\":\"{}\",\"n\":{n}}}\n", uuid::Uuid::from_u128(number));
        world
            .run("INSERT INTO user_events (event_id, n) VALUES ('00000000-0000-0000-0000-000000000001', -1)")
            .await;
        let columns =
            [("id", "event_id"), ("n", "n")].map(|(field, name)| (field.to_owned(), name.to_owned()));
        let mapping = TableMapping {
            table: Some("user_events".to_owned()),
            columns: Some(columns.into_iter().collect()),
            key: vec!["event_id".to_owned()],
            on_conflict: OnConflict::Ignore,
            ..TableMapping::default()
        };
        let stream = unique("\"uuid\"");
        let mut options = quick();
        options.mappings.insert(stream.name.clone(), mapping);
        // 1 is there already; 3 repeats another column's value; 4 comes twice.
        let lines = [
            line(1, 1),
            line(2, 2),
            line(3, 2),
            line(4, 4),
            line(4, 5),
            line(5, 6),
        ];
        world.append(&stream, &lines.concat()).await;
        let sink = world.sink_by(&[Arc::clone(&stream)], options, load_data);
        until_caught_up(&sink).await;
        assert_eq!(sink.progress().read().await[0].duplicates, 2);
        // Somebody else writes an id while the sink runs.
        world
            .run("INSERT INTO user_events (event_id, n) VALUES ('00000000-0000-0000-0000-000000000007', 70)")
            .await;
        let lines = [line(6, 60), line(7, 7), line(2, 80)];
        world.append(&stream, &lines.concat()).await;
        until("both are counted", async || {
            sink.progress().read().await[0].duplicates == 4
        })
        .await;
        sink.shutdown().await;
        let rows = world
            .rows("SELECT right(event_id, 1), CAST(n AS CHAR) FROM user_events ORDER BY 1")
            .await;
        let expected = [
            ("1", "-1"),
            ("2", "2"),
            ("4", "4"),
            ("5", "6"),
            ("6", "60"),
            ("7", "70"),
        ];
        let expected = expected.map(|(id, n)| vec![Some(id.to_owned()), Some(n.to_owned())]);
        assert_eq!(rows, expected);
        let refused = world.rows("SELECT code FROM tidemill_refused").await;
        assert_eq!(refused, [vec![Some("1062".to_owned())]]);
        world.remove().await;
    }
}
