//! SQL: formats, limits, what is refused, and what must not kill the process.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::world::{World, append, call, post_sql};

async fn filled(seed: u64) -> World {
    let mut world = World::with(seed, |options| options.timeout = Duration::from_secs(3));
    world.append(50).await;
    world.roll(1).await;
    world.append(50).await;
    world
}

async fn in_format(world: &World, accept: &str, sql: &str) -> (StatusCode, bytes::Bytes) {
    let request = Request::post("/v1/sql")
        .header("accept", accept)
        .body(Body::from(sql.to_owned()));
    let (status, _, body) = call(&world.analytics, request.expect("a request")).await;
    (status, body)
}

#[tokio::test]
async fn every_format_has_the_same_rows() {
    let world = filled(31).await;
    let sql = "SELECT user_id, duration, score, at FROM run ORDER BY _index";
    let rows = world.sql(sql).await;
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 100);

    let (_, ndjson) = in_format(&world, "application/x-ndjson", sql).await;
    let lines: Vec<Value> = ndjson
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    let listed: Vec<Value> = lines
        .iter()
        .map(|line| json!([line["user_id"], line["duration"], line["score"], line["at"]]))
        .collect();
    assert_eq!(&listed, rows);

    let (_, csv) = in_format(&world, "text/csv", sql).await;
    let csv = String::from_utf8(csv.to_vec()).expect("text");
    assert_eq!(csv.lines().next(), Some("user_id,duration,score,at"));
    assert_eq!(csv.lines().count(), 101);
    assert!(
        csv.lines()
            .nth(1)
            .expect("a row")
            .starts_with(rows[0][0].as_str().expect("text")),
        "{csv}"
    );

    let (_, arrow) = in_format(&world, "application/vnd.apache.arrow.stream", sql).await;
    let reader = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(arrow), None).expect("Arrow");
    assert_eq!(
        reader.map(|batch| batch.expect("rows").num_rows()).sum::<usize>(),
        100
    );

    let (_, parquet) = in_format(&world, "application/vnd.apache.parquet", sql).await;
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).expect("Parquet");
    assert_eq!(reader.metadata().file_metadata().num_rows(), 100);

    let (_, text) = in_format(&world, "text/plain", sql).await;
    assert!(
        String::from_utf8(text.to_vec())
            .expect("text")
            .ends_with("\n100 rows\n")
    );
    assert_eq!(
        in_format(&world, "image/png", sql).await.0,
        StatusCode::NOT_ACCEPTABLE
    );
}

#[tokio::test]
async fn a_star_leaves_out_where_a_row_came_from() {
    let world = filled(32).await;
    for (sql, columns) in [
        ("SELECT * FROM run LIMIT 1", 8),
        ("SELECT * FROM run WHERE _index > 3 ORDER BY _offset LIMIT 1", 8),
        ("SELECT *, _index FROM run LIMIT 1", 9),
        ("SELECT r.* FROM run r WHERE r._row = 0 LIMIT 1", 8),
        ("SELECT * FROM (SELECT _index FROM run) LIMIT 1", 1),
        (
            "SELECT * FROM run a JOIN run b ON a._index = b._index LIMIT 1",
            16,
        ),
        ("SELECT _partition, _offset, _row, _index FROM run LIMIT 1", 4),
    ] {
        let rows = world.sql(sql).await;
        assert_eq!(rows[0].as_array().map(Vec::len), Some(columns), "{sql}: {rows}");
    }
}

#[tokio::test]
async fn sums_of_integers_never_wrap() {
    let mut world = World::new(33);
    world.append(1).await;
    let mut event = world.model[0].clone();
    event.duration = i64::MAX;
    append(&world.journal, &[event.clone(), event.clone(), event]).await;
    let rows = world
        .sql("SELECT sum(duration) > 9223372036854775807 FROM run WHERE duration = 9223372036854775807")
        .await;
    assert_eq!(rows, json!([[true]]));
    let window = world.sql("SELECT sum(duration) OVER (ORDER BY _index ROWS 1 PRECEDING) > 9223372036854775807 FROM run ORDER BY _index DESC LIMIT 1").await;
    assert_eq!(window, json!([[true]]));
    let (_, stats) = world
        .get("/v1/streams/run/stats?duration=9223372036854775807")
        .await;
    assert_eq!(stats["fields"]["duration"]["sum"], "27670116110564327421");
    let same = world
        .sql("SELECT sum(duration) FROM run WHERE duration = 9223372036854775807")
        .await;
    assert_eq!(same, json!([["27670116110564327421"]]));
}

#[tokio::test]
async fn parameters_limits_and_positions_are_honoured() {
    let world = filled(34).await;
    let ask = async |body: Value| post_sql(&world.analytics, &body).await;
    let (_, answer) = ask(json!({"sql": "SELECT $1 + 1, $2", "params": [41, "a'b"]})).await;
    assert_eq!(answer["rows"], json!([[42, "a'b"]]), "{answer}");
    let (_, answer) =
        ask(json!({"sql": "SELECT count(*) FROM run WHERE kind = $kind", "params": {"kind": "none"}})).await;
    assert_eq!(answer["rows"], json!([[0]]), "{answer}");
    let (_, answer) = ask(json!({"sql": "SELECT * FROM run", "limit": 7})).await;
    assert_eq!(
        (&answer["row_count"], &answer["truncated"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(
        answer["as_of"]["run"]["positions"],
        json!([{"partition": 0, "offset": 2}])
    );
    let (_, answer) = ask(json!({"sql": "SELECT * FROM generate_series(1, 20000)"})).await;
    assert_eq!(
        (&answer["row_count"], &answer["truncated"]),
        (&json!(10_000), &json!(true))
    );
    let (status, _) = ask(json!({"sql": "SELECT count(*) FROM run", "min_position": "0:2"})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) =
        ask(json!({"sql": "SELECT count(*) FROM run", "min_position": "0:99", "timeout": "300ms"})).await;
    assert!(
        status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::REQUEST_TIMEOUT,
        "{status}"
    );
    for wrong in [
        json!({"sql": "SELECT 1", "limit": -1}),
        json!({"sql": "SELECT 1", "timeout": "soon"}),
        json!({"sql": "SELECT 1", "other": 1}),
        json!({"sql": "SELECT nothing FROM run"}),
        json!({"sql": "SELECT * FROM none"}),
        json!({"sql": "SELECT $1"}),
        json!({}),
        json!([]),
    ] {
        let (status, problem) = ask(wrong.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {problem}");
    }
}

#[tokio::test]
async fn json_columns_can_be_asked() {
    let world = filled(35).await;
    let rows = world
        .sql("SELECT count(*) FROM run WHERE json_get_int(extra, 'n') = duration")
        .await;
    let with_extra = world.model.iter().filter(|event| event.extra().is_some());
    assert_eq!(rows, json!([[with_extra.count()]]));
}

/// A query over a query, `times` times.
fn doubling(innermost: &str, columns: &str, times: usize) -> String {
    let mut sql = format!("WITH t0 AS ({innermost})");
    for at in 1..=times {
        sql += &format!(", t{at} AS (SELECT {columns} FROM t{})", at - 1);
    }
    format!("{sql} SELECT * FROM t{times}")
}

/// Each of these ended or blocked a process once; here each ends in an error, in bounded time, and the next
/// question is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killers_end_in_an_error_in_bounded_time() {
    let world = filled(36).await;
    let killers = [
        format!("SELECT count(*) FROM run WHERE {}", vec!["duration = 1"; 20_000].join(" OR ")),
        vec!["SELECT 1"; 5_000].join(" UNION ALL "),
        "SELECT repeat('a', 2000000000)".to_owned(),
        "SELECT lpad('a', 2000000000)".to_owned(),
        "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x FROM a) SELECT count(*) FROM a".to_owned(),
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT {}", vec!["abs(1)"; 3_000].join(" + ")),
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value < b.value".to_owned(),
        "SELECT count(*) FROM generate_series(1, 9223372036854775806)".to_owned(),
        format!("SELECT replace('{0}', 'a', '{0}')", "a".repeat(30_000)),
        format!("SELECT regexp_replace('{0}', 'a', '{0}', 'g')", "a".repeat(15_000)),
        format!("SELECT concat_ws('{}', {}kind) FROM run", "a".repeat(30_000), "kind, ".repeat(9_000)),
        format!("SELECT array_to_string(string_to_array('{0}', ''), '{0}')", "a".repeat(15_000)),
        // 125 MB, as much as an answer may have and as much again.
        format!("SELECT max(replace(replace('{0}', 'a', '{0}'), 'a', '{0}'))", "a".repeat(500)),
        doubling("SELECT 'aaaaaaaa' AS x", "x || x AS x", 40),
        doubling("SELECT kind AS x FROM run", "concat(x, x) AS x", 40),
        doubling("SELECT make_array(duration) AS x FROM run", "make_array(x, x) AS x", 40),
        doubling("SELECT duration AS x FROM run", "x + x AS x", 60) + " WHERE x > 0",
        doubling("SELECT duration AS x FROM run", "x + x + x + x + x + x + x + x + x + x AS x", 12) + " WHERE x > 0",
        doubling("SELECT * FROM run", "*, *", 20),
        format!("SELECT '{}', kind FROM run", "a".repeat(100_000)),
        format!("SELECT to_char(at, '{}') FROM run", "%Y%m%d".repeat(20_000)),
        "SELECT count(*) FROM generate_series(1, 30000000) a JOIN generate_series(1, 1000) b ON a.value % 2 = b.value % 2 WHERE a.value * b.value < 0".to_owned(),
        "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 100000) b WHERE a.value + b.value < 0".to_owned(),
        "SELECT arrow_cast('a', 'FixedSizeBinary(2147483647)')".to_owned(),
        "COPY run TO '/tmp/out.csv'".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
        "SELECT pg_sleep(100)".to_owned(),
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        format!("SELECT {}", "x".repeat(1 << 19)),
    ];
    for sql in killers {
        let begun = Instant::now();
        let (status, problem) = post_sql(&world.analytics, &json!({"sql": sql})).await;
        let shown: String = sql.chars().take(60).collect();
        assert!(
            status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE,
            "{shown}: {status} {problem}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{shown}");
        assert_eq!(
            world.sql("SELECT count(*) FROM run").await,
            json!([[100]]),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn one_query_too_many_gets_429_and_when_to_come_back() {
    let world = World::with(37, |options| options.queries_max = 0);
    let request = Request::get("/v1/sql?q=SELECT%201")
        .body(Body::empty())
        .expect("a request");
    let (status, headers, _) = call(&world.analytics, request).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(headers.contains_key("retry-after"));
}
