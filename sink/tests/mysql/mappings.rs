//! Tables from declarations: additive changes, differences, mappings with keys of their own.

use std::sync::Arc;

use sink::database::Database;
use sink::{DatabaseOptions, LoadData, OnConflict, TableMapping};

use crate::world::{World, mysql_url, quick, stream, until, until_caught_up};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_optional_field_becomes_a_column_and_old_rows_have_null_there() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let before = stream("[grows]\n[grows.fields]\nn = \"int\"\n");
    world.append(&before, "{\"n\":1}").await;
    let sink = world.sink(&[Arc::clone(&before)], quick());
    until_caught_up(&sink).await;
    sink.shutdown().await;
    let after =
        stream("[grows]\n[grows.fields]\nn = \"int\"\nnote = { type = \"string\", optional = true }\n");
    world.append(&after, "{\"n\":2,\"note\":\"new\"}").await;
    // Several processes add the column at once.
    let sinks: Vec<_> = (0..4)
        .map(|_| world.sink(&[Arc::clone(&after)], quick()))
        .collect();
    for sink in &sinks {
        until("the position is known", async || {
            sink.progress().read().await[0].committed.0 >= 2
        })
        .await;
    }
    for sink in sinks {
        sink.shutdown().await;
    }
    let rows = world.rows("SELECT n, note FROM grows ORDER BY n").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rows, [vec![text("1"), None], vec![text("2"), text("new")]]);
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_differs_stops_its_stream_with_the_difference_and_no_other() {
    let Some(url) = mysql_url() else { return };
    let place = "_received_at DATETIME(6), _trace_id CHAR(32), _partition INT, _offset BIGINT, _row INT";
    let key = "PRIMARY KEY (_partition, _offset, _row)";
    for (create, difference) in [
        (format!("n VARCHAR(9), {place}, {key}"), "column `n` is `varchar`"),
        (
            format!("n BIGINT, m INT NOT NULL, {place}, {key}"),
            "column `m` is not of the stream",
        ),
        (format!("{place}, {key}"), "required column `n` is not there"),
        (
            format!("n BIGINT, {place}"),
            "no unique key over (_offset, _partition, _row)",
        ),
        (
            format!("n BIGINT, {}, {key}", place.replace("(6)", "")),
            "keeps 0 digits",
        ),
    ] {
        let world = World::new(&url).await;
        world.run(&format!("CREATE TABLE differs ({create})")).await;
        let streams =
            ["differs", "fine"].map(|name| stream(&format!("[{name}]\n[{name}.fields]\nn = \"int\"\n")));
        for stream in &streams {
            world.append(stream, "{\"n\":1}").await;
        }
        let sink = world.sink(&streams, quick());
        let progress = sink.progress();
        until("one stopped and the other is there", async || {
            let all = progress.read().await;
            all[0].stopped.is_some() && all[1].committed == all[1].end
        })
        .await;
        let reason = progress.read().await[0].stopped.clone().expect("stopped");
        assert!(reason.contains(difference), "{reason}");
        sink.shutdown().await;
        world.remove().await;
    }
    let world = World::new(&url).await;
    world
        .run(&format!(
            "CREATE TABLE differs (n BIGINT, {place}, {key}) ENGINE=MyISAM"
        ))
        .await;
    let sink = world.sink(&[stream("[differs]\n[differs.fields]\nn = \"int\"\n")], quick());
    let progress = sink.progress();
    until("it stopped", async || progress.read().await[0].stopped.is_some()).await;
    let reason = progress.read().await[0].stopped.clone().expect("stopped");
    assert!(reason.contains("`MyISAM`"), "{reason}");
    sink.shutdown().await;
    world.remove().await;
}

fn mapped(on_conflict: OnConflict) -> DatabaseOptions {
    let columns =
        [("user", "owner"), ("n", "latest")].map(|(field, name)| (field.to_owned(), name.to_owned()));
    let mapping = TableMapping {
        table: Some("Owners".to_owned()),
        columns: Some(columns.into_iter().collect()),
        key: vec!["owner".to_owned()],
        event: Some("doc".to_owned()),
        on_conflict,
        ..TableMapping::default()
    };
    let mut options = quick();
    options
        .mappings
        .insert(event::StreamName::parse("owned").expect("allowed"), mapping);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_its_own_refuses_ignores_or_updates_as_declared() {
    let Some(url) = mysql_url() else { return };
    let declaration = "[owned]\nunknown_fields = \"keep\"\n[owned.fields]\nuser = { type = \"string\", max_bytes = 20 }\n\
                       n = \"int\"\nat = \"timestamp\"\n";
    let owned = stream(declaration);
    for (on_conflict, latest, refused) in [
        (OnConflict::Refuse, ["1", "2", "4"], 2),
        (OnConflict::Ignore, ["1", "2", "4"], 0),
        (OnConflict::Update, ["5", "3", "4"], 0),
    ] {
        let world = World::new(&url).await;
        let lines = [("a", 1), ("b", 2), ("b", 3), ("b ", 4), ("a", 5)].map(|(user, n)| {
            format!("{{\"user\":\"{user}\",\"x\":[1],\"n\":{n},\"at\":\"2024-01-02T03:04:05Z\"}}")
        });
        world.append(&owned, &lines[..4].join("\n")).await;
        world.append(&owned, &lines[4]).await;
        let sink = world.sink(&[Arc::clone(&owned)], mapped(on_conflict));
        until_caught_up(&sink).await;
        sink.shutdown().await;
        let rows = world
            .rows("SELECT owner, latest, doc FROM Owners ORDER BY owner")
            .await;
        let found: Vec<_> = rows.iter().map(|row| row[1].as_deref().expect("there")).collect();
        assert_eq!(found, latest, "{on_conflict:?}");
        let first = format!(
            "{{\"user\":\"a\",\"n\":{},\"at\":\"2024-01-02T03:04:05.000000Z\",\"x\":[1]}}",
            latest[0]
        );
        assert_eq!(rows[0][2].as_deref(), Some(first.as_str()));
        let aside = world
            .rows("SELECT `_offset`, `_row`, code FROM tidemill_refused ORDER BY `_offset`, `_row`")
            .await;
        assert_eq!(aside.len(), refused, "{on_conflict:?}");
        if refused > 0 {
            let text = |text: &str| Some(text.to_owned());
            assert_eq!(aside[0], [text("0"), text("2"), text("1062")]);
            assert_eq!(aside[1], [text("1"), text("0"), text("1062")]);
        }
        world.remove().await;
    }
}

/// InnoDB keeps long values outside of a page and short ones in it: 256 of 255 bytes fit, 256 of 40 do not. The stream
/// has its table all the same, and only the row that is too wide is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_as_many_strings_as_may_be_has_its_table() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let mut declaration = String::from("[wide]\n[wide.fields]\n");
    for n in 0..256 {
        declaration.push_str(&format!(
            "f{n} = {{ type = \"string\", max_bytes = 255, optional = true }}\n"
        ));
    }
    let wide = stream(&declaration);
    let all = |length: usize| {
        let fields: Vec<_> = (0..256)
            .map(|n| format!("\"f{n}\":\"{}\"", "x".repeat(length)))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    world
        .append(
            &wide,
            &[all(255), all(40), "{\"f255\":\"last\"}".to_owned()].join("\n"),
        )
        .await;
    let sink = world.sink(&[Arc::clone(&wide)], quick());
    until_caught_up(&sink).await;
    sink.shutdown().await;
    let kept = world.number("SELECT COUNT(*) FROM wide").await;
    let refused = world.rows("SELECT `_row`, code FROM tidemill_refused").await;
    assert_eq!(kept + refused.len() as i64, 3);
    assert_eq!(refused, [[Some("1".to_owned()), Some("1118".to_owned())]]);
    world.remove().await;
}

/// What is known to be impossible is said before anybody is asked.
#[test]
fn a_table_that_no_server_can_have_is_refused_without_a_connection() {
    let options = sink::MysqlOptions {
        url: "mysql://nobody@127.0.0.1:1/x".to_owned(),
        load_data: LoadData::Auto,
        ..sink::MysqlOptions::default()
    };
    let database = sink::MysqlDatabase::new(&options).expect("a URL");
    let mapping = TableMapping {
        key: vec!["word".to_owned()],
        ..TableMapping::default()
    };
    let declared = stream("[s]\n[s.fields]\nword = \"string\"\n");
    let table = sink::database::TargetTable::resolve(declared, "", Some(&mapping)).expect("resolves");
    let error = database.check(&table).expect_err("too large a key");
    assert!(error.to_string().contains("3072"), "{error}");
}
