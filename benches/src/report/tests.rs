//! The page is whole, loads nothing, and shows what others wrote as text.

use serde_json::{Map, Value, json};

use super::page::page;
use super::sections::recorded_p99;
use super::*;

fn measured(name: &str) -> Measured {
    let report = json!({
        "open_loop": true, "connections": 64, "requests": 10, "accepted": 1_000, "rejected": 0, "failed": 0,
        "unknown": 0, "retries": 0, "reconnects": 0, "untimed": 0, "bytes": 1_000, "seconds": 1.0,
        "events_per_second": 1_000.0, "megabytes_per_second": 0.1, "late_ms_max": 0.5, "stopped": false,
        "latency": {"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 6.0, "p99_9_ms": 8.0, "max_ms": 9.0},
        "problems": [], "problem_count": 0,
    });
    let sample = |at_s: f64| Sample {
        at_s,
        events_per_second: 900.0,
        megabytes_per_second: 0.1,
        rss_anon: 64 << 20,
        lag_records: Some(3),
    };
    Measured {
        name: name.to_owned(),
        about: "a < b".to_owned(),
        report: serde_json::from_value(report).expect("a report"),
        half_of: None,
        used: crate::processors::Used {
            server_s: 0.5,
            load_s: 0.25,
            others_s: 0.0,
        },
        rss_anon_peak: 64 << 20,
        lag_records: Some(3),
        lag_gone_s: Some(0.1),
        fdatasync_ms: crate::spread::Spread::of(vec![2.0]),
        visible_ms: None,
        course: vec![sample(0.5), sample(1.0)],
    }
}

fn parts(name: &str) -> Parts {
    let line = |p99: f64| json!({"scenarios": {name: {"report": {"latency": {"p99_ms": p99}}}}});
    Parts {
        scenarios: Some(Document {
            head: Map::new(),
            seconds: 1.0,
            scenarios: vec![measured(name)],
            criterion_median_ns: Map::from_iter([("decode/running".to_owned(), json!(1_500_000.0))]),
        }),
        peers: None,
        growth: None,
        history: vec![line(5.0), Value::Null, line(6.0)],
    }
}

#[test]
fn the_page_loads_nothing_and_every_name_is_text_in_it() {
    let page = page(&parts("<script>alert(1)</script>"));
    assert!(!page.contains("<script"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("@import"));
    assert!(page.contains("a &lt; b") && page.contains("&lt;script&gt;"));
    // Throughput, lag, memory, history, one chart of latency and one of processor time.
    assert_eq!(page.matches("<svg").count(), 6);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn latency_is_told_in_fdatasync_times_of_an_open_loop_only() {
    let mut one = measured("one");
    assert_eq!(one.p99_in_syncs(), Some(3.0));
    assert_eq!(one.cpu_per_million(), [500.0, 250.0, 0.0]);
    one.report.open_loop = false;
    assert_eq!(one.p99_in_syncs(), None);
}

#[test]
fn recorded_runs_without_the_scenario_are_left_out() {
    assert_eq!(
        recorded_p99("one", &parts("one").history),
        [(1.0, 5.0), (2.0, 6.0)]
    );
}

#[test]
fn figures_are_read_back_as_they_were_written() {
    let document = parts("one").scenarios.expect("scenarios");
    let text = serde_json::to_string(&document).expect("JSON");
    let read: Document = serde_json::from_str(&text).expect("the same");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
}
