//! Events as they arrive: each one that is stored, once, in order, whatever ends the server; and everything that a
//! client may ask for or do wrong.

#[path = "live/client.rs"]
mod client;
#[path = "live/crowd.rs"]
mod crowd;
mod harness;
#[path = "live/once.rs"]
mod once;
#[path = "live/redis.rs"]
mod redis;
#[path = "live/slow.rs"]
mod slow;
#[path = "live/socket.rs"]
mod socket;
#[path = "live/unique.rs"]
mod unique;
#[path = "harness/websocket.rs"]
mod websocket;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use client::EventStream;
use harness::{PATIENCE, Program, request, running, tidemill, until};
use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A configuration file in a directory, as an argument.
fn config(directory: &Path, text: &str) -> String {
    let file = directory.join("live.toml");
    std::fs::write(&file, text).expect("write");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_client_gets_what_comes_after_it_came_and_every_event_says_where_it_is() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 2)).status, 200);
    let (mut stream, at) = EventStream::of(program.address, "/v1/streams/running/tail");
    assert_eq!(at, "0:1");
    assert_eq!(program.ndjson("running", &running(2, 2)).status, 200);
    for (row, duration) in [(0, 2), (1, 3)] {
        let event = stream.next_event().expect("an event");
        assert_eq!(event.id, format!("0:1:{row}"));
        assert_eq!(event.json()["duration"], duration);
    }
    // The same from the beginning, and behind an event.
    let (mut all, at) = EventStream::of(program.address, "/v1/streams/running/tail?from=start");
    assert_eq!(at, "0:0");
    let durations: Vec<_> = (0..4)
        .map(|_| all.next_event().expect("an event").json()["duration"].clone())
        .collect();
    assert_eq!(durations, [0, 1, 2, 3].map(Value::from));
    let (mut rest, at) = EventStream::of(program.address, "/v1/streams/running/tail?from=0:0:0");
    assert_eq!(at, "0:0:0");
    assert_eq!(rest.next_event().expect("an event").id, "0:0:1");
    let headers = [("last-event-id", "0:1:0")];
    let opened = EventStream::open(program.address, "/v1/streams/running/tail?from=start", &headers);
    let mut resumed = opened.expect("an answer").expect("a stream");
    assert_eq!(
        resumed.next_event().expect("an event").id,
        "0:1:1",
        "the header is newer than the address"
    );
    until("clients are counted", || {
        program.metric("tidemill_live_clients") >= 4.0
    });
    drop((all, rest, resumed, stream));
}

#[test]
fn filters_and_values_are_those_of_the_events_route() {
    let data = directory();
    let config = config(
        data.path(),
        "[streams.mixed]\ntime = \"at\"\nunknown_fields = \"keep\"\n[streams.mixed.fields]\n\
         at = \"timestamp\"\nid = \"uuid\"\nn = \"int\"\nx = { type = \"float\", optional = true }\n\
         ok = { type = \"bool\", optional = true }\nkind = { type = \"enum\", values = [\"a\", \"b\"] }\n\
         text = { type = \"string\", optional = true }\nmore = { type = \"json\", optional = true }\n",
    );
    let program = Program::start(data.path(), &["--config", &config]);
    let event = |n: usize| {
        format!(
            "{{\"at\":\"2024-09-10T09:12:{n:02}Z\",\"id\":\"D290F1EE-6C54-4B01-90E6-D701748F085{}\",\"n\":{},\"x\":{}.5,\
             \"ok\":{},\"kind\":\"{}\",\"text\":\"zw\u{f6}lf \\n {}\",\n \"more\":{{\"deep\":\n[1, 2]}},\"undeclared\":{n}}}",
            n % 3,
            n % 4,
            n % 2,
            n.is_multiple_of(2),
            ["a", "b"][n % 2],
            n % 5
        )
    };
    let events: Vec<_> = (0..30).map(event).collect();
    let body = format!("[{}]", events.join(",\n"));
    let answer = program.post("/v1/streams/mixed/events", "application/json", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let questions = [
        "",
        "n=2",
        "x=1.5",
        "ok=true",
        "kind=b",
        "id=d290f1ee-6c54-4b01-90e6-d701748f0851",
        "text=zw%C3%B6lf%20%0A%203",
        "start=2024-09-10T09:12:05Z&end=2024-09-10T09:12:20Z",
        "n=1&kind=b&start=2024-09-10T09:12:05Z",
    ];
    for question in questions {
        let page = program.get(&format!("/v1/streams/mixed/events?{question}"));
        assert_eq!(page.status, 200, "{}", page.text());
        let mut expected = page.json()["events"].as_array().expect("events").clone();
        assert!(!expected.is_empty(), "{question}");
        for event in &mut expected {
            event.as_object_mut().expect("an event").shift_remove("_index");
        }
        let path = format!("/v1/streams/mixed/tail?from=start&{question}");
        let (mut stream, _) = EventStream::of(program.address, &path);
        let found: Vec<_> = expected
            .iter()
            .map(|_| stream.next_event().expect("an event").json())
            .collect();
        assert_eq!(found, expected, "{question}");
    }
}

#[test]
fn what_cannot_be_watched_is_refused_and_says_why() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 3)).status, 200);
    let tail = "/v1/streams/running/tail";
    for (question, status) in [
        ("from=yesterday", 400),
        ("from=0:2", 400),
        ("from=0:1:0", 400),
        ("from=1:0", 400),
        ("from=0:0:0:0", 400),
        ("from=0:0,0:0", 400),
        ("from=0:18446744073709551616", 400),
        ("duration=fast", 400),
        ("nothing=1", 400),
        ("from=start&from=end", 400),
        ("start=yesterday", 400),
        ("ids=perhaps", 400),
    ] {
        let answer = program.get(&format!("{tail}?{question}"));
        assert_eq!(answer.status, status, "{question}: {}", answer.text());
        assert!(
            answer.json()["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains('`')),
            "{}",
            answer.text()
        );
    }
    let wrong = request(program.address, "GET", tail, &[("last-event-id", "7")], b"").expect("an answer");
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert!(wrong.text().contains("Last-Event-ID"), "{}", wrong.text());
    assert_eq!(program.get("/v1/streams/nothing/tail").status, 404);
    assert_eq!(program.post(tail, "text/plain", b"").status, 405);
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    let answer = request(program.address, "GET", tail, &upgrade, b"").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    // The end is a position as well.
    let (_stream, at) = EventStream::of(program.address, &format!("{tail}?from=0:1"));
    assert_eq!(at, "0:1");
}

#[test]
fn one_client_too_many_gets_503_until_another_one_goes() {
    let data = directory();
    let config = config(data.path(), "[live]\nclients = 2\n");
    let program = Program::start(data.path(), &["--config", &config]);
    let tail = "/v1/streams/running/tail";
    let first = EventStream::of(program.address, tail);
    let _second = EventStream::of(program.address, tail);
    let refused = program.get(tail);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    assert!(program.metric("tidemill_live_refused_total") >= 1.0);
    drop(first);
    // The server notices that a client is gone when it reads from the connection, or writes to it.
    until("there is a place", || {
        EventStream::open(program.address, tail, &[])
            .expect("an answer")
            .is_ok()
    });
}

#[test]
fn an_ordered_shutdown_ends_every_stream_and_says_when_to_come_back() {
    let data = directory();
    let mut program = Program::start(data.path(), &[]);
    let (mut stream, _) = EventStream::of(program.address, "/v1/streams/running/tail");
    let mut socket = websocket::Socket::open(program.address, "/v1/streams/running/tail").expect("a socket");
    let begun = std::time::Instant::now();
    program.signal("TERM");
    let last = stream.next().expect("last words");
    assert!(last.retry.is_some(), "{last:?}");
    assert_eq!(stream.next(), None);
    assert_eq!(socket.close_code(), Some(1001));
    assert!(program.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn events_come_after_the_lake_has_them_where_that_is_asked_for() {
    let data = directory();
    let config = config(
        data.path(),
        "[live]\nafter = \"lake\"\n[lake.roll]\nevery = \"300ms\"\n",
    );
    let program = Program::start(data.path(), &["--config", &config]);
    let (mut stream, at) = EventStream::of(program.address, "/v1/streams/running/tail");
    assert_eq!(at, "0:0");
    for number in 0..3 {
        assert_eq!(program.ndjson("running", &running(number, 1)).status, 200);
        let event = stream.next_event().expect("an event");
        assert_eq!(event.json()["duration"], number);
        let described = program.get("/v1/streams/running").json();
        let stored = described["lake"]["positions"][0]["offset"]
            .as_u64()
            .expect("a position");
        assert!(stored > number, "event {number} came when the lake had {stored}");
    }
}

#[test]
fn what_nobody_can_wait_for_refuses_the_start() {
    let data = directory();
    let destination = "[destinations.db]\nkind = \"mysql\"\nurl = \"mysql://u@127.0.0.1/d\"\n";
    for (text, words) in [
        ("[live]\nafter = \"warehouse\"\n".to_owned(), "`warehouse`"),
        (
            format!("roles = [\"analytics\"]\n{destination}[live]\nafter = \"db\"\n"),
            "set `live.bus`",
        ),
        (
            format!("{destination}[live]\nbus = \"db\"\n"),
            "of the kind `redis`",
        ),
        ("[live]\nbus = \"rediss://h\"\n".to_owned(), "without TLS"),
        (
            "[routes.\"WS /x\"]\nstream = \"running\"\nafter = \"db\"\n".to_owned(),
            "`db`",
        ),
        (
            "[routes.\"WS /x\"]\nstream = \"running\"\nshape = \"$nothing\"\n".to_owned(),
            "`nothing`",
        ),
    ] {
        let file = config(data.path(), &text);
        let output = tidemill(&["check", "--config", &file])
            .current_dir(data.path())
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{text}: {said}");
    }
    let file = config(data.path(), "[live]\nbus = \"redis://:secret@127.0.0.1\"\n");
    let output = tidemill(&["check", "--config", &file])
        .current_dir(data.path())
        .output()
        .expect("runs");
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
}

#[test]
fn a_client_that_says_nothing_more_after_its_question_is_not_idle() {
    // Shorter than anything that the client waits for below.
    let data = directory();
    let config = config(
        data.path(),
        "[ingest]\nidle_timeout = \"1s\"\nhead_timeout = \"500ms\"\n",
    );
    let program = Program::start(data.path(), &["--config", &config]);
    let (mut stream, _) = EventStream::of(program.address, "/v1/streams/running/tail");
    let mut socket = websocket::Socket::open(program.address, "/v1/streams/running/tail").expect("a socket");
    // A connection without a question ends by itself: so long the others stay.
    let mut idle = TcpStream::connect(program.address).expect("connect");
    idle.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("a question");
    let mut all = Vec::new();
    idle.read_to_end(&mut all).expect("its end");
    assert_eq!(program.ndjson("running", &running(0, 1)).status, 200);
    assert_eq!(stream.next_event().expect("an event").json()["duration"], 0);
    assert_eq!(socket.next_json().expect("an event")["event"]["duration"], 0);
}
