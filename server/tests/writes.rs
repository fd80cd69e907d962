//! Routes that take events in a form of their own, and pages of other origins, against the real binary.

mod harness;

use std::path::Path;

use harness::{Answer, Program, request, tidemill};
use serde_json::json;

const SHOP: &str = "https://shop.example";

const CONFIG: &str = r#"
[cors]
origins = ["https://shop.example", "http://localhost:3000"]
credentials = true

[streams.clicks]
time = "at"
key = "id"
routes = ["/clicks"]
cors = { origins = ["https://clicks.example"], headers = ["X-Own"], max_age = "1h" }

[streams.clicks.fields]
id = "uuid"
at = { type = "timestamp", unit = "ms" }
name = { type = "string", optional = true }
app = { type = "string", optional = true }

[routes."POST /track"]
stream = "clicks"
envelope = "events"
envelope_fields = { appName = "app" }
answer = { status = 200, body = { status = "ok" } }
invalid = { status = 400, body = { error = "Invalid payload" } }
cors = { origins = "*" }

[routes."POST /click"]
stream = "clicks"
from = "query"
answer = { status = 202 }
invalid = { status = 422, body = { detail = "$message" } }
"#;

fn start(directory: &Path, more: &str) -> Program {
    let config = directory.join("own.toml");
    std::fs::write(&config, format!("{more}{CONFIG}")).expect("write the configuration");
    Program::start(directory, &["--config", config.to_str().expect("UTF-8")])
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn preflight(program: &Program, path: &str, origin: &str, method: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "content-type"),
    ];
    request(program.address, "OPTIONS", path, &headers, b"").expect("an answer")
}

fn from(program: &Program, method: &str, path: &str, origin: &str, body: &str) -> Answer {
    let headers = [("origin", origin), ("content-type", "text/plain;charset=UTF-8")];
    request(program.address, method, path, &headers, body.as_bytes()).expect("an answer")
}

const ID: &str = "d290f1ee-6c54-4b01-90e6-d701748f0851";

#[test]
fn events_in_an_envelope_and_in_the_query_string_are_the_streams_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(directory.path(), "");
    let events = format!(
        "{{\"events\":[{{\"id\":\"{ID}\",\"at\":1725959553001,\"name\":\"a\"}},{{\"id\":5}}],\"appName\":\"shop\"}}"
    );
    let answer = program.post("/track", "application/json", events.as_bytes());
    assert_eq!(
        (answer.status, answer.text()),
        (200, "{\"status\":\"ok\"}".to_owned())
    );
    assert_eq!(header(&answer, "events-rejected"), Some("1"));
    let answer = program.post("/track", "application/json", b"{\"appName\":\"shop\"}");
    assert_eq!(
        (answer.status, answer.text()),
        (400, "{\"error\":\"Invalid payload\"}".to_owned())
    );
    let answer = program.post(&format!("/click?id={ID}&at=1725959553002&name=b+c"), "x/y", b"");
    assert_eq!((answer.status, answer.text()), (202, String::new()));
    let answer = program.post("/click?at=1", "x/y", b"");
    assert_eq!(
        (answer.status, &answer.json()["detail"]),
        (422, &json!("`id`: the field is required"))
    );
    // The short form of a route takes events as they are.
    let line = format!("{{\"id\":\"{ID}\",\"at\":1725959553003}}");
    assert_eq!(
        program
            .post("/clicks", "application/json", line.as_bytes())
            .status,
        200
    );
    assert_eq!(
        program.rows("SELECT name, app FROM clicks ORDER BY at"),
        [json!(["a", "shop"]), json!(["b c", null]), json!([null, null])]
    );
    let rejects = program.rows("SELECT line, code, field, raw FROM _rejects ORDER BY _received_at");
    assert_eq!(rejects[0], json!([2, "type_mismatch", "id", "{\"id\":5}"]));
    assert_eq!(rejects[1], json!([1, "missing_field", "id", "{\"at\":1}"]));
}

#[test]
fn the_document_of_the_api_has_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(directory.path(), "");
    let paths = program.get("/openapi.json").json()["paths"].clone();
    let track = &paths["/track"]["post"];
    let body = &track["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["events"]));
    assert!(body["properties"]["appName"].is_object(), "{track}");
    assert!(track["responses"]["200"].is_object() && track["responses"]["400"].is_object());
    let click = &paths["/click"]["post"];
    assert!(click["requestBody"].is_null(), "{click}");
    assert_eq!(click["parameters"][0]["name"], "id");
    assert_eq!(click["parameters"][0]["required"], true);
    assert!(paths["/clicks"]["post"].is_object());
}

#[test]
fn a_preflight_is_answered_by_the_closest_policy() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(directory.path(), "");
    let answer = preflight(&program, "/v1/sql", SHOP, "POST");
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
    for (name, value) in [
        ("access-control-allow-origin", SHOP),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "post"),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ] {
        assert_eq!(header(&answer, name), Some(value), "{name}");
    }
    let allowed = header(&answer, "access-control-allow-headers").expect("headers");
    assert!(
        allowed.contains("content-type") && allowed.contains("authorization"),
        "{allowed}"
    );
    // The stream's: of its own path and of the one that every stream has.
    for (path, method) in [
        ("/clicks", "POST"),
        ("/click", "POST"),
        ("/v1/streams/clicks/events", "POST"),
        ("/v1/streams/clicks/stats", "GET"),
    ] {
        let answer = preflight(&program, path, "https://clicks.example", method);
        assert_eq!(answer.status, 204, "{path}: {answer:?}");
        assert_eq!(
            header(&answer, "access-control-allow-headers"),
            Some("x-own"),
            "{path}"
        );
        assert_eq!(header(&answer, "access-control-max-age"), Some("3600"), "{path}");
        assert_eq!(
            header(&answer, "access-control-allow-credentials"),
            None,
            "{path}"
        );
        assert_eq!(preflight(&program, path, SHOP, method).status, 403, "{path}");
    }
    // The route's, for its method only.
    let answer = preflight(&program, "/track", "https://anybody.example", "POST");
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
    assert_eq!(
        preflight(&program, "/track", "https://anybody.example", "GET").status,
        403
    );
    // What no policy lets in, and what is no preflight.
    let stranger = preflight(&program, "/v1/sql", "https://shop.example.evil.example", "POST");
    assert_eq!(
        (stranger.status, header(&stranger, "access-control-allow-origin")),
        (403, None)
    );
    assert_eq!(header(&stranger, "vary"), Some("origin"));
    let plain = request(program.address, "OPTIONS", "/v1/sql", &[], b"").expect("an answer");
    assert!(plain.status >= 400 && header(&plain, "access-control-allow-methods").is_none());
}

#[test]
fn a_page_may_read_every_answer_of_a_route_that_it_may_talk_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(directory.path(), "");
    for (method, path, status) in [
        ("GET", "/v1/stats", 200),
        ("GET", "/livez", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/streams/_rejects/events?limit=x", 400),
    ] {
        let answer = from(&program, method, path, SHOP, "");
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            Some(SHOP),
            "{path}"
        );
        let exposed = header(&answer, "access-control-expose-headers").expect("headers");
        assert!(
            exposed.contains("events-rejected") && exposed.contains("x-request-id"),
            "{exposed}"
        );
        let stranger = from(&program, method, path, "https://other.example", "");
        assert_eq!(stranger.status, status, "{path}");
        assert_eq!(header(&stranger, "access-control-allow-origin"), None, "{path}");
        assert_eq!(header(&stranger, "vary"), Some("origin"), "{path}");
        assert_eq!(header(&program.get(path), "vary"), Some("origin"), "{path}");
    }
    // A beacon is sent as text, with credentials, from any page.
    let beacon = from(
        &program,
        "POST",
        "/track",
        "https://anybody.example",
        &format!("{{\"events\":[{{\"id\":\"{ID}\",\"at\":1}}]}}"),
    );
    assert_eq!(
        (beacon.status, header(&beacon, "access-control-allow-origin")),
        (200, Some("*"))
    );
    let invalid = from(&program, "POST", "/track", "https://anybody.example", "{}");
    assert_eq!(
        (invalid.status, header(&invalid, "access-control-allow-origin")),
        (400, Some("*"))
    );
    let large = request(
        program.address,
        "POST",
        "/track",
        &[
            ("origin", SHOP),
            ("content-type", "application/json"),
            ("content-encoding", "lzma"),
        ],
        b"{}",
    );
    let large = large.expect("an answer");
    assert_eq!(
        (large.status, header(&large, "access-control-allow-origin")),
        (415, Some("*"))
    );
}

#[test]
fn a_preflight_needs_no_token_and_a_refusal_can_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = tidemill(&["token", "new", "page", "--scope", "write", "--streams", "clicks"])
        .args(["--file", "tokens.toml"])
        .current_dir(directory.path())
        .output()
        .expect("run");
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).expect("text").trim().to_owned();
    let tokens = directory.path().join("tokens.toml");
    let program = start(directory.path(), &format!("tokens_file = {tokens:?}\n"));
    assert_eq!(preflight(&program, "/v1/sql", SHOP, "POST").status, 204);
    assert_eq!(preflight(&program, "/track", SHOP, "POST").status, 204);
    let body = format!("{{\"events\":[{{\"id\":\"{ID}\",\"at\":1}}]}}");
    let refused = from(&program, "POST", "/track", SHOP, &body);
    assert_eq!(
        (refused.status, header(&refused, "access-control-allow-origin")),
        (401, Some("*"))
    );
    let bearer = format!("Bearer {token}");
    for (path, origin, status) in [
        ("/track".to_owned(), SHOP, 200),
        (format!("/click?id={ID}&at=1"), "https://clicks.example", 202),
        ("/v1/sql".to_owned(), SHOP, 403),
    ] {
        let headers = [
            ("origin", origin),
            ("authorization", bearer.as_str()),
            ("content-type", "text/plain"),
        ];
        let answer = request(program.address, "POST", &path, &headers, body.as_bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(header(&answer, "access-control-allow-origin").is_some(), "{path}");
    }
}

#[test]
fn what_contradicts_itself_refuses_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        let path = directory.path().join("wrong.toml");
        std::fs::write(&path, text).expect("write");
        let output = tidemill(&["check", "--config", path.to_str().expect("UTF-8")])
            .current_dir(directory.path())
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    assert!(check(CONFIG).0, "{}", check(CONFIG).1);
    let stream = "[streams.s.fields]\nn = \"int\"\ntext = { type = \"string\", optional = true }\n";
    for (wrong, named) in [
        (
            "[cors]\norigins = [\"*\"]\ncredentials = true",
            "cors.credentials",
        ),
        ("[cors]\norigin = [\"*\"]", "cors.origin"),
        ("[cors]\norigins = [\"https://a.example/x\"]", "cors.origins"),
        (
            "[streams.s]\ncors = { origins = [\"*\"], credentials = true }",
            "streams.s.cors.credentials",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\ncors = { credentials = true }",
            "cors.origins",
        ),
        ("[routes.\"POST /x\"]\nstream = \"nobody\"", "nobody"),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelop = \"events\"",
            "envelop",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope = \"\"",
            "envelope",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope = \"e\"\nfrom = \"query\"",
            "envelope",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope_fields = { a = \"text\" }",
            "envelope_fields",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope = \"e\"\nenvelope_fields = { a = \"nothing\" }",
            "nothing",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope = \"e\"\nenvelope_fields = { e = \"text\" }",
            "envelope_fields.e",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nenvelope = \"e\"\nenvelope_fields = { a = \"text\", b = \"text\" }",
            "envelope_fields.b",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nfrom = \"cookie\"",
            "cookie",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nanswer = { status = 404 }",
            "answer.status",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\ninvalid = { status = 200 }",
            "invalid.status",
        ),
        (
            "[routes.\"POST /x\"]\nstream = \"s\"\nanswer = { body = \"$message\" }",
            "answer.body",
        ),
        ("[routes.\"POST /x/{y}\"]\nstream = \"s\"", "{y}"),
    ] {
        let (accepted, said) = check(&format!("{wrong}\n{stream}"));
        assert!(!accepted && said.contains(named), "{wrong}: {said}");
    }
}
