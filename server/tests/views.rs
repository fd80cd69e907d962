//! Routes of the user's own over HTTP: methods, tokens, large answers, processes without a role.

mod harness;

use std::path::Path;

use harness::{Answer, Program, request, running, tidemill};
use serde_json::json;

const CONFIG: &str = r#"
[streams.running]
routes = ["/stats/running"]
time = "timestamp"
[streams.running.fields]
user_id = "uuid"
duration = "int"
distance = "int"
timestamp = "timestamp"

[streams.other.fields]
a = "int"

[routes."GET /stats/running"]
answer = "events"
stream = "running"
body = { data = "$events" }
parameters = { from = "start", to = "end", limit = "limit" }
limit_max = 50000

[routes."GET /newest"]
answer = "events"
stream = "running"
order = "-_received_at"
limit = 5
columns = ["duration"]

[routes."GET /running/{index}"]
answer = "event"
stream = "running"

[routes."GET /running/latest"]
answer = "fixed"
body = { no = "such thing" }

[routes."GET /both"]
answer = "counts"
streams = ["running", "other"]

[routes."GET /health"]
answer = "fixed"
ready = true
body = { status = "ok" }

[routes."GET /teapot"]
answer = "fixed"
status = 418
"#;

fn start(folder: &Path, more: &str) -> Program {
    let file = folder.join("tidemill.toml");
    std::fs::write(&file, format!("{more}\n{CONFIG}")).expect("written");
    Program::start(folder, &["--config", file.to_str().expect("UTF-8")])
}

fn call(program: &Program, method: &str, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    request(
        program.address,
        method,
        path,
        &headers[..usize::from(!token.is_empty())],
        b"",
    )
    .expect("an answer")
}

#[test]
fn a_route_answers_its_method_and_a_large_range_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = start(folder.path(), "");
    for batch in 0..4 {
        assert_eq!(
            program.ndjson("running", &running(batch * 10_000, 10_000)).status,
            200
        );
    }
    let all = program.get("/stats/running");
    assert_eq!(all.status, 200);
    assert!(
        all.head.contains("content-type: application/json"),
        "{}",
        all.head
    );
    let data = all.json()["data"].as_array().expect("events").clone();
    assert_eq!(data.len(), 40_000);
    for (number, event) in data.iter().enumerate() {
        assert_eq!(
            (&event["_index"], &event["duration"]),
            (&json!(number), &json!(number))
        );
    }
    assert_eq!(
        program.get("/stats/running?limit=3").json()["data"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let too_many = program.get("/stats/running?limit=50001");
    assert_eq!(too_many.status, 400, "{}", too_many.text());
    assert_eq!(program.ndjson("running", &running(40_000, 20_000)).status, 200);
    let too_many = program.get("/stats/running");
    assert_eq!(too_many.status, 400);
    assert!(too_many.text().contains("shorter range"), "{}", too_many.text());
    let newest: Vec<_> = (59_995..60_000)
        .rev()
        .map(|number| json!({"duration": number}))
        .collect();
    assert_eq!(program.get("/newest").json(), json!(newest));

    assert_eq!(program.get("/running/7").json()["duration"], 7);
    assert_eq!(program.get("/running/x").status, 400);
    assert_eq!(program.get("/running/60000").status, 404);
    assert_eq!(program.get("/running/latest").json(), json!({"no": "such thing"}));
    assert_eq!(
        program.get("/both").json(),
        json!({"running": 60_000, "other": 0})
    );
    assert_eq!(program.get("/health").json(), json!({"status": "ok"}));
    let teapot = program.get("/teapot");
    assert_eq!((teapot.status, teapot.body.len()), (418, 0));

    let head = call(&program, "HEAD", "/running/7", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let refused = call(&program, "DELETE", "/running/7", "");
    assert_eq!(refused.status, 405);
    assert!(refused.head.contains("allow: get, head"), "{}", refused.head);
    // The same path takes events by POST.
    let posted = program.post("/stats/running", "application/x-ndjson", running(1, 1).as_bytes());
    assert_eq!(posted.status, 200, "{}", posted.text());
    let paths = program.get("/openapi.json").json()["paths"].clone();
    assert!(paths["/stats/running"]["get"].is_object() && paths["/stats/running"]["post"].is_object());
    assert_eq!(paths["/running/{index}"]["get"]["parameters"][0]["in"], "path");
    assert!(program.stop().success());
}

#[test]
fn a_view_needs_read_of_each_of_its_streams_and_a_fixed_answer_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens.toml");
    let tokens = tokens.to_str().expect("UTF-8");
    let new = |name: &str, arguments: &[&str]| {
        let mut command = tidemill(&["token", "new", name, "--file", tokens]);
        let output = command.args(arguments).output().expect("runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    let reader = new("reader", &["--scope", "read", "--streams", "running"]);
    let writer = new("writer", &["--scope", "write", "--streams", "running"]);
    let all = new("all", &["--scope", "read"]);
    let program = start(folder.path(), &format!("tokens_file = \"{tokens}\""));
    for (path, of_reader, of_all) in [
        ("/stats/running", 200, 200),
        ("/newest", 200, 200),
        ("/both", 403, 200),
        ("/running/0", 404, 404),
    ] {
        assert_eq!(call(&program, "GET", path, "").status, 401, "{path}");
        assert_eq!(call(&program, "GET", path, &writer).status, 403, "{path}");
        assert_eq!(call(&program, "GET", path, &reader).status, of_reader, "{path}");
        assert_eq!(call(&program, "GET", path, &all).status, of_all, "{path}");
    }
    // The same as of a path that leads nowhere.
    let (other, nowhere) = (
        call(&program, "GET", "/both", &reader),
        call(&program, "GET", "/nowhere", &reader),
    );
    assert_eq!(
        (other.status, &other.json()["detail"]),
        (nowhere.status, &nowhere.json()["detail"])
    );
    assert_eq!(call(&program, "GET", "/health", "").status, 200);
    let seen = call(&program, "GET", "/openapi.json", &reader).json()["paths"].clone();
    assert!(seen["/stats/running"]["get"].is_object() && seen["/both"].is_null());
}

#[test]
fn a_process_without_the_role_still_gives_fixed_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = start(folder.path(), "roles = [\"ingest\"]");
    assert_eq!(program.get("/health").status, 200);
    let view = program.get("/newest");
    assert_eq!(view.status, 404);
    assert!(view.text().contains("analytics"), "{}", view.text());
}

#[test]
fn what_contradicts_itself_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.toml");
    let text = "[routes.\"POST /stats/running\"]\nstream = \"running\"\n[routes.\"GET /livez\"]\nanswer = \"fixed\"\n\
                [routes.\"GET /x\"]\nanswer = \"events\"\nstream = \"${NO_SUCH_VARIABLE_9}\"\n";
    std::fs::write(&file, text).expect("written");
    let output = tidemill(&["check", "--config", file.to_str().expect("UTF-8")])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("routes.GET /x.stream: the variable `NO_SUCH_VARIABLE_9` is not set"),
        "{said}"
    );
    std::fs::write(&file, text.replace("${NO_SUCH_VARIABLE_9}", "runing")).expect("written");
    let output = tidemill(&["check", "--config", file.to_str().expect("UTF-8")])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "is taken already",
        "one of the program's own paths",
        "did you mean `running`?",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
