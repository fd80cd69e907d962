//! The server as a whole: what was acknowledged is there, whatever ends the process; and it ends as it should.

mod harness;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::{PATIENCE, Program, read_answer, request, running, tidemill, until};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn what_is_posted_is_answered_by_sql_and_rest_and_the_rest_is_rejected() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let answer = program.ndjson(
        "running",
        &format!("{}{{\"duration\":\"fast\"}}\n", running(0, 3)),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (body["accepted"].as_u64(), body["rejected"].as_u64()),
        (Some(3), Some(1))
    );
    assert_eq!(program.number("select count(*) from running"), 3);
    assert_eq!(program.number("select max(duration) from running"), 2);
    assert_eq!(program.number("select count(*) from _rejects"), 1);
    let event = program.get("/v1/streams/running/events/1");
    assert_eq!(event.status, 200, "{}", event.text());
    assert!(event.text().contains("000000000001"), "{}", event.text());
    assert_eq!(program.get("/v1/streams/running/events/3").status, 404);
}

#[test]
fn the_routes_of_the_process_answer() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.get("/livez").status, 200);
    let ready = program.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text());
    // A consumer is shown once it runs, which may be a moment after the server answers.
    until("every stream has its consumer", || {
        program.get("/readyz").json()["sink"].as_array().map(Vec::len) == Some(6)
    });
    assert_eq!(program.get("/version").json()["name"], "tidemill");
    let document = program.get("/openapi.json").json();
    assert!(document["paths"]["/stats/running"]["post"].is_object());
    assert!(document["paths"]["/v1/streams/running/events"]["get"].is_object());
    for (page, parts) in [
        (
            "/docs",
            &[
                "/docs/swagger-ui-bundle.js",
                "/docs/swagger-ui.css",
                "/docs/docs.js",
            ][..],
        ),
        ("/redoc", &["/docs/redoc.standalone.js", "/docs/docs.js"]),
    ] {
        let text = program.get(page).text();
        for part in parts {
            assert!(text.contains(part), "{page}: {text}");
            let answer = program.get(part);
            assert!(answer.status == 200 && !answer.body.is_empty(), "{part}");
        }
        // Nothing of the page is elsewhere.
        assert!(!text.contains("http"), "{page}: {text}");
    }
    assert_eq!(program.get("/docs/else.js").status, 404);
    assert_eq!(program.post("/livez", "text/plain", b"").status, 405);
    assert_eq!(program.get("/nothing/here").status, 404);
    program.ndjson("running", &running(0, 1));
    assert!(program.metric("tidemill_journal_append_seconds_count") >= 1.0);
}

#[test]
fn what_was_acknowledged_is_there_once_after_a_kill() {
    let data = directory();
    let mut acknowledged = 0;
    for round in 0..3 {
        let program = Program::start(data.path(), &["--config", &short_rolls(data.path())]);
        for _ in 0..20 {
            let answer = program.ndjson("running", &running(acknowledged, 50));
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            acknowledged += 50;
        }
        program.kill();
    }
    let program = Program::start(data.path(), &[]);
    let rows =
        program.rows("select count(*), count(distinct user_id), min(duration), max(duration) from running");
    let last = i64::try_from(acknowledged).expect("small") - 1;
    assert_eq!(rows[0], serde_json::json!([last + 1, last + 1, 0, last]));
}

#[test]
fn an_ordered_shutdown_commits_everything_and_ends_with_success() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 1_000)).status, 200);
    let begun = Instant::now();
    assert!(program.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(30));
    let files = std::fs::read_dir(data.path().join("lake/running")).expect("the table");
    let parquet = files.filter(|file| {
        let file = file.as_ref().expect("an entry");
        file.path()
            .extension()
            .is_some_and(|extension| extension == "parquet")
    });
    assert_eq!(parquet.count(), 1);
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let data = directory();
    let mut program = Program::start(data.path(), &[]);
    let body = running(0, 100);
    let (first, second) = body.as_bytes().split_at(body.len() / 2);
    let mut stream = TcpStream::connect(program.address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "POST /v1/streams/running/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("head");
    // "100 Continue" says that the request is being handled.
    let mut continued = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut continued).expect("continue");
    assert!(
        continued.starts_with(b"HTTP/1.1 100"),
        "{:?}",
        String::from_utf8_lossy(&continued)
    );
    stream.write_all(first).expect("half");
    program.signal("TERM");
    until("no new connection is accepted", || {
        TcpStream::connect(program.address).is_err()
    });
    stream.write_all(second).expect("the other half");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(program.wait().success());

    let program = Program::start(data.path(), &[]);
    assert_eq!(program.number("select count(*) from running"), 100);
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let data = directory();
    let mut program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 10)).status, 200);
    // A request that never ends holds the ordered shutdown back.
    let mut stream = TcpStream::connect(program.address).expect("connect");
    let head = "POST /v1/streams/running/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("head");
    let mut continued = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut continued).expect("continue");
    program.signal("TERM");
    until("no new connection is accepted", || {
        TcpStream::connect(program.address).is_err()
    });
    let begun = Instant::now();
    program.signal("INT");
    assert_eq!(program.wait().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let program = Program::start(data.path(), &[]);
    assert_eq!(program.number("select count(*) from running"), 10);
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let data = directory();
    let _program = Program::start(data.path(), &[]);
    let directory = data.path().to_str().expect("UTF-8");
    let other = tidemill(&["serve", "--listen", "127.0.0.1:0", "--data-dir", directory])
        .current_dir(data.path())
        .output()
        .expect("run");
    assert!(!other.status.success());
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("another process"),
        "{other:?}"
    );
}

#[test]
fn all_problems_of_a_configuration_are_reported_at_once() {
    let data = directory();
    let file = data.path().join("bad.toml");
    std::fs::write(
        &file,
        "listn = \"x\"\n[lake.roll]\nsize = \"12\"\n[streams.Bad]\n",
    )
    .expect("write");
    for command in ["serve", "check"] {
        let output = tidemill(&[command, "--config", file.to_str().expect("UTF-8")])
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in ["listn", "did you mean `listen`?", "lake.roll.size", "Bad"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}

#[test]
fn a_stream_may_gain_an_optional_field_and_nothing_else() {
    let data = directory();
    let file = data.path().join("streams.toml.in");
    let config = file.to_str().expect("UTF-8").to_owned();
    let declare =
        |fields: &str| std::fs::write(&file, format!("[streams.a.fields]\n{fields}")).expect("write");
    declare("n = \"int\"\n");
    let program = Program::start(data.path(), &["--config", &config]);
    assert_eq!(program.ndjson("a", "{\"n\":1}\n").status, 200);
    assert!(program.stop().success());

    declare("n = \"int\"\ns = { type = \"string\", optional = true }\n");
    let program = Program::start(data.path(), &["--config", &config]);
    assert_eq!(program.ndjson("a", "{\"n\":2,\"s\":\"x\"}\n").status, 200);
    assert_eq!(program.number("select count(*) from a where s is null"), 1);
    assert!(program.stop().success());

    declare("n = \"string\"\n");
    let directory = data.path().to_str().expect("UTF-8");
    let refused = tidemill(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        directory,
        "--config",
        &config,
    ])
    .output()
    .expect("run");
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("`n`"),
        "{refused:?}"
    );
}

/// Rows are counted without a pause while files roll, are compacted and more rows arrive: the count only grows,
/// never misses what was acknowledged before the question, and never exceeds what was sent.
#[test]
fn the_count_is_right_at_every_moment_while_files_roll_and_are_compacted() {
    let data = directory();
    let program = Program::start(data.path(), &["--config", &short_rolls(data.path())]);
    let address = program.address;
    let sent = std::sync::atomic::AtomicU64::new(0);
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let time = Duration::from_secs(if soak { 120 } else { 6 });
    let mut slowest_ms = 0;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            // More different users than this do not fit into a worker's memory, when they are counted in the end.
            while begun.elapsed() < time && next < 500_000 {
                sent.fetch_add(200, order);
                let headers = [("content-type", "application/x-ndjson")];
                let body = running(next, 200);
                let answer = request(
                    address,
                    "POST",
                    "/v1/streams/running/events",
                    &headers,
                    body.as_bytes(),
                );
                assert_eq!(answer.expect("an answer").status, 200);
                acknowledged.fetch_add(200, order);
                next += 200;
            }
        });
        let mut questions = 0;
        while begun.elapsed() < time {
            let at_least = i64::try_from(acknowledged.load(order)).expect("small");
            let asked = Instant::now();
            let counted = program.number("select count(*) from running");
            slowest_ms = slowest_ms.max(asked.elapsed().as_millis());
            let at_most = i64::try_from(sent.load(order)).expect("small");
            assert!(
                at_least <= counted && counted <= at_most,
                "{at_least} ≤ {counted} ≤ {at_most}"
            );
            questions += 1;
        }
        println!("{questions} counts, the slowest took {slowest_ms} ms");
        assert!(questions > 5);
    });
    let total = i64::try_from(acknowledged.load(order)).expect("small");
    let rows = program.rows("select count(*), count(distinct user_id) from running");
    assert_eq!(rows[0], serde_json::json!([total, total]));
    assert!(
        program.metric("tidemill_sink_commits_total") >= 2.0,
        "no file was rolled"
    );
    assert!(program.stop().success());
}

/// A configuration under which files roll and are compacted many times a second.
fn short_rolls(directory: &std::path::Path) -> String {
    let file = directory.join("short.toml");
    std::fs::write(
        &file,
        "[lake.roll]\nevery = \"100ms\"\n[lake.compact]\nevery = \"300ms\"\n",
    )
    .expect("write");
    file.to_str().expect("UTF-8").to_owned()
}
