//! R4: events as query parameters, listed in pages, as the clients of the streaming service send and ask for them.

use serde_json::{Value, json};

use crate::harness::{Program, until};
use crate::starter::{Embedded, embedded, file, own_name, postgres, server, walk_the_readme};
use crate::websocket::Socket;

const SOCKET: &str = "/v1/ws/events";

fn post(program: &Program, query: &str) -> (u16, Value) {
    let answer = program.post(&format!("/v1/event?{query}"), "application/json", b"");
    (answer.status, answer.json())
}

fn list(program: &Program, query: &str) -> Vec<Value> {
    let answer = program.get(&format!("/v1/events?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], "success");
    body["data"].as_array().expect("a list").clone()
}

fn event(number: u32) -> Value {
    json!({"event_name": if number.is_multiple_of(3) { "sign up" } else { "click" }, "user_id": number})
}

/// Everything that the surface of R4 has, of a program that has nothing yet.
fn surface(program: &Program) {
    assert_eq!(list(program, ""), Vec::<Value>::new());
    let mut sockets = [SOCKET, SOCKET, "/v1/ws/events?event_name=sign%20up"]
        .map(|path| Socket::open(program.address, path).expect("a socket"));
    for number in 0..25 {
        let name = if number % 3 == 0 { "sign%20up" } else { "click" };
        let (status, body) = post(program, &format!("event_name={name}&user_id={number}"));
        assert_eq!(
            (status, body),
            (200, json!({"message": "Event sent successfully!"}))
        );
    }
    for wrong in [
        "",
        "event_name=click",
        "user_id=1",
        "event_name=click&user_id=me",
        "event_name=click&user_id=1.5",
    ] {
        let (status, body) = post(program, wrong);
        assert_eq!(status, 422, "{wrong}: {body}");
    }
    until("all events are listed", || list(program, "limit=100").len() == 25);
    let all: Vec<_> = (0..25).map(event).collect();
    assert_eq!(list(program, "limit=100"), all);
    let sent: Vec<_> = all
        .iter()
        .map(|event| json!({"event": event["event_name"], "user_id": event["user_id"]}))
        .collect();
    for socket in &mut sockets[..2] {
        let got: Vec<_> = (0..25).map_while(|_| socket.next_json()).collect();
        assert_eq!(got, sent, "each event once, in order");
    }
    let got: Vec<_> = (0..9).map_while(|_| sockets[2].next_json()).collect();
    assert!(got.iter().all(|event| event["event"] == "sign up"), "{got:?}");
    assert_eq!(list(program, ""), all[..10]);
    assert_eq!(list(program, "event_name=&limit=5&offset=20"), all[20..]);
    assert_eq!(list(program, "limit=10&offset=25"), Vec::<Value>::new());
    assert_eq!(list(program, "limit=0"), Vec::<Value>::new());
    let signed_up: Vec<_> = all
        .iter()
        .filter(|event| event["event_name"] == "sign up")
        .cloned()
        .collect();
    assert_eq!(list(program, "event_name=sign+up&limit=20"), signed_up);
    assert_eq!(list(program, "event_name=nothing"), Vec::<Value>::new());
    // Negative numbers are no error.
    assert_eq!(list(program, "limit=-1"), all[..10]);
    assert_eq!(list(program, "limit=3&offset=-7"), all[..3]);
    assert_eq!(program.get("/health").json(), json!({"status": "ok"}));
    for page in ["/docs", "/redoc"] {
        assert_eq!(program.get(page).status, 200, "{page}");
    }
}

#[test]
fn event_streaming_answers_its_clients_without_other_servers() {
    let Embedded { program, folder } = embedded("event-streaming");
    surface(&program);
    // A client that was cut off goes on where it was.
    let from_start = format!("{SOCKET}?ids=true&from=start");
    let mut socket = Socket::open(program.address, &from_start).expect("a socket");
    let seen: Vec<_> = (0..20).map_while(|_| socket.next_json()).collect();
    let last = seen[19]["id"].as_str().expect("an id").to_owned();
    program.kill();
    let program = Program::start(
        folder.path(),
        &["--config", &file("event-streaming", "tidemill.toml")],
    );
    assert_eq!(post(&program, "event_name=click&user_id=25").0, 200);
    let on = format!("{SOCKET}?ids=true&from={last}");
    let mut socket = Socket::open(program.address, &on).expect("a socket");
    let rest = (0..6).map_while(|_| socket.next_json());
    let users: Vec<_> = seen
        .iter()
        .cloned()
        .chain(rest)
        .map(|one| one["event"]["user_id"].clone())
        .collect();
    assert_eq!(users, (0..26).map(Value::from).collect::<Vec<_>>());
    assert!(program.stop().success());
}

#[test]
fn event_streaming_answers_its_clients_around_kafka_and_postgres() {
    let servers = ["KAFKA_BROKERS", "POSTGRES_URL", "REDIS_URL"].map(server);
    let [Some(kafka), Some(url), Some(redis)] = servers else {
        return;
    };
    let name = own_name();
    postgres(&url, &format!("CREATE DATABASE \"{name}\"")).expect("created");
    let mut own = url::Url::parse(&url).expect("POSTGRES_URL is a URL");
    own.set_path(&name);
    let variables = [
        ("KAFKA_BROKER_URL", kafka.as_str()),
        ("KAFKA_TOPIC_PREFIX", &name),
        ("KAFKA_TOPIC", &name),
        ("KAFKA_GROUP_ID", &name),
        ("POSTGRES_URL", own.as_str()),
        ("REDIS_URL", redis.as_str()),
        ("REDIS_CHANNEL", &name),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        file("event-streaming", "tidemill.toml"),
        file("event-streaming", "servers.toml"),
    ];
    let program = Program::start_with(
        folder.path(),
        &["--config", &files[0], "--config", &files[1]],
        &variables,
    );
    surface(&program);
    until("PostgreSQL has every event", || {
        postgres(own.as_str(), "SELECT count(*) FROM events").as_deref() == Ok("25")
    });
    let last = "SELECT event_name, user_id FROM events ORDER BY user_id DESC LIMIT 1";
    assert_eq!(postgres(own.as_str(), last).as_deref(), Ok("sign up\t24"));
    assert!(program.stop().success());
    postgres(&url, &format!("DROP DATABASE \"{name}\"")).expect("dropped");
}

#[test]
fn the_readme_of_event_streaming_works_as_written() {
    walk_the_readme("event-streaming", 8000);
}
