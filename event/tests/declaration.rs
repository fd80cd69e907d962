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
