//! What is accepted, what is refused, and what a refusal says.

use super::settings::{SETTINGS, Setting};
use super::*;

fn sources(text: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tidemill.toml");
    std::fs::write(&file, text).expect("write");
    let sources = Sources {
        files: vec![file],
        ..Sources::default()
    };
    (directory, sources)
}

fn problems_of(text: &str) -> Vec<Problem> {
    let (_directory, sources) = sources(text);
    load(&sources).expect_err("refused").0
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = load(&Sources::default()).expect("defaults");
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    let lake = lake::Location::Directory(config.data_dir.join("lake"));
    assert_eq!(config.lake.location, lake);
    assert_eq!(config.lake.sink.roll_bytes, 128 << 20);
    assert!(config.roles.ingest && config.roles.sink && config.roles.analytics);
}

#[test]
fn the_documented_default_of_the_sink_is_its_own_default() {
    let ours = load(&Sources::default()).expect("defaults").lake.sink;
    let own = sink::LakeSinkOptions::default();
    assert_eq!(
        (ours.roll_bytes, ours.roll_every),
        (own.roll_bytes, own.roll_every)
    );
    assert_eq!(
        (ours.tail_bytes, ours.compact_every),
        (own.tail_bytes, own.compact_every)
    );
    assert_eq!(
        (ours.vacuum_every, ours.expire_every),
        (own.vacuum_every, own.expire_every)
    );
}

#[test]
fn all_problems_are_reported_at_once_with_key_value_and_bound() {
    let problems = problems_of(
        "listn = \"127.0.0.1:1\"\nroles = [\"ingst\"]\nlake.roll.size = \"1KiB\"\nlake.roll.every = 5\n\
         lake.rol = 1\ndestinations.w.kind = \"mysq\"\njournal.kind = \"kafk\"\ndata_dir = true\n",
    );
    let found = |key: &str| {
        let problem = problems.iter().find(|problem| problem.key == key);
        problem
            .unwrap_or_else(|| panic!("{key} in {problems:?}"))
            .message
            .clone()
    };
    assert_eq!(found("listn"), "unknown key, did you mean `listen`?");
    assert!(found("roles").contains("`ingst`") && found("roles").contains("did you mean `ingest`?"));
    assert_eq!(found("lake.roll.size"), "`1KiB` is below the minimum of `1MiB`");
    assert!(found("lake.roll.every").contains("a time with a unit"));
    assert!(found("lake.rol").contains("did you mean `lake.roll"));
    assert!(found("destinations.w.kind").contains("did you mean `mysql`?"));
    assert!(found("destinations.w.url").contains("is missing"));
    assert!(found("journal.kind").contains("did you mean `kafka`?"));
    assert!(found("data_dir").contains("true"));
    assert_eq!(problems.len(), 9, "{problems:?}");
}

#[test]
fn a_listener_for_other_machines_needs_a_word_of_its_own() {
    let problems = problems_of("listen = [\"127.0.0.1:1\", \"0.0.0.0:2\"]");
    assert!(problems[0].message.contains("`0.0.0.0:2`"), "{problems:?}");
    assert!(problems[0].message.contains("tokens_file"), "{problems:?}");
    let (_with_tokens, guarded) = sources("listen = \"0.0.0.0:2\"\ntokens_file = \"tokens.toml\"");
    assert!(load(&guarded).is_ok());
    let (_directory, sources) = sources("listen = \"0.0.0.0:2\"\nallow_remote = true");
    assert!(load(&sources).is_ok());
}

#[test]
fn a_certificate_comes_with_its_key() {
    let problems = problems_of("[tls]\ncertificate_file = \"a.pem\"");
    assert_eq!(problems[0].key, "tls.key_file");
    let problems = problems_of("[tls]\nkey_file = \"a.pem\"");
    assert_eq!(problems[0].key, "tls.certificate_file");
}

#[test]
fn later_files_then_the_environment_then_flags_override_by_key() {
    let (_first, mut sources) =
        self::sources("[lake.roll]\nsize = \"10MiB\"\nevery = \"7s\"\n[journal]\nqueue = \"150MiB\"");
    let (_second, other) = self::sources("[lake.roll]\nsize = \"20MiB\"");
    sources.files.extend(other.files);
    sources.environment = vec![
        ("TIDEMILL_JOURNAL_QUEUE".to_owned(), "200MiB".to_owned()),
        (
            "TIDEMILL_LISTEN".to_owned(),
            "127.0.0.1:1, 127.0.0.1:2".to_owned(),
        ),
        ("TIDEMILL_LAKE_LZ4".to_owned(), "true".to_owned()),
        ("TIDEMILL_INGEST_CONNECTIONS".to_owned(), "77".to_owned()),
    ];
    sources.flags = vec![("listen", "127.0.0.1:3".to_owned())];
    let config = load(&sources).expect("fine");
    assert_eq!(config.lake.sink.roll_bytes, 20 << 20);
    assert_eq!(config.lake.sink.roll_every, std::time::Duration::from_secs(7));
    assert_eq!(config.journal.queue_bytes, 200 << 20);
    assert_eq!(config.ingest.connections, 77);
    assert!(config.lake.sink.writer.lz4);
    assert_eq!(config.listen, ["127.0.0.1:3".parse().expect("an address")]);
}

#[test]
fn an_unknown_variable_is_an_error_with_a_hint() {
    let sources = Sources {
        environment: vec![("TIDEMILL_DATADIR".to_owned(), "x".to_owned())],
        ..Sources::default()
    };
    let problems = load(&sources).expect_err("refused");
    assert!(
        problems.to_string().contains("did you mean `TIDEMILL_DATA_DIR`?"),
        "{problems}"
    );
}

#[test]
fn credentials_in_the_url_of_a_bucket_are_refused_and_not_shown() {
    let problems = problems_of("lake.url = \"s3://key:secret@bucket/x\"");
    assert!(problems[0].message.contains("come from the environment"));
    assert!(!problems[0].message.contains("secret"));
}

#[test]
fn what_check_prints_is_a_configuration_with_the_same_meaning() {
    let (_directory, sources) =
        sources("roles = [\"sink\", \"analytics\"]\ndata_dir = \"/tmp/a \\\" b\"\nlake.roll.every = \"90s\"");
    let config = load(&sources).expect("fine");
    let printed = effective(&config);
    let (_again, sources) = self::sources(&printed);
    let same = load(&sources).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
    assert_eq!(effective(&same), printed);
    assert_eq!(same.roles, config.roles);
}

#[test]
fn what_is_printed_of_pages_that_may_talk_to_routes_means_the_same() {
    let text = "cors.origins = [\"https://a.example\"]\n[streams.s]\ncors = { origins = \"*\", max_age = \"1h\" }\n\
                fields = { n = \"int\" }\n[routes.\"POST /s\"]\nstream = \"s\"\ncors = { origins = [] }\n";
    let (_directory, sources) = sources(text);
    let config = load(&sources).expect("right");
    assert!(config.cors.everywhere.is_some() && config.cors.streams.len() == 1);
    let none = CorsOrigins::Listed(Vec::new());
    assert_eq!(
        config.routes[0].cors.as_ref().map(|cors| &cors.origins),
        Some(&none)
    );
    let printed = effective(&config);
    let (_directory, sources) = self::sources(&printed);
    let same = load(&sources).unwrap_or_else(|problems| panic!("{problems} in {printed}"));
    assert_eq!(same.cors.everywhere, config.cors.everywhere);
    assert_eq!(same.cors.streams, config.cors.streams);
    assert_eq!(same.routes[0].cors, config.routes[0].cors);
}

#[test]
fn no_two_settings_have_one_variable() {
    let names: std::collections::BTreeSet<_> = SETTINGS.iter().map(Setting::variable).collect();
    assert_eq!(names.len(), SETTINGS.len());
}

const DESTINATION: &str = r#"
[destinations.warehouse]
kind = "mysql"
url = "mysql://user:not-for-you@127.0.0.1/events"
streams = ["running"]
[destinations.warehouse.tables.running]
table = "runs"
columns = { user_id = "user", duration = "seconds" }
key = ["user"]
event = "payload"
on_conflict = "ignore"
[journal.kafka.properties]
"security.protocol" = "SASL_SSL"
"sasl.password" = "not-for-you"
"queued.min.messages" = 5
"#;

#[test]
fn a_destination_has_its_tables_and_shows_no_secret() {
    let (_directory, mut sources) = sources(DESTINATION);
    let config = load(&sources).expect("fine");
    let [destination] = &config.destinations[..] else {
        panic!("one destination")
    };
    assert_eq!(destination.group, "tidemill.warehouse");
    let table = destination.tables.values().next().expect("one table");
    let columns = table.columns.as_ref().expect("columns");
    assert_eq!(columns[1], ("duration".to_owned(), "seconds".to_owned()));
    assert_eq!(table.on_conflict, OnConflict::Ignore);
    assert_eq!(config.journal.kafka.properties.0["queued.min.messages"], "5");
    let shown = effective(&config);
    assert!(!format!("{config:?}{shown}").contains("not-for-you"), "{shown}");
    assert!(shown.contains("security.protocol") && shown.contains("[destinations.warehouse"));

    sources.environment = vec![
        (
            "TIDEMILL_DESTINATIONS_WAREHOUSE_URL".to_owned(),
            "mysql://user@db/other".to_owned(),
        ),
        (
            "TIDEMILL_DESTINATIONS_WAREHOUSE_PASSWORD".to_owned(),
            "a b/c".to_owned(),
        ),
    ];
    let config = load(&sources).expect("fine");
    assert_eq!(
        config.destinations[0].url.reveal(),
        "mysql://user:a%20b%2Fc@db/other"
    );
    sources.environment[0].0 = "TIDEMILL_DESTINATIONS_OTHER_URL".to_owned();
    let problems = load(&sources).expect_err("refused");
    assert!(
        problems.to_string().contains("no destination `other`"),
        "{problems}"
    );
}

#[test]
fn what_is_wrong_with_a_destination_is_said_with_its_key() {
    let problems = problems_of(
        "[destinations.w]\nkind = \"postgres\"\nurl = \"mysql://secret@h/d\"\nstreams = [\"runing\"]\n\
         table_prefix = \"a-b\"\ntable = 1\n[destinations.w.tables.running]\ntable = \"a; drop\"\n\
         columns = { nothing = \"x\" }\non_conflict = \"replace\"\n",
    );
    let text = Problems(problems).to_string();
    for part in [
        "destinations.w.url: must begin with `postgres://`",
        "destinations.w.streams: no stream `runing` is declared, did you mean `running`?",
        "destinations.w.table_prefix: `a-b` is no name",
        "destinations.w.table: unknown key, did you mean `tables`?",
        "destinations.w.tables.running.table: `a; drop` is no name",
        "destinations.w.tables.running.columns: the stream has no field `nothing`",
        "destinations.w.tables.running.on_conflict",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn variables_are_put_into_files_before_anything_is_checked() {
    let (_directory, mut sources) = sources(
        "listen = \"127.0.0.1:${SERVER_PORT:-8081}\"\nroles = \"${ROLES:-ingest,sink}\"\n\
         [journal]\nkind = \"kafka\"\n[journal.kafka]\nbrokers = \"${BROKERS}\"\npartitions = \"${PARTITIONS:-3}\"\n\
         create_topics = \"${CREATE:-false}\"\nretention = \"${RETENTION:-7d}\"\n\
         properties = { \"sasl.password\" = \"${SASL}\", \"client.id\" = \"$${plain}\" }\n\
         [destinations.db]\nkind = \"postgres\"\nurl = \"postgres://${DB_USER:-u}@h/d\"\npassword = \"${DB_PASSWORD}\"\n\
         load_data = \"${LOAD:-false}\"\n\
         [routes.\"GET /e\"]\nanswer = \"events\"\nstream = \"running\"\nlimit = \"${LIMIT:-10}\"\n\
         columns = \"${COLUMNS:-user_id, duration}\"\n",
    );
    for (name, value) in [
        ("BROKERS", "k:9092"),
        ("SASL", "not-for-you"),
        ("DB_PASSWORD", "12345"),
        ("PARTITIONS", ""),
    ] {
        sources.variables.insert(name.to_owned(), Some(value.to_owned()));
    }
    let config = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.listen, ["127.0.0.1:8081".parse().expect("an address")]);
    assert!(config.roles.ingest && config.roles.sink && !config.roles.analytics);
    let kafka = &config.journal.kafka;
    assert_eq!(
        (kafka.brokers.as_str(), kafka.partitions, kafka.create_topics),
        ("k:9092", Some(3), false)
    );
    assert_eq!(kafka.properties.0["client.id"], "${plain}");
    assert_eq!(config.destinations[0].url.reveal(), "postgres://u:12345@h/d");
    assert_eq!(config.routes.len(), 1);
    let shown = effective(&config);
    assert!(
        !shown.contains("not-for-you") && !shown.contains("12345"),
        "{shown}"
    );
    assert!(!format!("{config:?}{sources:?}").contains("not-for-you"));
    // What is printed means the same again, without the variables, but for the secrets.
    let (_again, again) = self::sources(&shown.replace(
        "kind = \"postgres\"",
        "kind = \"postgres\"\nurl = \"postgres://h/d\"",
    ));
    let same = load(&again).unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
    assert_eq!(same.journal.kafka.properties.0["client.id"], "${plain}");
    assert_eq!(same.routes.len(), 1);

    sources.variables = Variables::default();
    let problems = load(&sources).expect_err("refused").to_string();
    assert!(
        problems.contains("journal.kafka.brokers: the variable `BROKERS` is not set"),
        "{problems}"
    );
    assert!(
        problems.contains("destinations.db.password: the variable `DB_PASSWORD`"),
        "{problems}"
    );
}

#[test]
fn a_later_file_adds_to_sections_and_gives_secrets_in_its_own_way() {
    let (_first, mut sources) = self::sources(
        "roles = [\"ingest\"]\n[destinations.db]\nkind = \"postgres\"\nurl = \"postgres://u@h/d\"\npassword_file = \"/nowhere\"\n\
         [routes.\"GET /e\"]\nanswer = \"events\"\nstream = \"running\"\nlimit = 5\n",
    );
    let (_second, other) = self::sources(
        "roles = [\"sink\"]\n[journal]\nkind = \"kafka\"\n[destinations.db]\npassword = \"p\"\n\
         [routes.\"GET /e\"]\nlimit = 7\n[routes.\"GET /health\"]\nanswer = \"fixed\"\nbody = { status = \"ok\" }\n",
    );
    sources.files.extend(other.files);
    let config = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.roles.sink && !config.roles.ingest);
    assert_eq!(config.journal.kind, JournalKind::Kafka);
    assert_eq!(config.destinations[0].url.reveal(), "postgres://u:p@h/d");
    assert_eq!(config.routes.len(), 2);
    assert!(effective(&config).contains("limit = 7"));
}

#[test]
fn every_recipe_is_a_configuration_without_relative_paths() {
    let recipes = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes"));
    let mut found = 0;
    for recipe in std::fs::read_dir(recipes).expect("there") {
        let folder = recipe.expect("an entry").path();
        let (own, servers) = (folder.join("tidemill.toml"), folder.join("servers.toml"));
        if !own.exists() {
            continue;
        }
        let name = folder.display();
        let text = std::fs::read_to_string(&own).expect("there");
        assert!(text.contains("\nroles = "), "{name} names its roles");
        assert!(
            !text.contains("\"./") && !text.contains("data_dir"),
            "{name} has a path"
        );
        for files in [vec![own.clone()], vec![own.clone(), servers]] {
            let sources = Sources {
                files,
                ..Sources::default()
            };
            load(&sources).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            found += 1;
        }
    }
    assert!(found >= 2, "there are recipes");
}
