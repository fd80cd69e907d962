//! The same events in a directory and in a bucket: every answer is the same (issue 4, point 8).
//!
//! Method: one journal, two lakes that have the same files up to the same position, and a tail. Each question is asked
//! of both. Needs an S3 server (`cargo xtask services up`).

#[path = "../../lake/tests/shared/s3.rs"]
#[allow(dead_code, reason = "the tests of the lake use the rest")]
mod s3;

use std::sync::Arc;

use analytics::{Analytics, AnalyticsOptions};
use axum::body::Body;
use bytes::Bytes;
use event::{Batch, Catalog, Offset, Partition, Span, StreamDeclaration, TraceId, decode, schema};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use lake::{Advance, CompactOptions, Lake, LakeOptions, Location, StoreSettings, Table, WriterOptions};
use serde_json::{Value, json};
use tower::ServiceExt;

/// 2024-01-01, microseconds.
const BASE: i64 = 1_704_067_200_000_000;
const RECORDS: u64 = 24;
const ROWS: u64 = 50;

fn stream() -> StreamDeclaration {
    let mut starters = StreamDeclaration::starters().into_iter();
    starters
        .find(|stream| stream.name.as_str() == "running")
        .expect("a starter stream")
}

fn lines(record: u64) -> Bytes {
    let mut lines = String::new();
    for row in 0..ROWS {
        let number = record * ROWS + row;
        let line = json!({
            "user_id": uuid::Uuid::from_u128(u128::from(number % 17)).to_string(),
            "duration": number * 7 % 1_000,
            "distance": number * 13 % 5_000,
            "timestamp": format!("2024-01-01T{:02}:{:02}:00Z", number / 60, number % 60),
        });
        lines.push_str(&format!("{line}\n"));
    }
    lines.into()
}

fn batch(record: u64) -> Batch {
    let mut decoder = decode::Decoder::new(Arc::new(stream()), decode::Format::Ndjson);
    decoder.push(lines(record)).expect("lines");
    let decoded = decoder.finish().expect("a body");
    assert_eq!(decoded.rejects.total(), 0, "{:?}", decoded.rejects);
    let rows = decoded.batches.into_iter().next().expect("one batch");
    Batch {
        stream: stream().name,
        partition: Partition(0),
        version: stream().version,
        spans: vec![Span {
            rows: ROWS as u32,
            trace_id: TraceId::from_bytes([7; 16]),
            received_at: BASE,
            idempotency_key: None,
            producer: None,
        }],
        rows,
    }
}

/// Commits of three records, of all but the last six; then some of them are merged.
async fn fill(table: &Table) {
    let stream = table.declaration();
    for from in (0..RECORDS - 6).step_by(3) {
        let mut writer = table.writer(&WriterOptions::default()).expect("a writer");
        for offset in from..from + 3 {
            let rows = schema::to_lake(&batch(offset), Offset(offset), stream);
            writer.write(&rows.expect("rows of the lake")).expect("written");
        }
        let advance = Advance {
            partition: Partition(0),
            from: Offset(from),
            to: Offset(from + 3),
        };
        let file = writer.finish().expect("finished");
        table.commit(vec![file], &[advance]).await.expect("committed");
        if from == 9 {
            let options = CompactOptions {
                small_bytes: 1 << 20,
                target_bytes: 1 << 20,
            };
            table
                .compact(&options, &WriterOptions::default())
                .await
                .expect("compacted");
        }
    }
}

async fn analytics(
    options: LakeOptions,
    journal: &Arc<EmbeddedJournal>,
    cache: &std::path::Path,
) -> Analytics {
    let lake = Lake::open(options.clone()).await.expect("opens");
    fill(&lake.table(Arc::new(stream())).await.expect("opens")).await;
    drop(lake);
    let reading = LakeOptions {
        read_only: true,
        ..options
    };
    let lake = Lake::open(reading).await.expect("opens");
    let journal: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(journal);
    let options = AnalyticsOptions::new(cache.to_owned());
    let opened = Analytics::open(Catalog::new([stream()]), lake, journal, options).await;
    opened.expect("opens")
}

async fn ask(analytics: &Analytics, request: Request<Body>) -> (StatusCode, Value) {
    let response = analytics.router().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if let Some(answer) = answer.as_object_mut() {
        // Versions differ when one of them was conflicted; times always do.
        answer.remove("as_of");
        answer.remove("elapsed_ms");
        answer.remove("trace_id");
        answer.remove("instance");
    }
    (head.status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_from_a_bucket_are_those_from_a_directory() {
    let Some(bucket) = s3::Bucket::create().await else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = EmbeddedOptions::new(directory.path().join("journal"));
    (options.segment_bytes, options.disk_reserve_bytes) = (1 << 20, 0);
    let journal = EmbeddedJournal::open(options).expect("a journal");
    for record in 0..RECORDS {
        journal.append(vec![batch(record)]).await.expect("durable");
    }
    let id = journal.id().to_string();
    let in_directory = LakeOptions::new(Location::from(directory.path().join("lake")), id.clone());
    let root = Location::parse(&format!("s3://{}/a/lake", bucket.name)).expect("a location");
    let in_bucket = LakeOptions {
        store: StoreSettings::new(bucket.settings.clone()),
        ..LakeOptions::new(root, id)
    };
    let local = analytics(in_directory, &journal, &directory.path().join("cache-1")).await;
    let remote = analytics(in_bucket, &journal, &directory.path().join("cache-2")).await;

    let mut paths: Vec<String> = [0, 1, 149, 150, 449, 899, 900, 1_199, 1_200]
        .map(|index| format!("/v1/streams/running/events/{index}"))
        .into();
    for question in [
        "events?limit=7",
        "events?start=2024-01-01T02:00:00Z&end=2024-01-01T05:00:00Z&limit=1000",
        "events?start=2024-01-01T14:00:00Z&limit=500",
        "stats",
        "stats?start=2024-01-01T01:30:00Z&end=2024-01-01T17:00:00Z",
        "stats?interval=1h",
        "stats?by=user_id",
        "stats?exact=true",
    ] {
        paths.push(format!("/v1/streams/running/{question}"));
    }
    paths.push("/v1/stats".to_owned());
    // Twice: the second time footers and partial aggregates are known.
    for path in paths.iter().chain(&paths) {
        let request = || Request::get(path).body(Body::empty()).expect("a request");
        let expected = ask(&local, request()).await;
        let found = ask(&remote, request()).await;
        assert_eq!(found, expected, "{path}");
        let past = path.ends_with("/1200");
        assert_eq!(
            found.0,
            if past {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::OK
            },
            "{path}"
        );
    }
    for sql in [
        "SELECT count(*), sum(duration), min(timestamp), max(distance) FROM running",
        "SELECT user_id, count(*) FROM running GROUP BY user_id ORDER BY user_id",
        "SELECT *, _index FROM running WHERE _index BETWEEN 440 AND 460 ORDER BY _index",
        "SELECT date_trunc('hour', timestamp) AS hour, avg(duration) FROM running GROUP BY hour ORDER BY hour",
        "SELECT * FROM running WHERE timestamp >= '2024-01-01T14:50:00Z' ORDER BY timestamp LIMIT 20",
        "SELECT * FROM running ORDER BY _index OFFSET 890 LIMIT 20",
        "SELECT count(*) FROM running WHERE user_id = '00000000-0000-0000-0000-000000000003'",
    ] {
        let request = || {
            let request = Request::post("/v1/sql").header("content-type", "application/json");
            request
                .body(Body::from(json!({"sql": sql}).to_string()))
                .expect("a request")
        };
        let expected = ask(&local, request()).await;
        let found = ask(&remote, request()).await;
        assert_eq!(found, expected, "{sql}");
        assert_eq!(found.0, StatusCode::OK, "{sql}: {}", found.1);
    }
    drop((local, remote));
    journal.close().await;
    bucket.remove().await;
}
