//! The same input gives the same answers, embedded and as processes around Kafka (I-6).

use std::fmt::Write;

use serde_json::Value;

use crate::harness::{Program, until};
use crate::processes::{Installation, Servers, caught_up};

const EVENTS: u64 = 5_000;

/// Questions whose answers are compared; `{cursor}` is the last answer's.
const QUESTIONS: &[&str] = &[
    "/v1/streams/running/events/0",
    "/v1/streams/running/events/4321",
    "/v1/streams/running/events/4999",
    "/v1/streams/running/events/5000",
    "/v1/streams/running/events?limit=7",
    "/v1/streams/running/events?limit=1000&start=2024-09-10T09:10:00Z&end=2024-09-10T09:40:00Z",
    "/v1/streams/running/events?limit=3&start=2024-09-10T09:10:00Z&duration=77",
    "/v1/streams/running/stats",
    "/v1/streams/running/stats?exact=true",
    "/v1/streams/running/stats?interval=10m",
    "/v1/streams/running/stats?start=2024-09-10T09:10:00Z&end=2024-09-10T09:40:00Z&by=duration",
];

const STATEMENTS: &[&str] = &[
    "select count(*), min(duration), max(distance), sum(distance), count(distinct user_id) from running",
    "select date_trunc('minute', timestamp) m, count(*), avg(duration) from running group by m order by m",
    "select user_id, duration, _index from running where duration % 501 = 3 order by _index",
    "select * from running where user_id = '00000000-0000-4000-8000-0000000003e7'",
    "select _index, duration from running order by _index limit 5 offset 4000",
];

/// Lines for one request after the other; every one is different and in the same order everywhere.
fn requests() -> Vec<String> {
    let numbers: Vec<u64> = (0..EVENTS).collect();
    let request = |numbers: &[u64]| {
        let mut lines = String::new();
        for number in numbers {
            let (minute, second) = ((number / 60) % 60, number % 60);
            writeln!(
                lines,
                "{{\"user_id\":\"00000000-0000-4000-8000-{number:012x}\",\"duration\":{},\"distance\":{},\
                 \"timestamp\":\"2024-09-10T09:{minute:02}:{second:02}Z\"}}",
                number % 1_003,
                number % 10_000
            )
            .expect("text");
        }
        lines
    };
    numbers.chunks(700).map(request).collect()
}

#[test]
fn the_same_input_gives_the_same_answers_embedded_and_on_kafka() {
    let Some(servers) = Servers::find() else { return };
    same(&servers, &Installation::new(&servers, 1, ""));
}

#[test]
fn the_same_input_gives_the_same_answers_with_the_lake_in_a_bucket() {
    let Some(servers) = Servers::find() else { return };
    // It comes with the variables of the S3 server, which the processes inherit.
    let Some(bucket) = std::env::var_os("S3_BUCKET") else {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none(),
            "S3_BUCKET must be set"
        );
        println!("SKIPPED: needs an S3 server (cargo xtask services up)");
        return;
    };
    let bucket = bucket.into_string().expect("UTF-8");
    same(&servers, &Installation::with_lake(&servers, 1, "", Some(&bucket)));
}

/// Asks an embedded server and the processes of an installation the same, while some of it is in the tail, and when
/// all of it is in the lake.
fn same(servers: &Servers, installation: &Installation) {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Program::start(directory.path(), &[]);
    let ingest = installation.start("ingest", 0);
    let sinks = [installation.start("sink", 0), installation.start("sink", 1)];
    let analytics = installation.start("analytics", 0);
    let requests = requests();
    let (most, last) = requests.split_at(requests.len() - 1);
    for request in most {
        post_to(&embedded, request);
        post_to(&ingest.program, request);
    }
    let sink_programs = sinks.each_ref().map(|sink| &sink.program);
    until("the lake has the first part", || {
        caught_up(&sink_programs, "running", 1)
    });
    // The last part is asked for from the tail.
    post_to(&embedded, &last[0]);
    post_to(&ingest.program, &last[0]);
    compare(&embedded, &analytics.program);
    until("the lake has all of it", || {
        caught_up(&sink_programs, "running", 1)
    });
    compare(&embedded, &analytics.program);

    for stream in ["running", "music", "activity", "tracking", "detection"] {
        let name = &installation.name;
        servers.mysql(&format!("drop table if exists `{name}_{stream}`"));
        servers.postgres(&format!("drop table if exists \"{name}_{stream}\""));
    }
}

fn post_to(program: &Program, lines: &str) {
    let answer = program.ndjson("running", lines);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn compare(embedded: &Program, cluster: &Program) {
    for question in QUESTIONS {
        let [here, there] = [embedded, cluster].map(|program| {
            let answer = program.get(question);
            (answer.status, comparable(answer.json()))
        });
        assert_eq!(here, there, "{question}");
    }
    for statement in STATEMENTS {
        let [here, there] = [embedded, cluster].map(|program| {
            let answer = program.post("/v1/sql", "text/plain", statement.as_bytes());
            (answer.status, comparable(answer.json()))
        });
        assert_eq!(here.0, 200, "{statement}: {}", here.1);
        assert_eq!(here, there, "{statement}");
    }
    // Every event through cursors.
    let [here, there] = [embedded, cluster].map(all_pages);
    assert_eq!(here.len() as u64, EVENTS, "all that was posted");
    assert_eq!(here, there);
}

fn all_pages(program: &Program) -> Vec<Value> {
    let mut events = Vec::new();
    let mut path = "/v1/streams/running/events?limit=999".to_owned();
    loop {
        let page = program.get(&path).json();
        events.extend(
            page["events"]
                .as_array()
                .expect("events")
                .iter()
                .cloned()
                .map(comparable),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/streams/running/events?limit=999&cursor={cursor}"),
            None => return events,
        }
    }
}

/// An answer without what says when and under which trace it was made, and where in the lake.
fn comparable(mut answer: Value) -> Value {
    const OWN: &[&str] = &[
        "_received_at",
        "_trace_id",
        "as_of",
        "elapsed_ms",
        "next_cursor",
        "trace_id",
        "instance",
    ];
    if let Value::Object(object) = &mut answer {
        if let Some(columns) = object.get("columns").and_then(Value::as_array).cloned() {
            let own = |index: &usize| OWN.contains(&columns[*index]["name"].as_str().unwrap_or_default());
            let own: Vec<_> = (0..columns.len()).filter(own).collect();
            for row in object["rows"].as_array_mut().into_iter().flatten() {
                for index in &own {
                    row[*index] = Value::Null;
                }
            }
        }
        object.retain(|key, _| !OWN.contains(&key.as_str()));
        for value in object.values_mut() {
            *value = comparable(value.take());
        }
    } else if let Value::Array(list) = &mut answer {
        for value in list {
            *value = comparable(value.take());
        }
    }
    answer
}
