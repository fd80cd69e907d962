//! Declarations from TOML: what is right comes back the same, what is wrong is named all at once.

use event::stream::parse_streams;
use event::{FieldType, StreamDeclaration, UnknownFields};

fn problems(text: &str) -> Vec<(String, String)> {
    let problems = parse_streams(&text.parse().expect("TOML")).expect_err("something is wrong");
    problems
        .into_iter()
        .map(|problem| {
            (
                problem.key.trim_start_matches("streams.").to_owned(),
                problem.message,
            )
        })
        .collect()
}

#[test]
fn a_declaration_has_its_fields_in_their_order_with_their_options() {
    let text = r#"
        [s]
        description = "d"
        routes = ["/a/b"]
        time = "z"
        key = "y"
        unknown_fields = "ignore"
        retention = "90d"
        [s.fields]
        z = "timestamp"
        y = { type = "string", optional = true, max_bytes = "64KiB" }
        x = { type = "int", min = -1, max = 1, from = "a.b" }
        w = { type = "float", from = ["a.b", "c"] }
    "#;
    let streams = parse_streams(&text.parse().expect("TOML")).expect("right");
    let stream = &streams[0];
    let names: Vec<_> = stream.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["z", "y", "x", "w"]);
    assert_eq!(stream.fields[1].kind, FieldType::String { max_bytes: 64 << 10 });
    assert_eq!(stream.fields[2].path, ["a", "b"]);
    assert_eq!(stream.fields[3].path, ["a.b", "c"]);
    assert_eq!(stream.unknown_fields, UnknownFields::Ignore);
    assert_eq!(
        stream.retention,
        Some(std::time::Duration::from_secs(90 * 86_400))
    );
}

#[test]
fn what_is_printed_is_what_is_parsed() {
    let mut streams = StreamDeclaration::starters();
    assert_eq!(streams.len(), 5);
    streams[0].fields[1].path = vec!["a.b".to_owned(), "\"".to_owned()];
    streams[0].retention = Some(std::time::Duration::from_millis(61_500));
    for stream in streams {
        let text = stream.to_toml();
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let parsed = parse_streams(table["streams"].as_table().expect("a section"));
        assert_eq!(parsed, Ok(vec![stream]), "{text}");
    }
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let text = r#"
        [running]
        timee = "at"
        time = "n"
        key = "x"
        unknown_fields = "drop"
        retention = "90"
        routes = ["no-slash", "/v1/x", "/twice"]
        [running.fields]
        n = { type = "int", min = 5, max = 1, unit = "s" }
        x = "flaot"
        e = { type = "enum", values = ["a", "a"] }
        t = { type = "timestamp", unit = "min", optional = "yes" }
        s = { type = "string", max_bytes = 0 }
        Bad = "int"
        f = { type = "json", from = "a..b" }
        i = { type = "int", min = 1.5 }
        l = 5
        [other]
        routes = ["/twice"]
        retention = "0s"
        [Other]
        fields = { a = "int" }
    "#;
    let expected = [
        ("running.timee", "did you mean `time`"),
        ("running.fields.n.unit", "has no `unit`"),
        ("running.fields.n.min", "larger than the maximum"),
        ("running.fields.x.type", "`flaot` is not one of"),
        ("running.fields.e.values", "different texts"),
        ("running.fields.t.optional", "true or false"),
        ("running.fields.t.unit", "one of s, ms, us"),
        ("running.fields.s.max_bytes", "size from 1"),
        ("running.fields.Bad", "must match"),
        ("running.fields.f.from", "none of them empty"),
        ("running.fields.i.min", "not an integer"),
        ("running.fields.l", "a type's name or a table"),
        ("running.unknown_fields", "reject, keep, ignore"),
        ("running.retention", "ms, s, m, h, d"),
        ("running.time", "required field of type timestamp"),
        ("running.key", "can be a key"),
        ("running.routes", "must begin with `/`"),
        ("running.routes", "own paths"),
        ("other.fields", "at least one field"),
        ("other.retention", "less than a minute"),
        ("other.routes", "of stream `running` already"),
        ("Other", "must match"),
    ];
    let found = problems(text);
    for (key, part) in expected {
        assert!(
            found
                .iter()
                .any(|(at, message)| at == key && message.contains(part)),
            "{key}: {part}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// Random declarations, so that no pair of options is forgotten: what is printed parses to the same.
#[test]
fn any_declaration_survives_being_printed() {
    use event::{FieldDeclaration, StreamName, TimeUnit};
    use rand::{RngExt, SeedableRng};
    let seed = 20_261_121;
    println!("seed {seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let words = ["a", "b.c", "\"", "é", "\\", "line\nbreak", "x y", "#"];
    for round in 0..2_000 {
        let mut word = || words[random.random_range(0..words.len())].to_owned();
        let (description, first, second) = (word(), word(), word());
        let kinds = [
            FieldType::Bool,
            FieldType::Int {
                min: random.random_range(i64::MIN..0),
                max: random.random_range(0..i64::MAX),
            },
            FieldType::Float {
                min: f64::MIN,
                max: f64::from(random.random::<i32>()) / 8.0,
            },
            FieldType::String {
                max_bytes: random.random_range(1..1 << 20),
            },
            FieldType::Enum {
                values: vec![first.clone(), format!("{second}!")],
            },
            FieldType::Uuid,
            FieldType::Timestamp { unit: None },
            FieldType::Timestamp {
                unit: Some(TimeUnit::ALL[random.random_range(0..3)]),
            },
            FieldType::Json,
        ];
        let fields = kinds.into_iter().enumerate().map(|(at, kind)| FieldDeclaration {
            name: format!("f{at}"),
            kind,
            optional: random.random(),
            description: description.clone(),
            path: vec![first.clone(), format!("{second}{at}")],
        });
        let stream = StreamDeclaration {
            name: StreamName::parse("s").expect("allowed"),
            description: description.clone(),
            fields: fields.collect(),
            unknown_fields: [UnknownFields::Reject, UnknownFields::Keep, UnknownFields::Ignore]
                [random.random_range(0..3)],
            retention: random
                .random::<bool>()
                .then(|| std::time::Duration::from_millis(random.random_range(60_000..1 << 40))),
            ..StreamDeclaration::starters().remove(0)
        };
        let stream = StreamDeclaration {
            time: None,
            key: None,
            routes: Vec::new(),
            ..stream
        };
        let text = stream.to_toml();
        let table: toml::Table = text
            .parse()
            .unwrap_or_else(|error| panic!("round {round}: {error}\n{text}"));
        let parsed = parse_streams(table["streams"].as_table().expect("a section"));
        assert_eq!(parsed, Ok(vec![stream]), "round {round}\n{text}");
    }
}

const ROLLUP: &str = r#"
[activity.fields]
user_id = "string"
[totals]
description = "Of each half minute"
[totals.rollup]
from = "activity"
every = "30s"
rows = 100
sql = """
SELECT count(*) AS "events"
FROM activity"""
flush_on_stop = true
[totals.fields]
events = "int"
"#;

#[test]
fn a_rollup_has_the_fields_of_every_rollup_and_survives_the_catalog() {
    let table: toml::Table = ROLLUP.parse().expect("TOML");
    let streams = parse_streams(&table).expect("right");
    let totals = &streams[1];
    let names: Vec<_> = totals.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "window_start",
            "window_end",
            "events",
            "source_rows",
            "source",
            "follows"
        ]
    );
    assert_eq!(totals.time.as_deref(), Some("window_start"));
    let rollup = totals.rollup.as_ref().expect("it is one");
    assert_eq!(
        (rollup.rows, rollup.every.as_secs(), rollup.flush_on_stop),
        (100, 30, true)
    );
    let stored = event::catalog::to_toml(&streams);
    assert_eq!(
        event::catalog::from_toml(&stored).as_ref(),
        Ok(&streams),
        "{stored}"
    );
    // The source cannot change, the rest can.
    let mut later = streams.clone();
    let rollup = later[1].rollup.as_mut().expect("it is one");
    (rollup.rows, rollup.sql) = (7, "SELECT 1".to_owned());
    assert!(event::catalog::evolve(streams.clone(), later.clone()).is_ok());
    later[1].rollup = None;
    let error = event::catalog::evolve(streams, later)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("rollup.from"), "{error}");
}

#[test]
fn what_a_rollup_cannot_have_is_named() {
    for (before, after, key) in [
        (
            "from = \"activity\"",
            "from = \"totals\"",
            "streams.totals.rollup.from",
        ),
        (
            "from = \"activity\"",
            "from = \"nobody\"",
            "streams.totals.rollup.from",
        ),
        ("from = \"activity\"", "", "streams.totals.rollup.from"),
        (
            "every = \"30s\"",
            "every = \"1ms\"",
            "streams.totals.rollup.every",
        ),
        ("rows = 100", "rows = 1000001", "streams.totals.rollup.rows"),
        ("rows = 100", "rows = \"many\"", "streams.totals.rollup.rows"),
        ("rows = 100", "row = 100", "streams.totals.rollup.row"),
        (
            "description = \"Of each half minute\"",
            "key = \"events\"",
            "streams.totals.key",
        ),
        (
            "description = \"Of each half minute\"",
            "routes = [\"/totals\"]",
            "streams.totals.routes",
        ),
        (
            "description = \"Of each half minute\"",
            "format = \"json\"",
            "streams.totals.format",
        ),
        (
            "events = \"int\"",
            "events = \"uuid\"",
            "streams.totals.fields.events",
        ),
        (
            "events = \"int\"",
            "events = { type = \"int\", min = 0 }",
            "streams.totals.fields.events",
        ),
        (
            "events = \"int\"",
            "source = \"int\"",
            "streams.totals.fields.source",
        ),
    ] {
        let text = ROLLUP.replace(before, after);
        assert_ne!(text, ROLLUP, "{before}");
        let table: toml::Table = text.parse().expect("TOML");
        let problems = parse_streams(&table).expect_err("refused");
        assert!(
            problems.iter().any(|problem| problem.key == key),
            "{after}: {problems:?}"
        );
    }
}

#[test]
fn a_unique_field_is_the_key_and_keeps_its_window_through_printing() {
    let text = r#"
        [s]
        unique = "id"
        [s.fields]
        id = "uuid"
        [t]
        unique = "id"
        key = "id"
        retention = "90s"
        [t.fields]
        id = "int"
        [u]
        unique = "id"
        unique_window = "12h"
        unique_ids_max = 5000
        [u.fields]
        id = { type = "string", max_bytes = 64 }
    "#;
    let streams = parse_streams(&text.parse().expect("TOML")).expect("right");
    let found: Vec<_> = streams
        .iter()
        .map(|stream| {
            let unique = stream.unique.as_ref().expect("it is unique");
            assert_eq!((stream.key.as_deref(), unique.field.as_str()), (Some("id"), "id"));
            (unique.window.as_secs(), unique.ids_max)
        })
        .collect();
    assert_eq!(found, [(3_600, 1_000_000), (90, 1_000_000), (12 * 3_600, 5_000)]);
    for stream in streams {
        let table: toml::Table = stream.to_toml().parse().expect("TOML");
        let parsed = parse_streams(table["streams"].as_table().expect("a section"));
        assert_eq!(parsed, Ok(vec![stream]));
    }
}

#[test]
fn what_cannot_be_unique_is_named() {
    let text = r#"
        [a]
        unique = "x"
        key = "y"
        [a.fields]
        x = { type = "uuid", optional = true }
        y = "string"
        [b]
        unique = "x"
        retention = "1h"
        unique_window = "2h"
        unique_ids_max = 3
        [b.fields]
        x = "timestamp"
        [c]
        unique_window = "1h"
        unique_ids_max = "many"
        [c.fields]
        x = "uuid"
        [d]
        unique = "x"
        unique_window = "5"
        [d.fields]
        x = "uuid"
        [e]
        unique = "z"
        unique_window = "10ms"
        [e.fields]
        x = "uuid"
    "#;
    let expected = [
        (
            "a.unique",
            "`x` is not a required field of type string, uuid or int",
        ),
        ("a.key", "leave `key` out"),
        ("b.unique", "not a required field"),
        ("b.unique_window", "longer than `retention`, 1h"),
        ("b.unique_ids_max", "`3` is not a number from 1000"),
        ("c.unique_window", "`unique`, which is absent"),
        ("c.unique_ids_max", "`many` is not a number"),
        ("c.unique_ids_max", "`unique`, which is absent"),
        ("d.unique_window", "ms, s, m, h, d"),
        ("e.unique", "`z` is not a required field"),
        ("e.unique_window", "not between 1s and 366d"),
    ];
    let found = problems(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (key, part) in expected {
        let named = |(at, message): &(String, String)| at == key && message.contains(part);
        assert!(found.iter().any(named), "{key}: {part}\n{found:#?}");
    }
}

#[test]
fn what_is_unique_stays_so_and_its_window_may_change() {
    let streams = |unique: &str| {
        parse_streams(
            &format!("[s]\n{unique}\n[s.fields]\nx = \"uuid\"\ny = \"uuid\"")
                .parse()
                .expect("TOML"),
        )
    };
    let declared = |unique: &str| streams(unique).expect("right").remove(0);
    let stored = declared("unique = \"x\"");
    let longer = declared("unique = \"x\"\nunique_window = \"2h\"\nunique_ids_max = 2000");
    let evolved = event::stream::evolve(&stored, &longer).expect("allowed");
    assert_eq!((evolved.version, evolved.unique), (1, longer.unique));
    for (before, after) in [
        ("unique = \"x\"", "key = \"x\""),
        ("key = \"x\"", "unique = \"x\""),
        ("unique = \"x\"", "unique = \"y\""),
    ] {
        let changes = event::stream::evolve(&declared(before), &declared(after)).expect_err("forbidden");
        let text = changes.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("`unique` was"), "{text}");
    }
}
