//! R1: runs and songs, as the clients of Runify send and ask for them.

use serde_json::{Value, json};

use crate::harness::{Program, until};
use crate::starter::{Embedded, embedded, file, mysql, own_name, server, walk_the_readme};

const USER: &str = "d290f1ee-6c54-4b01-90e6-d701748f0851";

fn run(number: u32) -> Value {
    json!({"user_id": USER, "duration": 3600 + number, "distance": 5000, "timestamp": moment(number)})
}

fn song(number: u32) -> Value {
    json!({"user_id": USER, "song_name": "Run Boy Run", "artist": "Woodkid", "song_duration": 180 + number,
        "timestamp": moment(number)})
}

/// A minute for each event.
fn moment(number: u32) -> String {
    format!("2024-09-10T{:02}:{:02}:33.001Z", 9 + number / 60, number % 60)
}

fn post(program: &Program, path: &str, event: &Value) {
    let answer = program.post(path, "application/json", event.to_string().as_bytes());
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
}

fn ask(program: &Program, path: &str) -> Value {
    let answer = program.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// An event without what the receiver adds.
fn sent(event: &Value) -> Value {
    let mut event = event.clone();
    let trace_id = event.as_object_mut().expect("an object").remove("trace_id");
    assert_eq!(
        trace_id.and_then(|id| id.as_str().map(str::len)),
        Some(32),
        "{event}"
    );
    event
}

fn all_sent(events: &Value) -> Vec<Value> {
    events.as_array().expect("an array").iter().map(sent).collect()
}

/// Everything that the surface of R1 has, of a program that has nothing yet.
fn surface(program: &Program) {
    assert_eq!(ask(program, "/stats/running"), json!([]));
    assert_eq!(program.get("/running?index=0").status, 404);
    for number in 0..90 {
        post(program, "/stats/running", &run(number));
    }
    post(program, "/stats/music", &song(0));
    post(program, "/stats/music", &song(1));

    until("all events have an index", || {
        program.get("/running?index=89").status == 200
    });
    let all = ask(program, "/stats/running");
    assert_eq!(all_sent(&all), (0..90).map(run).collect::<Vec<_>>());
    let hour = "start_timestamp=2024-09-10T09:10:00.000Z&end_timestamp=2024-09-10T09:20:33.001Z";
    let found = ask(program, &format!("/stats/running?{hour}"));
    assert_eq!(all_sent(&found), (10..20).map(run).collect::<Vec<_>>());
    let without_zone = "start_timestamp=2024-09-10T10:00:00&end_timestamp=2024-09-10%2010:02:00";
    let found = ask(program, &format!("/stats/running?{without_zone}&unknown=1"));
    assert_eq!(all_sent(&found), (60..62).map(run).collect::<Vec<_>>());
    let songs = ask(program, &format!("/stats/music?end_timestamp={}", moment(1)));
    assert_eq!(all_sent(&songs), [song(0)]);
    let answer = program.get("/stats/running?start_timestamp=yesterday");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].is_string(), "{}", answer.text());

    for number in [0, 1, 42, 89] {
        assert_eq!(
            sent(&ask(program, &format!("/running?index={number}"))),
            run(number)
        );
    }
    assert_eq!(sent(&ask(program, "/music?index=1")), song(1));
    for (path, status) in [
        ("/running?index=90", 404),
        ("/music?index=2", 404),
        ("/running", 400),
        ("/running?index=-1", 400),
        ("/running?index=first", 400),
    ] {
        let answer = program.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.json()["message"].is_string(), "{path}: {}", answer.text());
    }

    let stats = ask(program, "/stats");
    assert_eq!((&stats["running"], &stats["music"]), (&json!(90), &json!(2)));
    assert_eq!(stats["statistics"]["running"]["fields"]["duration"]["max"], 3689);
    assert_eq!(ask(program, "/health"), json!({"status": "ok"}));
    assert_eq!(program.post("/running", "application/json", b"{}").status, 405);

    let bad = program.post("/stats/running", "application/json", b"{\"user_id\":\"me\"}");
    assert_eq!(bad.status, 422, "{}", bad.text());
}

#[test]
fn runify_answers_its_clients_without_other_servers() {
    let Embedded { program, folder } = embedded("runify");
    surface(&program);
    // What was accepted is there after a crash as well.
    program.kill();
    let program = Program::start(folder.path(), &["--config", &file("runify", "tidemill.toml")]);
    assert_eq!(all_sent(&ask(&program, "/stats/running")).len(), 90);
    assert_eq!(sent(&ask(&program, "/running?index=89")), run(89));
    assert!(program.stop().success());
}

#[test]
fn runify_answers_its_clients_around_kafka_and_mysql() {
    let (Some(kafka), Some(url), Some(client)) = (
        server("KAFKA_BROKERS"),
        server("MYSQL_URL"),
        server("MYSQL_CLIENT_ARGS"),
    ) else {
        return;
    };
    let url = url::Url::parse(&url).expect("MYSQL_URL is a URL");
    let name = own_name();
    mysql(&client, &format!("CREATE DATABASE `{name}`")).expect("created");
    let (topics, port) = (
        [format!("{name}_running"), format!("{name}_music")],
        url.port().unwrap_or(3306).to_string(),
    );
    let variables = [
        ("KAFKA_BROKERS", kafka.as_str()),
        ("KAFKA_TOPIC_PREFIX", &name),
        ("KAFKA_TOPIC_RUNNING", &topics[0]),
        ("KAFKA_TOPIC_MUSIC", &topics[1]),
        ("KAFKA_GROUP_ID", &name),
        ("MYSQL_HOST", url.host_str().expect("a host")),
        ("MYSQL_PORT", &port),
        ("MYSQL_DATABASE", &name),
        ("MYSQL_USER", url.username()),
        ("MYSQL_PASSWORD", url.password().unwrap_or_default()),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let files = [file("runify", "tidemill.toml"), file("runify", "servers.toml")];
    let program = Program::start_with(
        folder.path(),
        &["--config", &files[0], "--config", &files[1]],
        &variables,
    );
    surface(&program);
    let count = |table: &str| mysql(&client, &format!("SELECT count(*) FROM `{name}`.{table}"));
    until("MySQL has every event", || {
        count("running").as_deref() == Ok("90") && count("music").as_deref() == Ok("2")
    });
    let first = format!("SELECT user_id, duration FROM `{name}`.running ORDER BY duration LIMIT 1");
    assert_eq!(mysql(&client, &first), Ok(format!("{USER}\t3600")));
    assert!(program.stop().success());
    mysql(&client, &format!("DROP DATABASE `{name}`")).expect("dropped");
}

#[test]
fn the_readme_of_runify_works_as_written() {
    walk_the_readme("runify", 8080);
}
