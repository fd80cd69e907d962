//! Ad-hoc SQL in worker processes: whatever a statement does to its worker, the server goes on, and says what
//! happened.
//!
//! Times are printed, never asserted tightly: a bound here is what a person would call stuck.

mod harness;
#[path = "sql_worker/processes.rs"]
mod processes;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Answer, PATIENCE, Program, request, running, tidemill, until};
use processes::{busiest, is_gone, signal, variables, words, workers};

/// What a query that is stopped must never take.
const BOUND: Duration = Duration::from_secs(50);
/// Queries of these tests may take long where many programs share few processors.
const PATIENT: &str = "[analytics]\nsql_timeout = \"300s\"\n";
/// Where a statement is asked that is given so long.
const PATIENTLY: &str = "/v1/sql?timeout=120s";

/// It runs for as long as it may.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b WHERE a.value + b.value < 0";

/// Lists that grow with each row: memory that no pool is asked for.
fn growing() -> String {
    format!(
        "SELECT max(array_length(x)) FROM (SELECT array_agg(concat('{}', value)) OVER (ORDER BY value) AS x \
         FROM generate_series(1, 20000))",
        "a".repeat(500)
    )
}

/// A server over an empty directory, with settings of its own.
fn started(settings: &str) -> (tempfile::TempDir, Program) {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("worker.toml");
    std::fs::write(&file, settings).expect("write");
    let program = Program::start(data.path(), &["--config", file.to_str().expect("UTF-8")]);
    (data, program)
}

fn sql(program: &Program, path: &str, accept: &str, statement: &str) -> std::io::Result<Answer> {
    let headers = [("accept", accept), ("content-type", "text/plain")];
    request(program.address, "POST", path, &headers, statement.as_bytes())
}

fn ask(program: &Program, statement: &str) -> Answer {
    sql(program, "/v1/sql", "application/json", statement).expect("an answer")
}

fn shown(statement: &str) -> String {
    statement.chars().take(70).collect()
}

#[track_caller]
fn is_problem(answer: &Answer, what: &str) {
    assert!(
        answer.head.contains("application/problem+json") && answer.status >= 400,
        "{what}: {} {}",
        answer.head,
        answer.text()
    );
}

/// The `share` of the sorted times.
fn at(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times
        .get((last as f64 * share) as usize)
        .copied()
        .unwrap_or_default()
}

/// Statements that would end or block a process, or do.
fn killers() -> Vec<String> {
    let everything =
        "running a CROSS JOIN running b CROSS JOIN running c CROSS JOIN running d CROSS JOIN running e";
    vec![
        format!(
            "SELECT count(*) FROM running WHERE {}",
            vec!["duration = 1"; 20_000].join(" OR ")
        ),
        vec!["SELECT 1"; 5_000].join(" UNION ALL "),
        "SELECT repeat('a', 2000000000)".to_owned(),
        "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x FROM a) SELECT count(*) FROM a".to_owned(),
        format!("SELECT count(*), max(a.duration + b.duration * c.distance) FROM {everything}"),
        "SELECT count(*) FROM running a CROSS JOIN running b CROSS JOIN running c WHERE a.distance * b.distance * c.distance < -1"
            .to_owned(),
        ENDLESS.to_owned(),
        growing(),
    ]
}

/// Asks again and again until it is told to stop; gives how long each answer took.
fn answered(over: &AtomicBool, mut question: impl FnMut() -> Answer) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let answer = question();
        times.push(begun.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    times
}

/// Runs `work` beside events that arrive and REST questions, all of which must be answered.
fn beside_load(program: &Program, name: &str, from: u64, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let (mut ingest, mut rest) = std::thread::scope(|scope| {
        let ingest = scope.spawn(|| {
            let mut next = from;
            answered(&over, || {
                next += 20;
                program.ndjson("running", &running(next, 20))
            })
        });
        let rest = scope.spawn(|| answered(&over, || program.get("/v1/streams/running/stats")));
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ended = Over(&over);
        work();
        drop(ended);
        (ingest.join().expect("ingest"), rest.join().expect("REST"))
    });
    assert!(!ingest.is_empty() && !rest.is_empty());
    println!(
        "{name}: ingest {} answers, p50 {:?}, p99 {:?}; REST {} answers, p50 {:?}, p99 {:?}",
        ingest.len(),
        at(&mut ingest, 0.5),
        at(&mut ingest, 0.99),
        rest.len(),
        at(&mut rest, 0.5),
        at(&mut rest, 0.99)
    );
}

#[test]
fn killers_end_in_a_problem_while_events_and_rest_questions_are_answered() {
    let (_data, program) = started("[analytics]\nsql_bytes = \"1MiB\"\n");
    assert_eq!(program.ndjson("running", &running(0, 3_000)).status, 200);
    let kill = |statement: &str| {
        let path = "/v1/sql?timeout=2s";
        sql(&program, path, "application/json", statement).expect("an answer")
    };
    beside_load(&program, "without SQL", 10_000_000, || {
        std::thread::sleep(Duration::from_secs(1));
    });
    let killers = killers();
    beside_load(&program, "with killers", 20_000_000, || {
        for statement in &killers {
            let begun = Instant::now();
            let answer = kill(statement);
            println!(
                "{}: {} after {:?}",
                shown(statement),
                answer.status,
                begun.elapsed()
            );
            is_problem(&answer, &shown(statement));
            assert!(begun.elapsed() < BOUND, "{}", shown(statement));
            until("the next query is answered", || {
                ask(&program, "select count(*) from running").status == 200
            });
        }
    });
    beside_load(&program, "with four at once", 30_000_000, || {
        std::thread::scope(|scope| {
            for statement in &killers[4..] {
                let kill = &kill;
                scope.spawn(move || is_problem(&kill(statement), &shown(statement)));
            }
        });
    });
    until("the next query is answered", || {
        ask(&program, "select count(*) from running").status == 200
    });
}

#[test]
fn memory_that_nobody_counts_ends_the_worker_and_nothing_else() {
    let (_data, program) = started(PATIENT);
    let begun = Instant::now();
    let answer = sql(&program, PATIENTLY, "application/json", &growing()).expect("an answer");
    println!("{} after {:?}: {}", answer.status, begun.elapsed(), answer.text());
    is_problem(&answer, "growing lists");
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("SIGABRT"), "{}", answer.text());
    assert_eq!(program.number("select 1"), 1);
}

#[test]
fn a_query_whose_worker_dies_is_told_so_and_the_next_one_is_answered() {
    let (_data, mut program) = started(PATIENT);
    assert_eq!(program.ndjson("running", &running(0, 10)).status, 200);
    for (name, status) in [("KILL", 503), ("ABRT", 500), ("ILL", 500)] {
        let (answer, killed) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| sql(&program, PATIENTLY, "application/json", ENDLESS));
            signal(name, busiest(program.child.id()));
            let killed = Instant::now();
            (asked.join().expect("asked").expect("an answer"), killed)
        });
        println!("{name}: told after {:?}: {}", killed.elapsed(), answer.text());
        is_problem(&answer, name);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:tidemill:query-worker-died");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(&format!("SIG{name}")), "{detail}");
        assert_eq!(
            answer.head.contains("retry-after"),
            status == 503,
            "{}",
            answer.head
        );
        assert_eq!(program.number("select count(*) from running"), 10);
        println!("{name}: the next query is answered after {:?}", killed.elapsed());
    }
    assert!(program.metric("tidemill_sql_worker_deaths_total") >= 3.0);
    assert!(program.metric("tidemill_sql_worker_starts_total") >= 4.0);
    assert!(program.child.try_wait().expect("asked").is_none());
}

#[test]
fn workers_that_die_while_they_wait_are_replaced() {
    let (_data, program) = started("");
    for _ in 0..5 {
        assert_eq!(program.number("select 1"), 1);
        let all = workers(program.child.id());
        assert!(!all.is_empty());
        for worker in &all {
            signal("KILL", *worker);
        }
        until("they are gone", || all.iter().all(|worker| is_gone(*worker)));
    }
    assert_eq!(program.number("select 1"), 1);
}

#[test]
fn a_stream_whose_worker_dies_in_the_middle_does_not_look_whole() {
    let (_data, program) = started("");
    for accept in [
        "application/x-ndjson",
        "text/csv",
        "application/vnd.apache.arrow.stream",
    ] {
        let statement =
            "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a, generate_series(1, 500) b";
        let mut stream = begin(&program, accept, statement);
        let mut some = vec![0; 256 << 10];
        stream.read_exact(&mut some).expect("rows");
        assert!(some.starts_with(b"HTTP/1.1 200"), "{accept}");
        let all = workers(program.child.id());
        for worker in &all {
            signal("KILL", *worker);
        }
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        // The last chunk is empty in a whole answer.
        assert!(
            ended.is_err() || !rest.ends_with(b"\r\n0\r\n\r\n"),
            "{accept}: {} bytes look whole",
            rest.len()
        );
        until("they are gone", || all.iter().all(|worker| is_gone(*worker)));
    }
    assert_eq!(program.number("select 1"), 1);
}

/// Sends a statement and reads nothing.
fn begin(program: &Program, accept: &str, statement: &str) -> TcpStream {
    let mut stream = TcpStream::connect(program.address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "POST /v1/sql HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\ncontent-length: {}\r\n\r\n",
        statement.len()
    );
    stream.write_all(head.as_bytes()).expect("head");
    stream.write_all(statement.as_bytes()).expect("statement");
    stream
}

#[test]
fn a_client_that_leaves_frees_the_worker() {
    let (_data, program) = started("[analytics]\nsql_workers = 1\n");
    let streamed =
        "SELECT a.value, b.value AS other FROM generate_series(1, 1000000) a, generate_series(1, 50000) b";
    for (accept, statement) in [
        ("application/json", ENDLESS),
        ("application/x-ndjson", ENDLESS),
        ("application/x-ndjson", streamed),
        ("text/csv", streamed),
    ] {
        let mut stream = begin(&program, accept, statement);
        if statement == streamed {
            stream.read_exact(&mut [0; 100_000]).expect("rows");
        } else {
            busiest(program.child.id());
        }
        drop(stream);
        let begun = Instant::now();
        assert_eq!(program.number("select 1"), 1);
        println!("{accept} {}: free after {:?}", shown(statement), begun.elapsed());
        assert!(begun.elapsed() < BOUND);
    }
}

#[test]
fn a_client_that_does_not_read_holds_only_its_own_worker_and_only_for_its_time() {
    let (_data, program) = started("[analytics]\nsql_workers = 2\nsql_timeout = \"3s\"\n");
    let statement =
        "SELECT a.value, b.value AS other FROM generate_series(1, 1000000) a, generate_series(1, 50) b";
    let slow: Vec<TcpStream> = (0..2)
        .map(|_| begin(&program, "application/x-ndjson", statement))
        .collect();
    assert_eq!(program.get("/v1/streams/running/stats").status, 200);
    let begun = Instant::now();
    // It may be told that every worker is busy, and comes back as it is told to.
    until("a worker is free", || ask(&program, "select 1").status == 200);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    for mut stream in slow {
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all);
        assert!(ended.is_err() || !all.ends_with(b"\r\n0\r\n\r\n"));
    }
}

#[test]
fn no_worker_outlives_its_server() {
    let (_data, program) = started("");
    let streams: Vec<TcpStream> = (0..3)
        .map(|_| begin(&program, "application/json", ENDLESS))
        .collect();
    until("three of them run", || workers(program.child.id()).len() >= 3);
    let all = workers(program.child.id());
    program.kill();
    let begun = Instant::now();
    until("every worker has ended", || {
        all.iter().all(|worker| is_gone(*worker))
    });
    println!(
        "{} workers ended {:?} after their server",
        all.len(),
        begun.elapsed()
    );
    drop(streams);
}

#[test]
fn an_ordered_shutdown_ends_the_workers_too() {
    let (_data, program) = started("");
    assert_eq!(program.number("select 1"), 1);
    let all = workers(program.child.id());
    assert!(program.stop().success());
    until("every worker has ended", || {
        all.iter().all(|worker| is_gone(*worker))
    });
}

#[test]
fn what_was_acknowledged_is_seen_by_the_very_next_query() {
    let (_data, program) = started("[lake.roll]\nevery = \"100ms\"\n[lake.compact]\nevery = \"300ms\"\n");
    let mut waits = Vec::new();
    for round in 0..200 {
        assert_eq!(program.ndjson("running", &running(round * 3, 3)).status, 200);
        let begun = Instant::now();
        let rows = program.rows("SELECT count(*), sum(_index), max(duration) FROM running");
        waits.push(begun.elapsed());
        let count = (round + 1) * 3;
        assert_eq!(
            rows[0],
            serde_json::json!([count, count * (count - 1) / 2, count - 1]),
            "round {round}"
        );
    }
    println!(
        "from the acknowledgement to the answer: p50 {:?}, p99 {:?}, max {:?}",
        at(&mut waits, 0.5),
        at(&mut waits, 0.99),
        at(&mut waits, 1.0)
    );
}

#[test]
fn a_million_rows_come_through_whole() {
    let (_data, program) = started("");
    let begun = Instant::now();
    let answer = sql(
        &program,
        "/v1/sql",
        "text/csv",
        "SELECT value FROM generate_series(1, 1000000)",
    );
    let text = answer.expect("an answer").text();
    println!("a million rows of CSV in {:?}", begun.elapsed());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("value"));
    let mut count = 0;
    for line in lines {
        count += 1;
        assert_eq!(line.parse(), Ok(count));
    }
    assert_eq!(count, 1_000_000);
}

/// The same statement over the same files, in this process's command line and through a worker.
#[test]
fn an_answer_through_a_worker_is_the_same_byte_for_byte() {
    let (data, program) = started(&format!("[lake.roll]\nevery = \"100ms\"\n{PATIENT}"));
    assert_eq!(program.ndjson("running", &running(0, 20_000)).status, 200);
    until("a file is rolled", || {
        program.metric("tidemill_sink_commits_total") >= 1.0
    });
    assert_eq!(program.ndjson("running", &running(20_000, 20_000)).status, 200);
    let statement = "SELECT *, _index, duration / 7.0 AS part FROM running ORDER BY _index";
    for (format, accept) in [
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("parquet", "application/vnd.apache.parquet"),
        ("table", "text/plain"),
    ] {
        let answer = sql(&program, PATIENTLY, accept, statement).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let directory = data.path().to_str().expect("UTF-8");
        let printed = tidemill(&["sql", "--data-dir", directory, "--format", format, statement])
            .current_dir(Path::new("/"))
            .output()
            .expect("the command line");
        assert!(
            printed.status.success(),
            "{}",
            String::from_utf8_lossy(&printed.stderr)
        );
        assert!(answer.body == printed.stdout, "{format} differs");
    }
}

#[test]
fn a_query_that_finds_no_free_worker_is_told_when_to_come_back() {
    let (_data, program) = started("[analytics]\nsql_workers = 1\nqueries = 2\n");
    let first = begin(&program, "application/json", ENDLESS);
    busiest(program.child.id());
    let begun = Instant::now();
    let answer = sql(&program, "/v1/sql?timeout=300ms", "application/json", "select 1").expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    is_problem(&answer, "no free worker");
    assert!(answer.head.contains("retry-after"), "{}", answer.head);
    assert!(begun.elapsed() < BOUND);
    // One runs, one waits, and that is as many as may.
    let mut waiting = Vec::new();
    until("there is no place to wait either", || {
        waiting.push(begin(&program, "application/json", ENDLESS));
        let path = "/v1/sql?timeout=100ms";
        sql(&program, path, "application/json", "select 1")
            .expect("an answer")
            .status
            == 429
    });
    assert_eq!(program.get("/v1/streams/running/stats").status, 200);
    drop((first, waiting));
    until("all have gone", || ask(&program, "select 1").status == 200);
}

#[test]
fn parameters_and_positions_reach_the_worker() {
    let (_data, program) = started("");
    let answer = program.ndjson("running", &running(0, 5));
    let at = answer.json()["positions"][0]["offset"]
        .as_u64()
        .expect("an offset");
    let body = serde_json::json!({
        "sql": "SELECT $1 + 1, $2, $3, $4 FROM running", "params": [41, "a'b", 0.1, null], "limit": 1,
        "min_position": format!("0:{at}"), "timeout": "30s",
    });
    let answer = program.post("/v1/sql", "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["rows"], serde_json::json!([[42, "a'b", 0.1, null]]));
    assert_eq!(answer["truncated"], true);
    assert_eq!(answer["as_of"]["running"]["positions"][0]["offset"], at);
    let late = sql(
        &program,
        "/v1/sql?min_position=0:99&timeout=300ms",
        "application/json",
        "SELECT count(*) FROM running",
    );
    let late = late.expect("an answer");
    assert!([408, 503].contains(&late.status), "{}", late.text());
}

#[test]
fn a_worker_knows_and_shows_only_what_it_needs() {
    let (_data, program) = started("");
    assert_eq!(program.number("select 1"), 1);
    for worker in workers(program.child.id()) {
        assert_eq!(words(worker), ["tidemill", "sql-worker"]);
        for variable in variables(worker) {
            let known = ["MIMALLOC_", "TIDEMILL_LOG", "RUST_BACKTRACE", "SSL_CERT_"];
            assert!(
                known.iter().any(|known| variable.starts_with(known)),
                "{variable}"
            );
        }
    }
    let by_hand = tidemill(&["sql-worker"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the command line");
    assert_eq!(by_hand.status.code(), Some(2));
    let help = tidemill(&["--help"]).output().expect("the command line");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("sql-worker"));
}
