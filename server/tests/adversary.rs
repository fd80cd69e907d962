//! Questions that mean harm, through the real binary: each gets an answer that says what is wrong, in bounded
//! time and memory, changes nothing, and the next question is answered.

mod harness;

use std::time::{Duration, Instant};

use harness::{Answer, Program, request, running};

/// Statements that are no question, or that reach out of the tables.
const FORBIDDEN: [&str; 40] = [
    "",
    ";",
    "SELECT",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE running",
    "INSERT INTO running VALUES (1)",
    "INSERT INTO running SELECT * FROM running",
    "UPDATE running SET duration = 1",
    "DELETE FROM running",
    "DROP TABLE running",
    "TRUNCATE running",
    "ALTER TABLE running ADD COLUMN x INT",
    "CREATE TABLE t (x INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE OR REPLACE VIEW running AS SELECT 1",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "COPY running TO '/tmp/stolen.csv'",
    "COPY (SELECT 1) TO '/tmp/stolen.parquet'",
    "SET datafusion.execution.batch_size = 1",
    "SET TIME ZONE 'UTC'",
    "RESET datafusion.execution.batch_size",
    "SHOW ALL",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN",
    "COMMIT",
    "GRANT ALL ON running TO me",
    "EXPLAIN INSERT INTO running VALUES (1)",
    "EXPLAIN ANALYZE DELETE FROM running",
    "SELECT 1 INTO t",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"file:///etc/passwd\"",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM (WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a)",
    "MERGE INTO running USING running ON true WHEN MATCHED THEN DELETE",
];

/// Statements whose answer the engine has to refuse or bound; 200 is fine for them, death and 500 are not.
fn heavy() -> Vec<String> {
    let nested = |open: &str, close: &str, times: usize| {
        format!("SELECT {}1{}", open.repeat(times), close.repeat(times))
    };
    vec![
        nested("(", ")", 10_000),
        nested("abs(", ")", 5_000),
        nested("CASE WHEN true THEN ", " END", 5_000),
        nested("- ", "", 20_000),
        nested("NOT ", "", 20_000),
        nested("[", "]", 10_000),
        nested("(SELECT ", ")", 3_000),
        format!("SELECT {}", vec!["1 = 1"; 20_000].join(" OR ")),
        format!("SELECT {}", vec!["1"; 40_000].join(" + ")),
        format!("SELECT {}", vec!["1"; 30_000].join(", ")),
        format!("SELECT 1 IN ({})", vec!["1"; 30_000].join(", ")),
        format!("VALUES {}", vec!["(1)"; 10_000].join(", ")),
        vec!["SELECT 1"; 5_000].join(" UNION ALL "),
        format!("SELECT * FROM {}", vec!["running"; 90].join(", ")),
        format!("SELECT * FROM {}", ["running"; 9].join(" NATURAL JOIN ")),
        "SELECT repeat('a', 2000000000)".to_owned(),
        "SELECT lpad('a', 2147483647, 'b'), rpad('a', 2147483647)".to_owned(),
        "SELECT array_repeat(1, 2000000000)".to_owned(),
        "SELECT array_resize([1], 2000000000, 0)".to_owned(),
        "SELECT range(0, 9223372036854775807)".to_owned(),
        "SELECT generate_series(0, 9223372036854775807)".to_owned(),
        "SELECT count(*) FROM generate_series(0, 9223372036854775807)".to_owned(),
        "SELECT * FROM range(0, 9223372036854775807) ORDER BY value DESC".to_owned(),
        "SELECT array_agg(value) FROM generate_series(0, 9223372036854775807)".to_owned(),
        "SELECT string_agg(value, 'aaaaaaaaaaaaaaaaaaaaaaaaa') FROM generate_series(0, 9223372036854775807)".to_owned(),
        "SELECT count(DISTINCT value) FROM generate_series(0, 9223372036854775807)".to_owned(),
        "SELECT 1/0, 5 % 0, 1.0/0".to_owned(),
        "SELECT 9223372036854775807 + 1, -9223372036854775808 - 1, 9223372036854775807 * 2".to_owned(),
        "SELECT abs(-9223372036854775808), - (-9223372036854775808)".to_owned(),
        "SELECT power(10, 400), exp(10000), ln(-1), sqrt(-1), factorial(100), gcd(-9223372036854775808, 0)".to_owned(),
        "SELECT lcm(9223372036854775807, 9223372036854775806)".to_owned(),
        "SELECT date_bin(INTERVAL '0 seconds', timestamp) FROM running".to_owned(),
        "SELECT date_bin(INTERVAL '1 month', timestamp, '0001-01-01') FROM running".to_owned(),
        "SELECT date_trunc('nothing', timestamp) FROM running".to_owned(),
        "SELECT timestamp AT TIME ZONE 'Mars/Phobos' FROM running".to_owned(),
        "SELECT timestamp AT TIME ZONE 'Asia/Kathmandu', date_trunc('day', timestamp AT TIME ZONE 'Asia/Kathmandu') FROM running".to_owned(),
        "SELECT timestamp + INTERVAL '300000 years' FROM running".to_owned(),
        "SELECT arrow_cast(9223372036854775807, 'Timestamp(Second, None)')".to_owned(),
        "SELECT arrow_cast(9223372036854775807, 'Timestamp(Microsecond, Some(\"UTC\"))')".to_owned(),
        "SELECT arrow_cast('a', 'FixedSizeBinary(2147483647)')".to_owned(),
        "SELECT arrow_cast([1], 'FixedSizeList(2147483647, Int64)')".to_owned(),
        "SELECT arrow_cast(1, 'Nothing')".to_owned(),
        "SELECT CAST('x' AS INT), CAST('9999999999999999999' AS BIGINT)".to_owned(),
        "SELECT to_timestamp('x'), to_timestamp(9223372036854775807), from_unixtime(9223372036854775807)".to_owned(),
        "SELECT make_date(2147483647, 13, 99)".to_owned(),
        "SELECT chr(-1), chr(2147483647), ascii(''), substr('a', -9223372036854775808, 9223372036854775807)".to_owned(),
        "SELECT left('abc', -9223372036854775808), right('abc', -9223372036854775808), split_part('a', '', -9223372036854775808)".to_owned(),
        "SELECT regexp_like('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!', '^(a|a)*$'), regexp_match('a', '(((a{100}){100}){100}){100}')".to_owned(),
        "SELECT 'a' LIKE repeat('%a', 1000)".to_owned(),
        "SELECT nth_value(duration, -9223372036854775808) OVER () FROM running".to_owned(),
        "SELECT ntile(0) OVER (), lag(duration, -9223372036854775808) OVER (ORDER BY _index) FROM running".to_owned(),
        "SELECT sum(duration) OVER (ORDER BY _index ROWS BETWEEN 18446744073709551615 PRECEDING AND 18446744073709551615 FOLLOWING) FROM running".to_owned(),
        "SELECT approx_percentile_cont(duration, 2.0), percentile_cont(-1) WITHIN GROUP (ORDER BY duration) FROM running".to_owned(),
        "SELECT * FROM running LIMIT 18446744073709551615 OFFSET 18446744073709551615".to_owned(),
        "SELECT * FROM running LIMIT -1".to_owned(),
        "SELECT * FROM running OFFSET 9223372036854775807".to_owned(),
        "SELECT * FROM running WHERE _index = 9223372036854775807 OR _index = -1".to_owned(),
        "SELECT json_get('{', 'a'), json_get_int('[[[', 9223372036854775807)".to_owned(),
        format!("SELECT json_length('{}')", "[".repeat(20_000)),
        "SELECT [1, 2, 3][9223372036854775807], [1][-9223372036854775808], array_slice([1], 0, 9223372036854775807, 0)".to_owned(),
        "SELECT map([1, 1], [2, 3]), struct(1, 'a'), named_struct('a', [1, 2]), json_get('{\"a\": [1]}', 'a')".to_owned(),
        "SELECT INTERVAL '1 month', DATE '2024-01-01', TIME '10:00', X'00ff', NULL, 1.5::decimal(76, 30)".to_owned(),
        "SELECT * FROM information_schema.columns".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
        "SELECT * FROM information_schema.routines".to_owned(),
        "SELECT DISTINCT ON (duration) * FROM running ORDER BY duration".to_owned(),
        "SELECT * FROM running GROUP BY CUBE (user_id, duration, distance, timestamp)".to_owned(),
        "SELECT * FROM running PIVOT (sum(duration) FOR distance IN (1, 2))".to_owned(),
        "SELECT * FROM running TABLESAMPLE BERNOULLI (200)".to_owned(),
        "SELECT * FROM running FOR UPDATE".to_owned(),
        "TABLE running".to_owned(),
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM running".to_owned(),
        "SELECT '\u{0}', '\u{202e}', U&'\\00e9', E'\\u0000', $$a$$".to_owned(),
        "SELECT /* /* */ 1 -- '".to_owned(),
        "SELECT 'open".to_owned(),
        "SELECT $1, $2, $nothing".to_owned(),
        "SELECT @@version, current_user, version(), uuid(), random(), now(), current_schema()".to_owned(),
    ]
}

const FORMATS: [&str; 6] = [
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "text/plain",
];

fn sql(program: &Program, accept: &str, statement: &str) -> std::io::Result<Answer> {
    let headers = [("accept", accept), ("content-type", "text/plain")];
    let path = "/v1/sql?timeout=300ms";
    request(program.address, "POST", path, &headers, statement.as_bytes())
}

fn shown(statement: &str) -> String {
    statement.chars().take(80).collect()
}

fn filled() -> (tempfile::TempDir, Program) {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("rolls.toml");
    std::fs::write(
        &file,
        "[lake.roll]\nevery = \"100ms\"\n[analytics]\nsql_bytes = \"1MiB\"\n",
    )
    .expect("write");
    let program = Program::start(data.path(), &["--config", file.to_str().expect("UTF-8")]);
    assert_eq!(program.ndjson("running", &running(0, 100)).status, 200);
    harness::until("a file is rolled", || {
        program.metric("tidemill_sink_commits_total") >= 1.0
    });
    assert_eq!(program.ndjson("running", &running(100, 100)).status, 200);
    (data, program)
}

fn is_problem(answer: &Answer, what: &str) {
    assert!(
        answer.head.contains("application/problem+json"),
        "{what}: {} {}",
        answer.head,
        answer.text()
    );
    assert_eq!(
        answer.json()["status"].as_u64(),
        Some(u64::from(answer.status)),
        "{what}"
    );
}

#[test]
fn statements_that_are_no_question_are_refused_and_change_nothing() {
    let (_data, program) = filled();
    for statement in FORBIDDEN {
        let answer = sql(&program, "application/json", statement).expect("an answer");
        assert_eq!(answer.status, 400, "{statement}: {}", answer.text());
        is_problem(&answer, statement);
    }
    assert!(!std::path::Path::new("/tmp/stolen.csv").exists());
    assert!(!std::path::Path::new("/tmp/stolen.parquet").exists());
    assert_eq!(program.number("select count(*) from running"), 200);
    let tables =
        program.rows("select table_name from information_schema.tables where table_schema = 'public'");
    assert_eq!(tables.len(), 6, "{tables:?}");
}

#[test]
fn heavy_statements_end_in_an_answer_and_leave_the_server_alive() {
    let (_data, program) = filled();
    let mut slowest = (Duration::ZERO, String::new());
    let mut wrong = Vec::new();
    for statement in heavy() {
        for accept in FORMATS {
            let begun = Instant::now();
            let answer = match sql(&program, accept, &statement) {
                Ok(answer) => answer,
                Err(error) => {
                    wrong.push(format!("{accept} {}: {error}", shown(&statement)));
                    continue;
                }
            };
            slowest = slowest.max((begun.elapsed(), shown(&statement)));
            // Some end their worker process, and are told so; that is what it is there for.
            let died = answer.status == 500 && answer.text().contains("urn:tidemill:query-worker-died");
            let expected = answer.status == 200 || (400..500).contains(&answer.status);
            if !(expected || answer.status == 503 || died) {
                let (status, text) = (answer.status, answer.text());
                wrong.push(format!("{accept} {}: {status} {text}", shown(&statement)));
            }
            if answer.status != 200 {
                is_problem(&answer, &statement);
            }
            // What takes too long as a document does as a stream, of which one is enough.
            if answer.status == 408 && accept != FORMATS[0] {
                break;
            }
        }
    }
    println!("the slowest took {:?}: {}", slowest.0, slowest.1);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(program.number("select count(*) from running"), 200);
}

#[test]
fn wrong_requests_are_answered_with_what_is_wrong() {
    let (_data, program) = filled();
    let get = |path: &str, headers: &[(&str, &str)]| {
        request(program.address, "GET", path, headers, b"").expect("an answer")
    };
    for (path, status) in [
        ("/v1/sql", 400),
        ("/v1/sql?q=", 400),
        ("/v1/sql?q=SELECT%201&q=SELECT%202", 400),
        ("/v1/sql?q=SELECT%201&limit=-1", 400),
        ("/v1/sql?q=SELECT%201&limit=1e3", 400),
        ("/v1/sql?q=SELECT%201&timeout=0s", 400),
        ("/v1/sql?q=SELECT%201&timeout=99999999999999999999s", 400),
        ("/v1/sql?q=SELECT%201&min_position=0", 400),
        (
            "/v1/sql?q=SELECT%20count(*)%20FROM%20running&min_position=7:1",
            400,
        ),
        ("/v1/sql?q=%ff%fe", 400),
        ("/v1/sql?q=SELECT%201&nothing=1", 400),
        ("/v1/streams/running/events?start=2024-13-01T00:00:00Z", 400),
        ("/v1/streams/running/events?start=2024-01-01", 400),
        ("/v1/streams/running/events?start=9999-12-31T23:59:59Z", 200),
        (
            "/v1/streams/running/events?start=0001-01-01T00:00:00Z&end=9999-12-31T23:59:59%2B14:00",
            200,
        ),
        (
            "/v1/streams/running/events?start=-9223372036854775808&end=9223372036854775807",
            200,
        ),
        ("/v1/streams/running/events?limit=0", 400),
        ("/v1/streams/running/events?limit=99999999999999999999999", 400),
        ("/v1/streams/running/events?cursor=%00%00%00", 400),
        (
            "/v1/streams/running/events?cursor=ffffffffffffffffffffffffff",
            400,
        ),
        (
            "/v1/streams/running/events?cursor=%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC",
            400,
        ),
        ("/v1/streams/running/events?user_id=%00", 400),
        ("/v1/streams/running/events?duration=99999999999999999999", 400),
        ("/v1/streams/running/events/18446744073709551615", 404),
        ("/v1/streams/running/events/18446744073709551616", 400),
        ("/v1/streams/running/events/%30", 200),
        ("/v1/streams/%72unning/events/0", 200),
        ("/v1/streams/%ff/events/0", 400),
        ("/v1/streams/%2e%2e%2f%2e%2e/events/0", 404),
        ("/v1/streams/Running/stats", 404),
        ("/v1/streams/running/stats?interval=9223372036854775807w", 400),
        ("/v1/streams/running/stats?interval=106751991d", 200),
        (
            "/v1/streams/running/stats?interval=1s&start=-9223372036854775808",
            200,
        ),
        ("/v1/streams/running/stats?by=user_id", 200),
        ("/v1/streams/running/stats?by=%00", 400),
        ("/v1/streams/music/stats?interval=1h&by=user_id&exact=true", 200),
        ("/v1/streams/music/events", 200),
        ("/v1/streams/music/events/0", 404),
        ("/v1/streams/_rejects/stats", 200),
        ("/v1/stats", 200),
        ("/v1/streams", 200),
        ("/v1", 404),
        ("/v1/streams/", 404),
        ("/v1/streams/running/events/0/more", 404),
        ("/%00", 404),
    ] {
        let answer = get(path, &[]);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status != 200 {
            is_problem(&answer, path);
        }
    }
    for (accept, status) in [
        ("image/png", 406),
        ("application/json;q=0", 406),
        ("application/json;q=NaN", 406),
        (";;;,,,", 406),
        ("text/*;q=0.1, */*;q=0.2", 200),
        ("APPLICATION/JSON", 200),
    ] {
        let answer = get("/v1/sql?q=SELECT%201", &[("accept", accept)]);
        assert_eq!(answer.status, status, "{accept}: {}", answer.text());
    }
    for (method, path) in [
        ("DELETE", "/v1/streams/running"),
        ("PUT", "/v1/sql"),
        ("PATCH", "/v1/streams/running/events/0"),
        ("POST", "/v1/stats"),
    ] {
        let answer = request(program.address, method, path, &[], b"").expect("an answer");
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        assert!(
            answer.head.contains("\r\nallow: "),
            "{method} {path}: {}",
            answer.head
        );
        is_problem(&answer, path);
    }
}

#[test]
fn wrong_bodies_of_sql_are_answered_with_what_is_wrong() {
    let (_data, program) = filled();
    let deep = format!(
        "{{\"sql\": \"SELECT 1\", \"params\": {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let large = format!("SELECT '{}'", "a".repeat(8 << 20));
    for (media, body, status) in [
        ("application/json", "", 400),
        ("application/json", "null", 400),
        ("application/json", "{\"sql\": 1}", 400),
        (
            "application/json",
            "{\"sql\": \"SELECT $1\", \"params\": [[1]]}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $1\", \"params\": {\"a\": 1}}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $1\", \"params\": []}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $0\", \"params\": [1]}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $99999999999999999999\", \"params\": [1]}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $1\", \"params\": [1e400]}",
            400,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT $1\", \"params\": [18446744073709551615]}",
            200,
        ),
        (
            "application/json",
            "{\"sql\": \"SELECT 1\", \"limit\": \"x\"}",
            400,
        ),
        ("application/json", "{\"sql\": \"SELECT 1\", \"limit\": 0}", 200),
        ("application/json", deep.as_str(), 400),
        ("text/plain", large.as_str(), 413),
    ] {
        let answer = program.post("/v1/sql", media, body.as_bytes());
        assert_eq!(answer.status, status, "{}: {}", shown(body), answer.text());
        if status != 200 {
            is_problem(&answer, body);
        }
    }
    let answer = program.post("/v1/sql", "text/plain", b"SELECT '\xff'");
    assert_eq!(answer.status, 400, "{}", answer.text());
}
