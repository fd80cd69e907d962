//! What is a WebSocket's own.

use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Program, running};
use crate::websocket::Socket;
use crate::{config, directory};

#[test]
fn a_socket_says_where_it_begins_and_resumes_behind_an_event() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 2)).status, 200);
    let tail = "/v1/streams/running/tail";
    let mut socket = Socket::open(program.address, tail).expect("a socket");
    let first = socket.next().expect("a message").into_text().expect("text");
    assert_eq!(first.as_str(), "{\"position\":\"0:1\"}");
    assert_eq!(program.ndjson("running", &running(2, 1)).status, 200);
    let event = socket.next_json().expect("an event");
    assert_eq!(
        (&event["id"], &event["event"]["duration"]),
        (&Value::from("0:1:0"), &Value::from(2))
    );
    let mut resumed = Socket::open(program.address, &format!("{tail}?from=0:0:0")).expect("a socket");
    assert_eq!(resumed.next_json().expect("an event")["id"], "0:0:1");
    assert_eq!(resumed.next_json().expect("an event")["id"], "0:1:0");
    let mut bare = Socket::open(
        program.address,
        &format!("{tail}?from=start&duration=2&ids=false"),
    )
    .expect("a socket");
    assert_eq!(bare.next_json().expect("an event")["duration"], 2);
    assert!(Socket::open(program.address, &format!("{tail}?from=0:9")).is_err());
}

#[test]
fn what_a_client_sends_changes_nothing_and_too_much_ends_it() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let mut socket = Socket::open(program.address, "/v1/streams/running/tail").expect("a socket");
    assert!(socket.send(Message::text("{\"subscribe\": \"everything\"}")));
    assert!(socket.send(Message::Ping(vec![1, 2, 3].into())));
    loop {
        match socket.next().expect("a message") {
            Message::Pong(payload) => break assert_eq!(payload.as_ref(), [1, 2, 3]),
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(program.ndjson("running", &running(0, 1)).status, 200);
    assert_eq!(socket.next_json().expect("an event")["event"]["duration"], 0);
    socket.send(Message::text("x".repeat(1 << 20)));
    while socket.next_json().is_some() {}
    // The others go on.
    let mut other = Socket::open(program.address, "/v1/streams/running/tail?from=start").expect("a socket");
    assert_eq!(other.next_json().expect("an event")["event"]["duration"], 0);
}

#[test]
fn a_declared_path_sends_the_declared_shape() {
    let data = directory();
    let config = config(
        data.path(),
        "[streams.events.fields]\nevent_name = \"string\"\nuser_id = { type = \"int\", optional = true }\n\
         [routes.\"WS /v1/ws/events\"]\nstream = \"events\"\nafter = \"lake\"\n\
         shape = { event = \"$event_name\", user_id = \"$user_id\" }\n[lake.roll]\nevery = \"100ms\"\n",
    );
    let program = Program::start(data.path(), &["--config", &config]);
    let mut socket = Socket::open(program.address, "/v1/ws/events").expect("a socket");
    let mut with_ids = Socket::open(program.address, "/v1/ws/events?ids=true&user_id=8").expect("a socket");
    let body = "{\"event_name\":\"click\",\"user_id\":7}\n{\"event_name\":\"a \\\"b\\\"\",\"user_id\":8}\n{\"event_name\":\"c\"}\n";
    assert_eq!(program.ndjson("events", body).status, 200);
    for expected in [
        "{\"event\":\"click\",\"user_id\":7}",
        "{\"event\":\"a \\\"b\\\"\",\"user_id\":8}",
    ] {
        let text = socket.next().expect("a message").into_text().expect("text");
        assert_eq!(text.as_str(), expected);
    }
    assert_eq!(
        socket.next_json().expect("an event"),
        serde_json::json!({"event": "c", "user_id": null})
    );
    let event = with_ids.next_json().expect("an event");
    assert_eq!(
        event,
        serde_json::json!({"id": "0:0:1", "event": {"event": "a \"b\"", "user_id": 8}})
    );
    let plain = program.get("/v1/ws/events");
    assert_eq!(plain.status, 426, "{}", plain.text());
}
