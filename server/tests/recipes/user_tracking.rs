//! R3: what browsers report, as the tracker sends it and as the events API is asked for it.

use serde_json::{Value, json};

use crate::harness::{Answer, Program, request, until};
use crate::starter::{Embedded, database, embedded, file, own_name, postgres, server, walk_the_readme};

const PAGE: &str = "http://localhost:3000";

/// The id of an event.
fn id(number: u32) -> String {
    format!("d290f1ee-6c54-4b01-90e6-{number:012x}")
}

fn event(number: u32, event_type: &str) -> Value {
    json!({
        "timestamp": 1_725_959_553_000_u64 + u64::from(number), "event_id": id(number), "event_type": event_type,
        "location_type": "COMPONENT", "component_name": "SearchBox", "page_path": "/checkout",
        "page_title": "Checkout", "dom_info": {"tag": "input", "id": "q"},
        "user_metadata": {"userId": "u12", "screen": {"width": 1920}},
    })
}

/// A batch as a browser sends it: from a page of another origin.
fn track(program: &Program, body: &str) -> Answer {
    let headers = [("origin", PAGE), ("content-type", "application/json")];
    request(program.address, "POST", "/track", &headers, body.as_bytes()).expect("an answer")
}

fn batch(events: &[Value]) -> String {
    json!({"events": events, "appName": "shop", "appVersion": "1.4.0"}).to_string()
}

fn ids(program: &Program, query: &str) -> Vec<String> {
    let answer = program.get(&format!("/events{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let events = answer.json();
    let id = |event: &Value| event["event_id"].as_str().expect("an id").to_owned();
    events.as_array().expect("an array").iter().map(id).collect()
}

fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(id).collect()
}

/// Everything that the surface of R3 has, of a program that has nothing yet.
fn surface(program: &Program) {
    assert_eq!(program.get("/health").json(), json!({"status": "ok"}));
    assert_eq!(program.get("/events").json(), json!([]));
    let preflight = [
        ("origin", PAGE),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = request(program.address, "OPTIONS", "/track", &preflight, b"").expect("an answer");
    assert!(preflight.status < 300 && preflight.head.contains("access-control-allow-origin"));

    let kinds = ["CLICK", "HOVER_ENTER", "HOVER_LEAVE", "PAGE_VIEW", "SCROLL"];
    for number in 0..10_u32 {
        let mut one = event(number, kinds[number as usize % kinds.len()]);
        if number >= 5 {
            let other =
                json!({"location_type": "PAGE", "component_name": null, "page_path": "/", "extra": number});
            one.as_object_mut()
                .expect("an object")
                .extend(other.as_object().expect("an object").clone());
        }
        // Each batch is received after the one before.
        let answer = track(program, &batch(&[one]));
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
        assert!(
            answer.head.contains("access-control-allow-origin"),
            "{}",
            answer.head
        );
    }
    for wrong in [
        "{}",
        "{\"appName\":\"shop\"}",
        "[]",
        "nonsense",
        "{\"events\":{}}",
        "{\"events\":[{}]}",
    ] {
        let answer = track(program, wrong);
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(answer.json(), json!({"error": "Invalid payload"}), "{wrong}");
    }
    // One bad event spoils no other.
    let answer = track(program, &batch(&[event(10, "CLICK"), json!({"event_id": "x"})]));
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    assert!(answer.head.contains("events-rejected: 1"), "{}", answer.head);

    until("the last event is there", || {
        ids(program, "?limit=1") == numbered([10])
    });
    assert_eq!(ids(program, ""), numbered((0..=10).rev()));
    assert_eq!(ids(program, "?limit=3"), numbered([10, 9, 8]));
    assert_eq!(ids(program, "?event_type=HOVER"), numbered([7, 6, 2, 1]));
    assert_eq!(ids(program, "?event_type=HOVER_LEAVE&limit=1"), numbered([7]));
    assert_eq!(
        ids(program, "?location_type=PAGE&event_type=CLICK"),
        numbered([5])
    );
    assert_eq!(
        ids(program, "?component_name=SearchBox&limit=2"),
        numbered([10, 4])
    );
    assert_eq!(ids(program, "?page_path=/&limit=100"), numbered((5..10).rev()));
    assert_eq!(ids(program, "?page_path=/nowhere"), numbered([]));
    let latest = program.get("/events?limit=1").json();
    assert_eq!(
        latest[0]["user_metadata"],
        json!({"userId": "u12", "screen": {"width": 1920}})
    );
    assert_eq!(
        (&latest[0]["app_name"], &latest[0]["app_version"]),
        (&json!("shop"), &json!("1.4.0"))
    );
    assert!(latest[0]["received_at"].is_string(), "{latest}");
}

/// The same batch from eight browsers at once, twice each.
fn send_again(program: &Program, body: &str) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2 {
                    assert_eq!(track(program, body).status, 200);
                }
            });
        }
    });
}

#[test]
fn user_tracking_answers_browsers_without_other_servers() {
    let Embedded { program, folder } = embedded("user-tracking");
    surface(&program);
    send_again(&program, &batch(&[event(0, "CLICK"), event(3, "PAGE_VIEW")]));
    // What was accepted is there after a crash as well, and nothing twice.
    program.kill();
    let program = Program::start(
        folder.path(),
        &["--config", &file("user-tracking", "tidemill.toml")],
    );
    assert_eq!(ids(&program, "?limit=100"), numbered((0..=10).rev()));
    assert_eq!(program.number("SELECT count(*) FROM user_events"), 11);
    let rejected = program.rows("SELECT line, field FROM _rejects ORDER BY _received_at DESC LIMIT 1");
    assert_eq!(rejected, [json!([2, "event_id"])]);
    assert!(program.stop().success());
}

#[test]
fn user_tracking_keeps_events_in_kafka_and_postgresql() {
    let (Some(kafka), Some(url)) = (server("KAFKA_BROKERS"), server("POSTGRES_URL")) else {
        return;
    };
    let name = own_name();
    let database = database(&url, &name);
    let port = database.port().unwrap_or(5432).to_string();
    let prefix = format!("{name}.");
    let variables = [
        ("KAFKA_BROKERS", kafka.as_str()),
        ("KAFKA_TOPIC", &name),
        ("KAFKA_GROUP_ID", &name),
        ("TIDEMILL_JOURNAL_KAFKA_TOPIC_PREFIX", &prefix),
        ("POSTGRES_HOST", database.host_str().expect("a host")),
        ("POSTGRES_PORT", &port),
        ("POSTGRES_DB", &name),
        ("POSTGRES_USER", database.username()),
        ("POSTGRES_PASSWORD", database.password().unwrap_or("none")),
    ];
    // The table of the original, with a row from before the move.
    let old = id(1_000);
    postgres(
        database.as_str(),
        &format!(
            "CREATE TABLE user_events (event_id UUID PRIMARY KEY, event_type TEXT, location_type TEXT, \
             component_name TEXT, page_path TEXT, page_title TEXT, timestamp TIMESTAMPTZ, user_metadata JSONB, \
             full_event_data JSONB, received_at TIMESTAMPTZ DEFAULT now()); \
             INSERT INTO user_events (event_id, event_type) VALUES ('{old}', 'CLICK')"
        ),
    )
    .expect("a table");
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        file("user-tracking", "tidemill.toml"),
        file("user-tracking", "servers.toml"),
    ];
    let program = Program::start_with(
        folder.path(),
        &["--config", &files[0], "--config", &files[1]],
        &variables,
    );
    surface(&program);
    // Sent again, and once more the one that was there before: each id is in the table once.
    let again = batch(&[
        event(0, "CLICK"),
        event(3, "PAGE_VIEW"),
        event(1_000, "AGAIN"),
        event(11, "CLICK"),
    ]);
    send_again(&program, &again);
    let ask = |statement: &str| postgres(database.as_str(), statement).expect("an answer");
    let last = format!("SELECT count(*) FROM user_events WHERE event_id = '{}'", id(11));
    until("PostgreSQL has the last event", || ask(&last) == "1");
    assert_eq!(ask("SELECT count(*) FROM user_events"), "13");
    // 0 to 11, and the one that only the database had before.
    let stored = "SELECT count(*), count(DISTINCT event_id) FROM user_events";
    assert_eq!(program.rows(stored), [json!([13, 13])]);
    assert_eq!(
        ask(&format!(
            "SELECT event_type FROM user_events WHERE event_id = '{old}'"
        )),
        "CLICK"
    );
    let row = ask(&format!(
        "SELECT event_type, location_type, component_name, page_path, page_title, \
         timestamp = '2024-09-10T09:12:33Z', user_metadata->>'userId', full_event_data->'dom_info'->>'tag', \
         full_event_data->>'event_id', received_at > now() - interval '1 hour' \
         FROM user_events WHERE event_id = '{}'",
        id(0)
    ));
    let expected = format!(
        "CLICK\tCOMPONENT\tSearchBox\t/checkout\tCheckout\tt\tu12\tinput\t{}\tt",
        id(0)
    );
    assert_eq!(row, expected);
    assert_eq!(
        ask(&format!(
            "SELECT full_event_data->>'extra' FROM user_events WHERE event_id = '{}'",
            id(7)
        )),
        "7"
    );
    assert!(program.stop().success());
    postgres(&url, &format!("DROP DATABASE {name} WITH (FORCE)")).expect("dropped");
}

#[test]
fn the_readme_of_user_tracking_works_as_written() {
    walk_the_readme("user-tracking", 8000);
}
