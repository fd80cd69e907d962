//! Rollups of the real binary: every range of the source once, each row equal to a recount of its range, whatever is
//! killed. On one machine, and with Kafka and databases, where one or three processes have one or three partitions.
//!
//! The second half needs `cargo xtask services up`; its variables say where the servers are.

mod harness;
#[path = "cluster/processes.rs"]
#[allow(dead_code, reason = "the suite of the cluster uses more of it")]
mod processes;
#[path = "rollup/recount.rs"]
mod recount;
#[path = "rollup/servers.rs"]
mod servers;

use std::time::Duration;

use harness::{Program, tidemill, until};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount::{Client, STREAMS, check_rows, counted};

const SEED: u64 = 20_261_121;

#[test]
fn rows_of_one_machine_are_exact_after_kills_at_any_moment() {
    exact_after_kills(STREAMS, recount::events);
}

/// Events whose ids come again are in no row, as they are in no answer.
#[test]
fn rows_about_unique_ids_are_exact_after_kills_at_any_moment() {
    exact_after_kills(&recount::unique_streams(), recount::unique_events);
}

fn exact_after_kills(streams: &str, events: fn(u64, u64) -> String) {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 60 } else { 5 };
    println!("seed {SEED}, {kills} kills");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("rollup.toml");
    // Files are rolled often, so that the journal and the lake both have a part of what is read again.
    let text = format!("lake.roll.every = \"200ms\"\n{streams}");
    std::fs::write(&config, text).expect("written");
    let start = || Program::start(folder.path(), &["--config", config.to_str().expect("UTF-8")]);
    let mut program = start();
    for kill in 0..kills {
        let client = Client::posting(SEED + kill, vec![program.address], events);
        std::thread::sleep(Duration::from_millis(random.random_range(100..1_200)));
        program.kill();
        client.stop();
        program = start();
    }
    until("this process has computed a window, too", || {
        program.ndjson("user_activity", &events(0, 150));
        program.metric("tidemill_rollup_windows_total") > 0.0
    });
    let events = program.number("SELECT count(*) FROM user_activity");
    assert!(
        events > 0,
        "nothing was acknowledged, so this test checks nothing"
    );
    until("every event is in a row", || counted(&program) == events);
    let rows = check_rows(&program);
    println!("{events} events in {} rows", rows.len());
    assert!(
        rows.len() as i64 >= events / 100,
        "a row has 100 events at the most"
    );
    let refused = program.ndjson(
        "user_activity_metrics",
        "{\"unique_users\":1,\"page_view_count\":1}\n",
    );
    assert_eq!(refused.status, 405, "{}", refused.text());
    assert!(program.stop().success());
}

#[test]
fn a_stop_leaves_the_open_window_to_the_next_start_unless_it_is_to_be_flushed() {
    for flush in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("rollup.toml");
        let every = format!("every = \"1h\"\nflush_on_stop = {flush}");
        std::fs::write(&config, STREAMS.replace("every = \"1s\"", &every)).expect("written");
        let start = || Program::start(folder.path(), &["--config", config.to_str().expect("UTF-8")]);
        let program = start();
        program.ndjson("user_activity", &recount::events(0, 7));
        assert!(program.stop().success());
        let program = start();
        let expected = if flush { 7 } else { 0 };
        assert_eq!(counted(&program), expected, "flush_on_stop = {flush}");
        // What is full is full, whatever was stopped.
        program.ndjson("user_activity", &recount::events(7, 100));
        until("a window is full", || counted(&program) >= 100);
        check_rows(&program);
        assert!(program.stop().success());
    }
}

#[test]
fn what_cannot_be_a_rollup_is_refused_at_the_start_with_its_key() {
    for (before, after, expected) in [
        (
            "count(DISTINCT user_id)",
            "count(DISTINCT nobody)",
            "streams.user_activity_metrics.rollup.sql",
        ),
        (
            "from = \"user_activity\"",
            "from = \"others\"",
            "no stream `others` is declared",
        ),
        (
            "every = \"1s\"",
            "every = \"1\"",
            "streams.user_activity_metrics.rollup.every",
        ),
        ("rows = 100", "rows = 0", "from 1 to 1000000"),
        ("rows = 100", "row = 100", "rollup.row: unknown key"),
        (
            "unique_users = \"int\"",
            "unique_users = \"string\"",
            "its field is string",
        ),
        (
            "unique_users = \"int\"",
            "unique_users = \"int\"\nsource = \"string\"",
            "every rollup has this field",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("rollup.toml");
        let text = STREAMS.replace(before, after);
        assert_ne!(text, STREAMS, "`{before}` is there");
        std::fs::write(&config, text).expect("written");
        let checked = tidemill(&["check", "--config", config.to_str().expect("UTF-8")])
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success(), "{after} is taken");
        assert!(said.contains(expected), "{after}: {said}");
    }
}
