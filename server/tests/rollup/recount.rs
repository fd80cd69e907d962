//! Events of R2's form, the rollup over them, and the proof that its rows are exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::harness::{Program, request};

/// The activity stream and its metrics.
pub(crate) const STREAMS: &str = r#"
[streams.user_activity]
key = "user_id"
[streams.user_activity.fields]
user_id = "string"
activity_type = "string"

[streams.user_activity_metrics.rollup]
from = "user_activity"
every = "1s"
rows = 100
sql = """
SELECT count(DISTINCT user_id) AS unique_users, count(*) FILTER (WHERE activity_type = 'page_view') AS page_view_count
FROM user_activity"""
[streams.user_activity_metrics.fields]
unique_users = "int"
page_view_count = "int"
"#;

/// `count` events from number `from` on.
pub(crate) fn events(from: u64, count: u64) -> String {
    let line = |number: u64| {
        let kind = if number.is_multiple_of(3) {
            "page_view"
        } else {
            "click"
        };
        format!(
            "{{\"user_id\":\"u{}\",\"activity_type\":\"{kind}\"}}\n",
            number * 7 % 97
        )
    };
    (from..from + count).map(line).collect()
}

/// The same stream with an id in every event, of which each is stored once within two seconds.
pub(crate) fn unique_streams() -> String {
    let unique = "unique = \"event_id\"\nunique_window = \"2s\"";
    let streams = STREAMS.replace("key = \"user_id\"", unique);
    streams.replace("user_id = \"string\"", "event_id = \"int\"\nuser_id = \"string\"")
}

/// The same events with ids, of which there are few.
pub(crate) fn unique_events(from: u64, count: u64) -> String {
    let with_id = |(number, line): (u64, &str)| {
        let id = number % 4_000;
        format!("{{\"event_id\":{id},{}\n", &line[1..])
    };
    (from..).zip(events(from, count).lines()).map(with_id).collect()
}

/// Posts events to some processes for as long as it lives; what a process does not answer is sent to the next one.
pub(crate) struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Client {
    /// `events` says what: so many events from a number on.
    pub(crate) fn posting(seed: u64, addresses: Vec<SocketAddr>, events: fn(u64, u64) -> String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
        let pause = Duration::from_millis(if soak { 100 } else { 5 });
        let thread = std::thread::spawn(move || {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            while !stopping.load(Ordering::Relaxed) {
                let body = events(random.random_range(0..100_000), random.random_range(1..250));
                let address = addresses[random.random_range(0..addresses.len())];
                let headers = [("content-type", "application/x-ndjson")];
                let path = "/v1/streams/user_activity/events";
                // Whether it was taken is not asked: the source itself says what there is.
                let _ = request(address, "POST", path, &headers, body.as_bytes());
                // Every row is recounted, and one answer has them all.
                std::thread::sleep(pause);
            }
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client ends");
    }
}

/// Events that are in some row.
pub(crate) fn counted(program: &Program) -> i64 {
    program.number("SELECT coalesce(sum(source_rows), 0) FROM user_activity_metrics")
}

/// One row of the rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) window_start: String,
    pub(crate) unique_users: i64,
    pub(crate) page_view_count: i64,
}

/// Checks that the ranges are contiguous, that no window overlaps another one, and that each row equals a recount.
pub(crate) fn check_rows(program: &Program) -> Vec<Row> {
    let rows = program.rows(
        "SELECT window_start, window_end, unique_users, page_view_count, source_rows, source \
         FROM user_activity_metrics ORDER BY _offset, _row",
    );
    let mut reached: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut last_end = String::new();
    let mut found = Vec::new();
    for row in &rows {
        let text = |column: usize| row[column].as_str().expect("text").to_owned();
        let number = |column: usize| row[column].as_i64().expect("a number");
        // Without the zone, so that a fraction sorts behind none.
        let moment = |column: usize| text(column).trim_end_matches('Z').to_owned();
        assert!(
            moment(0) >= last_end,
            "{row}: the window before ended at {last_end}"
        );
        assert!(moment(1) >= moment(0), "{row}");
        last_end = moment(1);
        assert!((1..=100).contains(&number(4)), "{row}");
        let source: Value = match &row[5] {
            Value::String(text) => serde_json::from_str(text).expect("JSON"),
            other => other.clone(),
        };
        let mut parts = Vec::new();
        for range in source["ranges"].as_array().expect("ranges") {
            let of = |key: &str| range[key].as_u64().expect("a number");
            let (partition, from, from_row) = (of("partition"), of("from"), of("from_row"));
            let (to, to_row) = (of("to"), of("to_row"));
            let before = reached.insert(partition, (to, to_row)).unwrap_or_default();
            assert_eq!(before, (from, from_row), "{row}: ranges are contiguous");
            parts.push(format!(
                "(_partition = {partition} AND (_offset > {from} OR _offset = {from} AND _row >= {from_row}) \
                 AND (_offset < {to} OR _offset = {to} AND _row < {to_row}))"
            ));
        }
        let recount = program.rows(&format!(
            "SELECT count(DISTINCT user_id), count(*) FILTER (WHERE activity_type = 'page_view'), count(*) \
             FROM user_activity WHERE {}",
            parts.join(" OR ")
        ));
        assert_eq!(
            recount[0],
            serde_json::json!([number(2), number(3), number(4)]),
            "{row}"
        );
        found.push(Row {
            window_start: text(0),
            unique_users: number(2),
            page_view_count: number(3),
        });
    }
    found
}
