//! What goes in comes out: every type, every byte, both ways; and what has no place goes aside.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{RecordBatch, TimestampMicrosecondArray};
use journal::Journal;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{DatabaseOptions, LoadData, TableMapping};

use crate::world::{World, batch, mysql_url, quick, soak, stream, until_caught_up};

const SEED: u64 = 20_261_121;

/// One field of each type, required and optional.
const EVERY: &str = r#"
[every]
time = "at"
unknown_fields = "keep"
[every.fields]
flag = "bool"
flag_or = { type = "bool", optional = true }
count = "int"
count_or = { type = "int", optional = true }
ratio = "float"
ratio_or = { type = "float", optional = true }
short = { type = "string", max_bytes = 255 }
long = { type = "string", optional = true }
huge = { type = "string", max_bytes = 100000, optional = true }
kind = { type = "enum", values = ["a", "it's", "tab\there"] }
id = "uuid"
id_or = { type = "uuid", optional = true }
at = "timestamp"
at_or = { type = "timestamp", unit = "us", optional = true }
doc = { type = "json", optional = true }
"#;

const COLUMNS: &str = "flag, flag_or, count, count_or, ratio, ratio_or, short, `long`, huge, kind, id, id_or, at, \
                       at_or, doc, _extra, _received_at, _trace_id, _partition, _offset, _row";

const NASTY: [&str; 32] = [
    "\0", "\t", "\n", "\r", "\r\n", "\\", "\\\\", "\\N", "\\0", "\\'", "'", "''", "\"", "`", "NULL", "null",
    ";", "-- ", "/*", "%", "_", ",", "(", ")", " ", "\u{1a}", "\u{7f}", "ü", "€", "\u{ffff}", "😀", "a",
];

fn text(random: &mut ChaCha8Rng, parts: usize, max_bytes: usize) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(0..=parts) {
        let part = NASTY[random.random_range(0..NASTY.len())];
        if text.len() + part.len() <= max_bytes {
            text.push_str(part);
        }
    }
    text
}

fn float(random: &mut ChaCha8Rng) -> f64 {
    const EDGES: [f64; 8] = [
        0.0,
        0.1,
        -1.5,
        1e300,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
    ];
    loop {
        let value = match random.random_range(0..3) {
            0 => EDGES[random.random_range(0..EDGES.len())],
            1 => f64::from(random.random::<i32>()) / 1000.0,
            _ => f64::from_bits(random.random()),
        };
        // The server does not tell −0 from 0.
        if value.is_finite() && value.to_bits() != (-0.0f64).to_bits() {
            return value;
        }
    }
}

fn int(random: &mut ChaCha8Rng) -> i64 {
    const EDGES: [i64; 5] = [0, -1, i64::MIN, i64::MAX, 1 << 53];
    match random.random_range(0..2) {
        0 => EDGES[random.random_range(0..EDGES.len())],
        _ => random.random(),
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// A line, and the columns that it becomes, as the server gives them as text.
fn line(random: &mut ChaCha8Rng) -> (String, Vec<Option<String>>) {
    let mut line = String::from("{");
    let mut row = Vec::new();
    let mut field = |name: &str, value: Option<(String, String)>| {
        if let Some((json, _)) = &value {
            let comma = if line.len() > 1 { "," } else { "" };
            write!(line, "{comma}\"{name}\":{json}").expect("writes");
        }
        row.push(value.map(|(_, text)| text));
    };
    let some = |random: &mut ChaCha8Rng| random.random_range(0..3) > 0;
    let flag = |on: bool| (on.to_string(), u8::from(on).to_string());
    let number = |value: i64| (value.to_string(), value.to_string());
    let real = |value: f64| {
        (
            serde_json::to_string(&value).expect("finite"),
            format!("{value:e}"),
        )
    };
    let words = |text: String| (json(&text), text);
    field("flag", Some(flag(random.random())));
    field("flag_or", some(random).then(|| flag(random.random())));
    field("count", Some(number(int(random))));
    field("count_or", some(random).then(|| number(int(random))));
    field("ratio", Some(real(float(random))));
    field("ratio_or", some(random).then(|| real(float(random))));
    field("short", Some(words(text(random, 40, 255))));
    field("long", some(random).then(|| words(text(random, 300, 60_000))));
    field(
        "huge",
        (random.random_range(0..20) == 0).then(|| words("x😀\n\\".repeat(9_000))),
    );
    field(
        "kind",
        Some(words(
            ["a", "it's", "tab\there"][random.random_range(0..3)].to_owned(),
        )),
    );
    let id = || uuid::Uuid::from_u128(rand::rng().random()).to_string();
    field("id", Some(words(id())));
    field("id_or", some(random).then(|| words(id())));
    let moments = [
        ("0001-01-01T00:00:00.000001Z", "0001-01-01 00:00:00.000001"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
        ("2024-02-29T12:00:00.5+01:00", "2024-02-29 11:00:00.500000"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31 23:59:59.999999"),
    ];
    let (moment, column) = moments[random.random_range(0..4)];
    field("at", Some((json(moment), column.to_owned())));
    field(
        "at_or",
        some(random).then(|| ("-1".to_owned(), "1969-12-31 23:59:59.999999".to_owned())),
    );
    let docs = [
        "1e400",
        r#"{"b":1,"a":[1.10,"\u0000\\\n'"],"b2":null}"#,
        r#""NULL""#,
        "[]",
        "12345678901234567890.0",
    ];
    field(
        "doc",
        some(random)
            .then(|| docs[random.random_range(0..docs.len())])
            .map(|doc| (doc.to_owned(), doc.to_owned())),
    );
    if some(random) {
        let extra = json(&text(random, 20, 1_000));
        write!(line, ",\"unknown\":{extra}").expect("writes");
        row.push(Some(format!("{{\"unknown\":{extra}}}")));
    } else {
        row.push(None);
    }
    line.push('}');
    (line, row)
}

/// Doubles are compared as numbers: the server writes them in its own way.
fn assert_same(found: &[Option<String>], expected: &[Option<String>], context: &str) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        if let (4 | 5, Some(found), Some(expected)) = (index, found, expected) {
            let (found, expected): (f64, f64) = (
                found.parse().expect("a number"),
                expected.parse().expect("a number"),
            );
            assert_eq!(found.to_bits(), expected.to_bits(), "column {index}, {context}");
        } else {
            assert_eq!(found, expected, "column {index}, {context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_comes_back_as_it_went_in_both_ways() {
    let Some(url) = mysql_url() else { return };
    println!("seed {SEED}");
    let stream = stream(EVERY);
    let mut tables = Vec::new();
    for load_data in [LoadData::Auto, LoadData::Off] {
        let world = World::new(&url).await;
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut expected = Vec::new();
        let records = if soak() { 200 } else { 8 };
        for offset in 0..records {
            let mut lines = String::new();
            for number in 0..random.random_range(1..200) {
                let (line, mut row) = line(&mut random);
                lines.push_str(&line);
                lines.push('\n');
                row.push(None);
                row.push(Some("07".repeat(16)));
                row.extend([0, offset, number].map(|number| Some(number.to_string())));
                expected.push(row);
            }
            world.append(&stream, &lines).await;
        }
        let options = DatabaseOptions {
            batch_rows: 300,
            ..quick()
        };
        let sink = world.sink_by(&[Arc::clone(&stream)], options, load_data);
        until_caught_up(&sink).await;
        sink.shutdown().await;
        assert_eq!(
            world.number("SELECT COUNT(*) FROM tidemill_refused").await,
            0,
            "{load_data:?}"
        );
        let mut found = world
            .rows(&format!("SELECT {COLUMNS} FROM `every` ORDER BY _offset, _row"))
            .await;
        assert_eq!(found.len(), expected.len());
        assert_eq!(found[0][16].as_deref(), Some("2023-11-14 22:13:20.000000"));
        for (number, (found, expected)) in found.iter_mut().zip(&mut expected).enumerate() {
            found[16] = None;
            assert_same(
                found,
                expected,
                &format!("row {number}, {load_data:?}, seed {SEED}"),
            );
            (found[10], found[11]) = (None, None);
        }
        tables.push(found);
        world.remove().await;
    }
    assert!(tables[0] == tables[1], "the two ways differ, seed {SEED}");
}

/// Moments that `DATETIME` cannot hold are refused rows, whichever way, and the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_beyond_the_calendar_is_a_refused_row() {
    let Some(url) = mysql_url() else { return };
    let stream = stream("[far]\n[far.fields]\nn = \"int\"\nat = { type = \"timestamp\", unit = \"s\" }\n");
    for load_data in [LoadData::Auto, LoadData::Off] {
        let world = World::new(&url).await;
        let seconds = [
            0,
            253_402_300_799,
            253_402_300_800,
            -62_167_219_201,
            i64::MAX / 1_000_000,
            5,
        ];
        let lines: Vec<_> = (0..6).map(|n| format!("{{\"n\":{n},\"at\":0}}")).collect();
        let mut batch = batch(&stream, &lines.join("\n"), 0);
        // The decoder lets no such moment through; a record of a later version might have one.
        let micros = TimestampMicrosecondArray::from_iter_values(seconds.map(|at| at * 1_000_000));
        let columns = vec![
            Arc::clone(batch.rows.column(0)),
            Arc::new(micros.with_timezone("UTC")),
        ];
        batch.rows = RecordBatch::try_new(batch.rows.schema(), columns).expect("the same columns");
        world.journal.append(vec![batch]).await.expect("appends");
        let sink = world.sink_by(&[Arc::clone(&stream)], quick(), load_data);
        until_caught_up(&sink).await;
        sink.shutdown().await;
        let kept = world.rows("SELECT n FROM far ORDER BY n").await;
        let kept: Vec<_> = kept
            .into_iter()
            .map(|row| row[0].clone().expect("a number"))
            .collect();
        assert_eq!(kept, ["0", "1", "5"]);
        let refused = world
            .rows("SELECT `_row`, code, event FROM tidemill_refused ORDER BY `_row`")
            .await;
        assert_eq!(refused.len(), 3);
        assert_eq!(refused[0][1].as_deref(), Some("tidemill"));
        assert_eq!(refused[0][2].as_deref(), Some("{\"n\":2,\"at\":253402300800}"));
        world.remove().await;
    }
}

/// A table that somebody made is narrower than the declaration: what does not fit is refused, with the server's own
/// code, and nothing else is, however the bad rows lie among the good ones.
#[tokio::test(flavor = "multi_thread")]
async fn bisection_finds_exactly_the_rows_that_the_server_refuses() {
    let Some(url) = mysql_url() else { return };
    println!("seed {SEED}");
    let stream = stream("[narrow]\n[narrow.fields]\nn = \"int\"\nword = \"string\"\nsmall = \"int\"\n");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for (load_data, bad_share) in [
        (LoadData::Auto, 0.01),
        (LoadData::Auto, 1.0),
        (LoadData::Off, 0.1),
    ] {
        let world = World::new(&url).await;
        world
            .run(
                "CREATE TABLE narrow (n BIGINT, word VARCHAR(5) CHARACTER SET utf8mb4, small TINYINT UNSIGNED CHECK \
                 (small <> 77), _partition INT, _offset BIGINT, _row INT, PRIMARY KEY (_partition, _offset, _row))",
            )
            .await;
        let columns = ["n", "word", "small"].map(|name| (name.to_owned(), name.to_owned()));
        let mapping = TableMapping {
            columns: Some(columns.into_iter().collect()),
            ..TableMapping::default()
        };
        let mut expected = Vec::new();
        let rows = if bad_share < 1.0 { 2_000 } else { 150 };
        let mut lines = String::new();
        for n in 0..rows {
            let bad = random.random_bool(bad_share);
            let (word, small, code) = match random.random_range(0..3) {
                _ if !bad => ("fünf\0", 255, None),
                0 => ("sechs!", 1, Some("1406")),
                1 => ("ok", 256, Some("1264")),
                _ => ("ok", 77, Some("4025")),
            };
            writeln!(lines, "{{\"n\":{n},\"word\":{},\"small\":{small}}}", json(word)).expect("writes");
            expected.push((n.to_string(), code));
        }
        world.append(&stream, &lines).await;
        let mut options = quick();
        options.mappings.insert(stream.name.clone(), mapping);
        let sink = world.sink_by(&[Arc::clone(&stream)], options, load_data);
        until_caught_up(&sink).await;
        sink.shutdown().await;
        let kept = world.rows("SELECT n FROM narrow ORDER BY n").await;
        let kept: Vec<_> = kept
            .iter()
            .map(|row| row[0].as_deref().expect("a number"))
            .collect();
        let good = expected.iter().filter(|(_, code)| code.is_none());
        assert_eq!(
            kept,
            good.map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
            "seed {SEED}"
        );
        let refused = world
            .rows("SELECT `_row`, code FROM tidemill_refused ORDER BY `_row`")
            .await;
        let refused: Vec<_> = refused
            .iter()
            .map(|row| (row[0].clone().expect("there"), row[1].as_deref()))
            .collect();
        let bad: Vec<_> = expected
            .iter()
            .filter(|(_, code)| code.is_some())
            .cloned()
            .collect();
        assert_eq!(refused, bad, "seed {SEED}");
        assert_eq!(
            world.number("SELECT next_offset FROM tidemill_positions").await,
            1
        );
        world.remove().await;
    }
}
