//! Tables: made, grown, taken as others made them, and refused when they differ.

use std::sync::Arc;
use std::time::Duration;

use event::{FieldType, StreamDeclaration};
use futures::future::join_all;
use sink::database::TargetTable;
use sink::{DatabaseOptions, OnConflict, TableMapping};

use super::world::{World, field, int, mapped, optional, options, shared_url, simple, stream, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_create_each_table_once() {
    let Some(url) = shared_url("processes_that_start_at_once_create_each_table_once") else {
        return;
    };
    let world = World::new(&url).await;
    let table = |fields| {
        let stream = stream("shared", fields);
        Arc::new(TargetTable::resolve(stream, "", None).expect("resolves"))
    };
    let old = table(vec![field("n", int())]);
    let new = table(vec![field("n", int()), optional("later", text())]);
    let database = world.database();
    for table in [old, new] {
        let preparing = (0..8).map(|_| {
            let (database, table) = (Arc::clone(&database), Arc::clone(&table));
            async move {
                let mut session = database.connect().await.expect("connects");
                session.prepare(&table).await
            }
        });
        for prepared in join_all(preparing).await {
            prepared.expect("prepares");
        }
    }
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_optional_field_becomes_a_column_and_old_records_have_null_there() {
    let Some(url) = shared_url("a_new_optional_field_becomes_a_column_and_old_records_have_null_there")
    else {
        return;
    };
    let world = World::new(&url).await;
    let old = simple("grows");
    world.append(&old, &["{\"n\":1}".to_owned()]).await;
    world.run(std::slice::from_ref(&old), options()).await;
    world.append(&old, &["{\"n\":2}".to_owned()]).await;

    let mut grown = StreamDeclaration::clone(&old);
    grown.version += 1;
    grown.fields.push(optional("later", FieldType::Json));
    let grown = Arc::new(grown);
    world
        .append(&grown, &[r#"{"n":3,"later":{"a":1}}"#.to_owned()])
        .await;
    world.run(std::slice::from_ref(&grown), options()).await;
    let found = world.rows("SELECT n, later FROM grows ORDER BY n").await;
    assert_eq!(found, [["1", "null"], ["2", "null"], ["3", r#"{"a": 1}"#]]);
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_differs_stops_its_stream_with_the_difference_and_no_other() {
    let Some(url) = shared_url("a_table_that_differs_stops_its_stream_with_the_difference_and_no_other")
    else {
        return;
    };
    let world = World::new(&url).await;
    let position = "_received_at timestamptz NOT NULL, _trace_id text NOT NULL, _partition int NOT NULL, \
                    _offset bigint NOT NULL, _row int NOT NULL";
    let key = "PRIMARY KEY (_partition, _offset, _row)";
    let cases = [
        (
            "t_type",
            format!("n text NOT NULL, note text, _extra jsonb, {position}, {key}"),
            "`n` is text",
        ),
        (
            "t_narrow",
            format!("n integer NOT NULL, note text, _extra jsonb, {position}, {key}"),
            "`n` is integer, expected BIGINT",
        ),
        (
            "t_required",
            format!("note text, _extra jsonb, {position}, {key}"),
            "required column `n`",
        ),
        (
            "t_key",
            format!("n bigint NOT NULL, note text, _extra jsonb, {position}"),
            "unique index",
        ),
        (
            "t_null",
            format!("n bigint NOT NULL, note text NOT NULL, _extra jsonb, {position}, {key}"),
            "`note` takes no null",
        ),
        (
            "t_alone",
            format!("n bigint NOT NULL, note text, _extra jsonb, other int NOT NULL, {position}, {key}"),
            "`other` must have a value",
        ),
    ];
    let mut streams = vec![simple("fine")];
    for (name, columns, _) in &cases {
        let create = format!("CREATE TABLE {name} ({columns})");
        world.admin.batch_execute(&create).await.expect("a table");
        streams.push(simple(name));
    }
    world
        .admin
        .batch_execute("CREATE VIEW t_view AS SELECT 1 AS n")
        .await
        .expect("a view");
    streams.push(simple("t_view"));
    for stream in &streams {
        world.append(stream, &["{\"n\":1}".to_owned()]).await;
    }
    let sink = world.start(&streams, options());
    let progress = sink.progress();
    until("all but one have stopped", Duration::from_secs(30), async || {
        let all = progress.read().await;
        all[0].committed == all[0].end && all[1..].iter().all(|one| one.stopped.is_some())
    })
    .await;
    let all = progress.read().await;
    for (one, expected) in all[1..]
        .iter()
        .zip(cases.iter().map(|case| case.2).chain(["no table"]))
    {
        let reason = one.stopped.as_deref().expect("stopped");
        assert!(
            reason.contains(expected) && reason.contains(one.stream.as_str()),
            "{reason}"
        );
    }
    sink.shutdown().await;
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_table_of_others_takes_the_mapped_columns_in_its_own_types() {
    let Some(url) = shared_url("a_declared_table_of_others_takes_the_mapped_columns_in_its_own_types") else {
        return;
    };
    let world = World::new(&url).await;
    world
        .admin
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); \
             CREATE TABLE \"Visits\" (id serial PRIMARY KEY, \"N\" positive, small smallint, mood mood, \
             who varchar(36), seen timestamp, x real, doc json, whole jsonb, part integer, rec bigint, row integer, \
             note_length integer GENERATED ALWAYS AS (length(who)) STORED, UNIQUE (rec, part, row))",
        )
        .await
        .expect("tables");
    let kind = FieldType::Enum {
        values: ["good", "bad", "new"].map(str::to_owned).to_vec(),
    };
    let float = FieldType::Float {
        min: f64::MIN,
        max: f64::MAX,
    };
    let stream = stream(
        "visits",
        vec![
            field("n", int()),
            field("small", int()),
            field("mood", kind),
            field("who", FieldType::Uuid),
            field("seen", FieldType::Timestamp { unit: None }),
            field("x", float),
            optional("doc", FieldType::Json),
            field("unmapped", FieldType::Bool),
        ],
    );
    let columns = [
        ("n", "N"),
        ("small", "small"),
        ("mood", "mood"),
        ("who", "who"),
        ("seen", "seen"),
        ("x", "x"),
        ("doc", "doc"),
        ("_partition", "part"),
        ("_offset", "rec"),
        ("_row", "row"),
    ];
    let mapping = TableMapping {
        table: Some("Visits".to_owned()),
        columns: Some(columns.map(|(from, to)| (from.to_owned(), to.to_owned())).into()),
        event: Some("whole".to_owned()),
        ..TableMapping::default()
    };
    let line = |n: i64, small: i64, mood: &str, x: &str| {
        format!(
            r#"{{"n":{n},"small":{small},"mood":"{mood}","who":"d290f1ee-6c54-4b01-90e6-d701748f0851","seen":"2026-01-02T03:04:05.000006+01:00","x":{x},"doc":{{"b":1,  "a":"\u0000"}},"unmapped":true}}"#
        )
    };
    // The whole event is JSONB, which has no U+0000, so only lines without one fit.
    let line = |n, small, mood, x| line(n, small, mood, x).replace("\\u0000", "\\u0001");
    let lines = [
        line(1, -5, "good", "1.5"),
        line(-1, 1, "good", "1.5"),
        line(1 << 31, 1, "good", "1.5"),
        line(2, 40_000, "good", "1.5"),
        line(3, 1, "new", "1.5"),
        line(4, 1, "bad", "1e39"),
        line(5, 32_767, "bad", "0"),
    ];
    world.append(&stream, &lines).await;
    world
        .run(std::slice::from_ref(&stream), mapped(&stream, mapping))
        .await;
    let found = world
        .rows(
            "SELECT \"N\", small, mood, who, seen, x, doc, whole->>'unmapped', whole->>'seen', part, rec, row \
             FROM \"Visits\" ORDER BY row",
        )
        .await;
    let row = |n: &str, small: &str, mood: &str, x: &str, number: &str| {
        [
            n,
            small,
            mood,
            "d290f1ee-6c54-4b01-90e6-d701748f0851",
            "2026-01-02 02:04:05.000006",
            x,
            r#"{"b":1,  "a":"\u0001"}"#,
            "true",
            "2026-01-02T02:04:05.000006Z",
            "0",
            "0",
            number,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    assert_eq!(
        found,
        [
            row("1", "-5", "good", "1.5", "0"),
            row("5", "32767", "bad", "0", "6")
        ]
    );
    let refused = world
        .rows("SELECT _row, code FROM tidemill_refused ORDER BY _row")
        .await;
    let expected = [
        ["1", "23514"],
        ["2", "22003"],
        ["3", "22003"],
        ["4", "22P02"],
        ["5", "22003"],
    ];
    assert_eq!(refused, expected);
    world.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_of_its_own_is_refused_ignored_or_replaces() {
    let Some(url) = shared_url("a_repeated_key_of_its_own_is_refused_ignored_or_replaces") else {
        return;
    };
    for (on_conflict, expected) in [
        (OnConflict::Refuse, [["1", "a"], ["2", "b"]]),
        (OnConflict::Ignore, [["1", "a"], ["2", "b"]]),
        (OnConflict::Update, [["1", "e"], ["2", "d"]]),
    ] {
        let world = World::new(&url).await;
        let stream = simple("latest");
        let mapping = TableMapping {
            columns: Some(
                [("n", "n"), ("note", "note")]
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
                    .into(),
            ),
            key: vec!["n".to_owned()],
            on_conflict,
            ..TableMapping::default()
        };
        let line = |n: i64, note: &str| format!("{{\"n\":{n},\"note\":\"{note}\"}}");
        world
            .append(&stream, &[line(1, "a"), line(2, "b"), line(1, "c")])
            .await;
        let options = mapped(&stream, mapping);
        world.run(std::slice::from_ref(&stream), options.clone()).await;
        let zero = line(3, "\\u0000");
        world
            .append(&stream, &[line(2, "d"), zero, line(1, "x"), line(1, "e")])
            .await;
        world.run(std::slice::from_ref(&stream), options).await;
        let found = world.rows("SELECT n, note FROM latest ORDER BY n").await;
        assert_eq!(found, expected, "{on_conflict:?}");
        let refused = world.count("tidemill_refused").await;
        assert_eq!(
            refused,
            if on_conflict == OnConflict::Refuse { 5 } else { 1 },
            "{on_conflict:?}"
        );
        world.drop_schema().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_tables_that_postgres_cannot_have_are_refused_at_the_start() {
    let Some(url) = shared_url("names_and_tables_that_postgres_cannot_have_are_refused_at_the_start") else {
        return;
    };
    let world = World::new(&url).await;
    let long = "a".repeat(64);
    for (stream, options, expected) in [
        (simple(&long), options(), "63"),
        (
            simple(&long[..60]),
            DatabaseOptions {
                table_prefix: "app_".to_owned(),
                ..options()
            },
            "63",
        ),
        (stream("s", vec![field("ctid", int())]), options(), "ctid"),
        (stream("s", vec![optional(&long, int())]), options(), "63"),
    ] {
        let journal = Arc::<journal::embedded::EmbeddedJournal>::clone(&world.journal);
        let started = sink::DatabaseSink::start(
            &tokio::runtime::Handle::current(),
            journal,
            &[stream],
            world.database(),
            options,
        );
        let error = started.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    world.drop_schema().await;
}
