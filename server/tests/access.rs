//! Who may do what, asked of the real program: every token at every route about every stream, and what changes while
//! the server runs.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{Answer, Program, request, running, tidemill, until};

/// A directory with a file of tokens, and the tokens' texts by name.
struct Given {
    directory: tempfile::TempDir,
    tokens: Vec<(&'static str, String)>,
}

impl Given {
    /// Makes tokens with the program's own command.
    fn new(wanted: &[(&'static str, &[&str])]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let given = directory.path().join("tokens.toml");
        let tokens = wanted
            .iter()
            .map(|(name, flags)| (*name, make(&given, name, flags)));
        let tokens = tokens.collect();
        Self { directory, tokens }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("tokens.toml")
    }

    fn token(&self, name: &str) -> &str {
        let found = self.tokens.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("no token {name}")).1
    }

    /// A server with these tokens.
    fn start(&self) -> Program {
        let config = self.directory.path().join("access.toml");
        std::fs::write(&config, format!("tokens_file = \"{}\"\n", self.file().display())).expect("written");
        Program::start(
            self.directory.path(),
            &["--config", config.to_str().expect("UTF-8")],
        )
    }
}

/// A new token, whose entry is appended to the file.
fn make(file: &Path, name: &str, flags: &[&str]) -> String {
    let mut arguments = vec!["token", "new", name, "--file", file.to_str().expect("UTF-8")];
    arguments.extend(flags);
    let output = tidemill(&arguments).output().expect("the binary");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.trim_end().to_owned()
}

fn ask(program: &Program, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        ("content-type", "application/x-ndjson"),
        ("accept", "application/json"),
    ];
    if path.starts_with("/v1/sql") {
        headers[0].1 = "text/plain";
    }
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    request(program.address, method, path, &headers, body.as_bytes()).expect("an answer")
}

/// The streams that most of these tests are about: two that anybody may have heard of, and one whose name must not
/// come out.
const STREAMS: &str = "[streams.open.fields]\nn = \"int\"\n\
    [streams.secret_one]\nroutes = [\"/secret/route\"]\n[streams.secret_one.fields]\nn = \"int\"\n\
    [streams.other]\nroutes = [\"/other/route\"]\n[streams.other.fields]\nn = \"int\"\n";

/// A server with three streams of one event each.
fn three_streams(given: &Given) -> Program {
    let config = given.directory.path().join("access.toml");
    let text = format!("tokens_file = \"{}\"\n{STREAMS}", given.file().display());
    std::fs::write(&config, text).expect("written");
    let program = Program::start(
        given.directory.path(),
        &["--config", config.to_str().expect("UTF-8")],
    );
    for stream in ["open", "secret_one", "other"] {
        let path = format!("/v1/streams/{stream}/events");
        let answer = ask(
            &program,
            Some(given.token("all")),
            "POST",
            &path,
            "{\"n\":1}\n{\"n\":\"x\"}\n",
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    program
}

/// The tokens of the walk, in the order of the columns of its table.
const WALKERS: [(&str, &[&str]); 7] = [
    ("all", &["--scope", "write,read,admin"]),
    ("write", &["--scope", "write"]),
    ("read", &["--scope", "read"]),
    ("admin", &["--scope", "admin"]),
    ("write-open", &["--scope", "write", "--streams", "open"]),
    ("read-open", &["--scope", "read", "--streams", "open"]),
    ("admin-open", &["--scope", "admin", "--streams", "open"]),
];

/// Method, path, body, and the statuses for no token, an unknown one, and each of [`WALKERS`].
const WALK: &[(&str, &str, &str, [u16; 9])] = &[
    ("GET", "/livez", "", [200, 200, 200, 200, 200, 200, 200, 200, 200]),
    (
        "GET",
        "/readyz",
        "",
        [200, 200, 200, 200, 200, 200, 200, 200, 200],
    ),
    (
        "GET",
        "/version",
        "",
        [401, 401, 200, 200, 200, 200, 200, 200, 200],
    ),
    (
        "GET",
        "/openapi.json",
        "",
        [401, 401, 200, 200, 200, 200, 200, 200, 200],
    ),
    ("GET", "/docs", "", [401, 401, 200, 200, 200, 200, 200, 200, 200]),
    ("POST", "/docs", "", [401, 401, 405, 405, 405, 405, 405, 405, 405]),
    (
        "GET",
        "/metrics",
        "",
        [401, 401, 200, 403, 403, 200, 403, 403, 200],
    ),
    (
        "GET",
        "/v1/streams",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/sql?q=SELECT%201",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "POST",
        "/v1/sql",
        "SELECT 1",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "DELETE",
        "/v1/sql",
        "",
        [401, 401, 405, 403, 405, 403, 403, 405, 403],
    ),
    // The stream that some may use.
    (
        "GET",
        "/v1/streams/open",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/op%65n",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "HEAD",
        "/v1/streams/open/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events/0",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events/99",
        "",
        [401, 401, 404, 403, 404, 403, 403, 404, 403],
    ),
    (
        "GET",
        "/v1/streams/open/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/nothing",
        "",
        [401, 401, 404, 403, 404, 403, 403, 404, 403],
    ),
    (
        "POST",
        "/v1/streams/open/events",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 200, 403, 403],
    ),
    (
        "PUT",
        "/v1/streams/open/events",
        "{\"n\":2}",
        [401, 401, 405, 405, 403, 403, 405, 403, 403],
    ),
    (
        "DELETE",
        "/v1/streams/open",
        "",
        [401, 401, 405, 403, 405, 403, 403, 405, 403],
    ),
    // The stream that only those know of who may use all.
    (
        "GET",
        "/v1/streams/secret_one",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret%5fone",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/events/0",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/secret_one/events",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/secret/route",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/secret/route",
        "",
        [401, 401, 405, 405, 403, 403, 403, 403, 403],
    ),
    // What does not exist looks like what is hidden to all but those.
    (
        "GET",
        "/v1/streams/nobody",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/nobody/events",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/nobody/events",
        "{\"n\":2}",
        [401, 401, 404, 404, 403, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/nobody/route",
        "{\"n\":2}",
        [401, 401, 404, 404, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/nobody/route",
        "",
        [401, 401, 404, 404, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    ("GET", "/v1", "", [401, 401, 404, 404, 404, 403, 403, 403, 403]),
    (
        "GET",
        "/v1/streams/open%2Fevents",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    ("OPTIONS", "*", "", [401, 401, 404, 404, 404, 403, 403, 403, 403]),
    // What was rejected has lines of every stream.
    (
        "GET",
        "/v1/streams/_rejects/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/_rejects",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/_rejects/events",
        "{}",
        [401, 401, 405, 405, 403, 403, 403, 403, 403],
    ),
];

#[test]
fn every_token_at_every_route_about_every_stream() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let unknown = format!("tidemill_{}", "0".repeat(64));
    let mut tokens = vec![None, Some(unknown.as_str())];
    tokens.extend(WALKERS.iter().map(|(name, _)| Some(given.token(name))));
    let mut wrong = Vec::new();
    for (method, path, body, expected) in WALK {
        for (at, token) in tokens.iter().enumerate() {
            let answer = ask(&program, *token, method, path, body);
            if answer.status != expected[at] {
                wrong.push(format!(
                    "{method} {path}, token {at}: {} for {}",
                    answer.status, expected[at]
                ));
            }
            let challenge = answer
                .head
                .contains("\r\nwww-authenticate: bearer realm=\"tidemill\"");
            assert_eq!(
                challenge,
                [401, 403].contains(&answer.status),
                "{method} {path}: {}",
                answer.head
            );
            if challenge {
                assert!(
                    answer.head.contains("application/problem+json"),
                    "{}",
                    answer.head
                );
                let invalid = answer.head.contains("error=\"invalid_token\"");
                assert_eq!(invalid, at == 1, "{method} {path}, token {at}: {}", answer.head);
                let scope = answer.head.contains("error=\"insufficient_scope\"");
                assert_eq!(scope, answer.status == 403, "{}", answer.head);
            }
            // Whoever may use `open` only must see nothing of another stream, in whatever answer.
            let restricted = at >= 6;
            let whole = format!("{}{}", answer.head, answer.text());
            assert!(
                !(restricted && whole.contains("secret")),
                "{method} {path}, token {at}: {whole}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a token that may read `open` only gets for a statement about another stream is what a name that nobody has
/// gets.
#[test]
fn sql_knows_only_the_streams_that_a_token_may_read() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let some = Some(given.token("read-open"));
    let sql = |token, statement: &str| ask(&program, token, "POST", "/v1/sql", statement);
    for statement in [
        "SELECT count(*) FROM STREAM",
        "SELECT count(*) FROM \"STREAM\"",
        "SELECT count(*) FROM public.STREAM",
        "SELECT count(*) FROM tidemill.public.STREAM",
        "SELECT * FROM open JOIN STREAM ON open.n = STREAM.n",
        "SELECT * FROM open, STREAM",
        "SELECT (SELECT max(n) FROM STREAM) FROM open",
        "SELECT n FROM open WHERE n IN (SELECT n FROM STREAM)",
        "SELECT n FROM open WHERE EXISTS (SELECT 1 FROM STREAM)",
        "WITH a AS (SELECT * FROM STREAM) SELECT * FROM a",
        "SELECT n FROM open UNION ALL SELECT n FROM STREAM",
        "SELECT n FROM (SELECT n FROM (SELECT n FROM STREAM))",
        "DESCRIBE STREAM",
        "SHOW COLUMNS FROM STREAM",
        "EXPLAIN SELECT * FROM STREAM",
        "EXPLAIN ANALYZE SELECT * FROM STREAM",
        "SELECT _index, * FROM STREAM",
    ] {
        for (hidden, nobody) in [("secret_one", "nobodyness"), ("_rejects", "_nobodys")] {
            let found = sql(some, &statement.replace("STREAM", hidden));
            let absent = sql(some, &statement.replace("STREAM", nobody));
            assert_eq!(
                found.status,
                absent.status,
                "{statement}: {} {}",
                found.text(),
                absent.text()
            );
            assert!(found.status >= 400, "{statement}: {}", found.text());
            let said = found.text().replace(hidden, nobody);
            assert_eq!(said, absent.text(), "{statement}");
        }
        let all = sql(
            Some(given.token("read")),
            &statement.replace("STREAM", "secret_one"),
        );
        assert_eq!(all.status, 200, "{statement}: {}", all.text());
    }
    // Names of one's own may be anything, and show nothing either.
    for name in ["secret_one", "nobodyness"] {
        let statement = format!("WITH {name} AS (SELECT 1 AS a) SELECT *, '_index' AS b FROM {name}");
        let answer = sql(some, &statement);
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
    }
    for statement in [
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM open",
    ] {
        let answer = sql(some, statement);
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        let text = answer.text();
        assert!(
            !text.contains("secret") && !text.contains("_rejects"),
            "{statement}: {text}"
        );
    }
    let tables = sql(
        some,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
    );
    assert_eq!(tables.json()["rows"], serde_json::json!([["open"]]));
    let tables = sql(
        Some(given.token("read")),
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'",
    );
    assert_eq!(tables.json()["rows"], serde_json::json!([[4]]));
}

#[test]
fn lists_documents_and_metrics_are_about_the_streams_of_the_token() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let get = |name: &str, path: &str| ask(&program, Some(given.token(name)), "GET", path, "").text();
    for (name, path) in [
        ("read-open", "/v1/streams"),
        ("read-open", "/v1/stats"),
        ("read-open", "/openapi.json"),
        ("read-open", "/docs"),
        ("write-open", "/openapi.json"),
        ("write-open", "/docs"),
        ("admin-open", "/metrics"),
        ("admin-open", "/readyz"),
    ] {
        let text = get(name, path);
        assert!(text.contains("open"), "{name} {path}: {text}");
        for hidden in [
            "secret",
            "/other/route",
            "streams/other",
            "=\"other\"",
            ":\"other\"",
            "streams/_rejects",
            "=\"_rejects\"",
            ":\"_rejects\"",
        ] {
            assert!(!text.contains(hidden), "{name} {path} shows {hidden}: {text}");
        }
    }
    for (name, path) in [
        ("read", "/v1/streams"),
        ("read", "/v1/stats"),
        ("read", "/openapi.json"),
        ("write", "/docs"),
        ("admin", "/metrics"),
        ("admin", "/readyz"),
    ] {
        assert!(get(name, path).contains("secret_one"), "{name} {path}");
    }
    assert!(
        !get("write", "/docs").contains("_rejects"),
        "it may not read them"
    );
    // Whoever has no token learns whether it is ready, and no more.
    let ready = ask(&program, None, "GET", "/readyz", "").json();
    assert_eq!(ready, serde_json::json!({"ready": true, "draining": false}));
}

#[test]
fn a_token_counts_nowhere_but_in_its_header_and_only_one() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let token = given.token("all");
    let path = format!("/v1/streams?access_token={token}");
    assert_eq!(ask(&program, None, "GET", &path, "").status, 401);
    let with = |headers: &[(&str, &str)]| {
        request(program.address, "GET", "/v1/streams", headers, b"")
            .expect("an answer")
            .status
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(with(&[("authorization", &bearer)]), 200);
    assert_eq!(
        with(&[("authorization", &bearer.replace("Bearer", "bearer"))]),
        200
    );
    assert_eq!(
        with(&[("authorization", &bearer), ("authorization", &bearer)]),
        400
    );
    assert_eq!(with(&[("authorization", token)]), 401);
    assert_eq!(with(&[("authorization", &format!("Basic {token}"))]), 401);
    assert_eq!(with(&[("authorization", &bearer[..bearer.len() - 1])]), 401);
    assert_eq!(with(&[("cookie", &format!("token={token}"))]), 401);
    // A request cannot bring what the server says inside about what may be read.
    let some = format!("Bearer {}", given.token("read-open"));
    let headers = [
        ("authorization", some.as_str()),
        ("readable", "all"),
        ("x-readable", "secret_one"),
    ];
    let answer = request(program.address, "GET", "/v1/streams", &headers, b"").expect("an answer");
    assert!(!answer.text().contains("secret"), "{}", answer.text());
}

/// The head is refused before the body is sent, and nothing of the body is taken for another request.
#[test]
fn a_refusal_does_not_wait_for_the_body_and_ends_the_connection() {
    use std::io::{Read, Write};
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let mut stream = std::net::TcpStream::connect(program.address).expect("connects");
    stream
        .set_read_timeout(Some(harness::PATIENCE))
        .expect("a timeout");
    let head = "POST /v1/streams/open/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\n\
                content-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("ended by the server");
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(
        answer.contains("connection: close") && !answer.contains("100 continue"),
        "{answer}"
    );
}

#[test]
fn decisions_are_logged_by_the_tokens_name_and_never_by_its_text() {
    let given = Given::new(&WALKERS);
    let config = given.directory.path().join("access.toml");
    std::fs::write(&config, format!("tokens_file = \"{}\"\n", given.file().display())).expect("written");
    let log = given.directory.path().join("log");
    let directory = given.directory.path().to_str().expect("UTF-8");
    let addresses = given.directory.path().join("addresses");
    let mut child = tidemill(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        directory,
        "--log",
        "trace",
    ])
    .args(["--config", config.to_str().expect("UTF-8")])
    .args(["--address-file", addresses.to_str().expect("UTF-8")])
    .current_dir(directory)
    .stdout(Stdio::null())
    .stderr(std::fs::File::create(&log).expect("created"))
    .spawn()
    .expect("the binary");
    until("it listens", || addresses.exists());
    let address = std::fs::read_to_string(&addresses).expect("read");
    let address = address.trim().parse().expect("an address");
    for (name, path) in [
        ("read", "/v1/streams"),
        ("write-open", "/v1/sql?q=SELECT%201"),
        ("admin", "/metrics"),
    ] {
        let bearer = format!("Bearer {}", given.token(name));
        request(address, "GET", path, &[("authorization", &bearer)], b"").expect("an answer");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let text = std::fs::read_to_string(&log).expect("read");
    assert!(
        text.contains("insufficient_scope") && text.contains("write-open"),
        "{text}"
    );
    for (name, token) in &given.tokens {
        assert!(!text.contains(&token[9..]), "the log shows the token {name}");
    }
}

#[test]
fn tokens_come_and_go_while_requests_are_answered_and_a_broken_file_changes_nothing() {
    let given = Given::new(&[("steady", &["--scope", "write,read,admin"])]);
    let program = given.start();
    let steady = given.token("steady").to_owned();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = answered.load(Ordering::Relaxed);
                let answer = ask(
                    &program,
                    Some(&steady),
                    "POST",
                    "/v1/streams/running/events",
                    &running(number, 1),
                );
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let passes = |token: &str| ask(&program, Some(token), "GET", "/v1/streams/running", "").status == 200;
        let good = std::fs::read_to_string(given.file()).expect("read");
        // One is added: noticed without a word.
        let added = make(
            &given.file(),
            "added",
            &["--scope", "read", "--streams", "running"],
        );
        until("the new token passes", || passes(&added));
        let both = std::fs::read_to_string(given.file()).expect("read");
        // What is broken, empty of meaning or gone leaves both in force.
        let metric = |name: &str| {
            let text = ask(&program, Some(&steady), "GET", "/metrics", "").text();
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse().ok());
            value.unwrap_or(0.0_f64)
        };
        for (broken, text) in [Some("tokens = 1"), Some("[tokens.a]\n"), Some("\u{0}"), None]
            .iter()
            .enumerate()
        {
            match text {
                Some(text) => std::fs::write(given.file(), text).expect("written"),
                None => std::fs::remove_file(given.file()).expect("removed"),
            }
            let errors = "tidemill_access_reload_errors_total{what=\"tokens\"}";
            until("the error is counted", || metric(errors) > broken as f64);
            assert!(passes(&added) && passes(&steady));
            assert_eq!(metric("tidemill_access_stale{what=\"tokens\"}") as u64, 1);
        }
        std::fs::write(given.file(), &both).expect("written");
        until("the file is good again", || {
            metric("tidemill_access_stale{what=\"tokens\"}") as u64 == 0
        });
        // One is taken away, and SIGHUP does not wait for a second look.
        std::fs::write(given.file(), &good).expect("written");
        program.signal("HUP");
        until("the old token does not pass", || !passes(&added));
        assert!(passes(&steady));
        stop.store(true, Ordering::Relaxed);
    });
    let count = ask(
        &program,
        Some(&steady),
        "POST",
        "/v1/sql",
        "SELECT count(*) FROM running",
    );
    assert_eq!(
        count.json()["rows"][0][0].as_u64(),
        Some(answered.load(Ordering::Relaxed))
    );
}

#[test]
fn a_token_ends_when_its_time_is_over() {
    let given = Given::new(&[("brief", &["--scope", "read", "--expires", "2s"])]);
    let program = given.start();
    let brief = given.token("brief");
    assert_eq!(ask(&program, Some(brief), "GET", "/v1/streams", "").status, 200);
    until("its time is over", || {
        ask(&program, Some(brief), "GET", "/v1/streams", "").status == 401
    });
    let answer = ask(&program, Some(brief), "GET", "/v1/streams", "");
    assert!(
        answer.head.contains("error=\"invalid_token\"") && answer.text().contains("expired"),
        "{answer:?}"
    );
}

#[test]
fn without_usable_tokens_there_is_no_server_and_nothing_secret_is_printed() {
    let given = Given::new(&[("a", &["--scope", "read"])]);
    let config = given.directory.path().join("access.toml");
    let write = |text: &str| std::fs::write(&config, text).expect("written");
    let run = |command: &str| {
        let output = tidemill(&[
            command,
            "--config",
            config.to_str().expect("UTF-8"),
            "--listen",
            "127.0.0.1:0",
        ])
        .current_dir(given.directory.path())
        .output()
        .expect("the binary");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            output.stdout,
        )
    };
    write(&format!("tokens_file = \"{}\"\n", given.file().display()));
    let (good, said, printed) = run("check");
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(good && printed.contains("tokens_file = "), "{said}");
    let entry = std::fs::read_to_string(given.file()).expect("read");
    let hash = entry
        .split("sha256:")
        .nth(1)
        .and_then(|rest| rest.get(..64))
        .expect("a hash");
    for shown in [&printed, &said] {
        assert!(
            !shown.contains(hash) && !shown.contains(&given.token("a")[9..]),
            "{shown}"
        );
    }
    std::fs::write(
        given.file(),
        format!("[tokens.a]\nhash = \"{}\"\nread = \"all\"\n", given.token("a")),
    )
    .expect("written");
    write(&format!("tokens_file = \"{}\"\n", given.file().display()));
    for command in ["check", "serve"] {
        let (good, said, _) = run(command);
        assert!(!good && said.contains("`hash` is not"), "{said}");
        assert!(!said.contains(&given.token("a")[9..]), "{said}");
    }
    write("tokens_file = \"/nowhere/tokens.toml\"\n");
    let (good, said, _) = run("serve");
    assert!(!good && said.contains("/nowhere/tokens.toml"), "{said}");
    write("tls.key_file = \"/nowhere/key.pem\"\n");
    let (good, said, _) = run("serve");
    assert!(!good && said.contains("tls.certificate_file"), "{said}");
}

/// It may listen for everybody once there are tokens, and only then.
#[test]
fn a_listener_for_other_machines_needs_tokens_or_a_word_of_its_own() {
    let given = Given::new(&[("a", &["--scope", "read"])]);
    let directory = given.directory.path().to_str().expect("UTF-8");
    let refused = tidemill(&["serve", "--listen", "0.0.0.0:0", "--data-dir", directory])
        .current_dir(directory)
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("tokens_file") && said.contains("allow_remote"),
        "{said}"
    );
    let config = given.directory.path().join("access.toml");
    let text = format!(
        "tokens_file = \"{}\"\nlisten = [\"127.0.0.1:0\", \"0.0.0.0:0\"]\n",
        given.file().display()
    );
    std::fs::write(&config, text).expect("written");
    let checked = tidemill(&["check", "--config", config.to_str().expect("UTF-8")])
        .current_dir(directory)
        .output()
        .expect("the binary");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn commands_send_the_token_of_a_file_or_of_the_environment() {
    let given = Given::new(&[("all", &["--scope", "write,read,admin"])]);
    let program = given.start();
    let url = format!("http://{}", program.address);
    let path = given.directory.path().join("token");
    std::fs::write(&path, format!("{}\n", given.token("all"))).expect("written");
    let events = given.directory.path().join("events.ndjson");
    std::fs::write(&events, running(0, 50)).expect("written");
    let replay = [
        "replay",
        events.to_str().expect("UTF-8"),
        "--stream",
        "running",
        "--to",
        &url,
    ];
    let sql = [
        "sql",
        "--url",
        &url,
        "--format",
        "csv",
        "SELECT count(*) AS n FROM running",
    ];
    let refused = tidemill(&sql).output().expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("401"), "{said}");
    let sent = tidemill(&replay)
        .args(["--token-file", path.to_str().expect("UTF-8")])
        .output()
        .expect("the binary");
    assert!(sent.status.success(), "{sent:?}");
    let asked = tidemill(&sql)
        .env("TIDEMILL_TOKEN", given.token("all"))
        .output()
        .expect("the binary");
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "n\n50\n");
    // No flag takes a token, so none can be seen in a list of processes.
    let help = tidemill(&["replay", "--help"])
        .env("TIDEMILL_TOKEN", "tidemill_x")
        .output()
        .expect("the binary");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(
        !help.contains("--token ") && !help.contains("tidemill_x"),
        "{help}"
    );
}

#[test]
fn the_command_that_makes_tokens_keeps_only_what_it_says() {
    use std::os::unix::fs::PermissionsExt;
    let given = Given::new(&[
        (
            "first",
            &[
                "--scope",
                "write,read",
                "--streams",
                "running,music",
                "--expires",
                "2027-01-01T00:00:00Z",
            ],
        ),
        ("second", &["--scope", "admin"]),
    ]);
    let text = std::fs::read_to_string(given.file()).expect("read");
    for (_, token) in &given.tokens {
        assert!(!text.contains(&token[9..]), "{text}");
        assert_eq!(token.len(), 73);
    }
    let mode = std::fs::metadata(given.file())
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = given.file();
    let file = file.to_str().expect("UTF-8");
    let run = |arguments: &[&str]| {
        let output = tidemill(arguments).output().expect("the binary");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), said)
    };
    let (good, listed) = run(&["token", "list", "--file", file]);
    assert!(good);
    assert_eq!(
        listed,
        "first  write: music,running  read: music,running  expires: 2027-01-01T00:00:00Z\nsecond  admin: all\n"
    );
    for wrong in [
        &["token", "new", "first", "--scope", "read", "--file", file][..],
        &["token", "new", "a b", "--scope", "read"],
        &["token", "new", "c"],
        &["token", "new", "c", "--scope", "all"],
        &["token", "new", "c", "--scope", "read", "--streams", "_rejects"],
        &["token", "new", "c", "--scope", "read", "--expires", "tomorrow"],
        &["token", "new", "c", "--scope", "read", "--expires", "0s"],
    ] {
        let (good, said) = run(wrong);
        assert!(!good, "{wrong:?}: {said}");
        assert!(!said.contains("tidemill_"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(given.file()).expect("read"), text);
}
