//! What was acknowledged is there for the next question, once, and pages have no gap and no double, while events
//! arrive and files roll and are compacted.
//!
//! Times are printed, never asserted.

mod harness;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use harness::{Program, running};
use serde_json::{Value, json};

const WRITERS: u64 = 2;

fn rounds() -> u64 {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        2_000
    } else {
        60
    }
}

/// A configuration under which files roll and are compacted many times a second.
fn short_rolls(directory: &Path) -> String {
    let file = directory.join("short.toml");
    let text = "[lake.roll]\nevery = \"100ms\"\nsize = \"1MiB\"\n[lake.compact]\nevery = \"300ms\"\n";
    std::fs::write(&file, text).expect("write");
    file.to_str().expect("UTF-8").to_owned()
}

/// Says that it is over, also when a thread panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The first question after an answer counts each row of it exactly once, whoever else writes; and the index of
/// all rows is dense at every moment: sum(_index) of n rows is n(n-1)/2 only when each of them is there once.
#[test]
fn an_acknowledged_row_is_seen_once_by_the_very_next_question() {
    let data = tempfile::tempdir().expect("a directory");
    let program = Program::start(data.path(), &["--config", &short_rolls(data.path())]);
    let (acknowledged, over) = (AtomicI64::new(0), AtomicBool::new(false));
    let waits = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (program, acknowledged, waits) = (&program, &acknowledged, &waits);
                scope.spawn(move || write(program, writer, acknowledged, waits))
            })
            .collect();
        let counter = scope.spawn(|| {
            let mut counts = 0;
            while !over.load(Ordering::SeqCst) {
                let at_least = acknowledged.load(Ordering::SeqCst);
                let rows = program.rows("select count(*), coalesce(sum(_index), 0) from running");
                let count = rows[0][0].as_i64().expect("a count");
                assert!(
                    count >= at_least,
                    "{count} rows after {at_least} were acknowledged"
                );
                assert_eq!(rows[0][1], json!(count * (count - 1) / 2), "{count} rows");
                counts += 1;
            }
            counts
        });
        let end = Over(&over);
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        drop(end);
        assert!(ended.iter().all(Result::is_ok), "a writer failed");
        println!("{} counts of all rows", counter.join().expect("the counter"));
    });
    let mut waits = waits.into_inner().expect("whole");
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "from acknowledgement to the SQL answer that has the rows, {} times: p50 {:?}, p99 {:?}, max {:?}",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(
        program.metric("tidemill_sink_commits_total") >= 2.0,
        "no file was rolled"
    );
}

fn write(program: &Program, writer: u64, acknowledged: &AtomicI64, waits: &Mutex<Vec<Duration>>) {
    let mut next = writer * 1_000_000_000;
    for round in 0..rounds() {
        let count = 1 + round * 37 % 400;
        let answer = program.ndjson("running", &running(next, count));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let begun = Instant::now();
        acknowledged.fetch_add(i64::try_from(count).expect("small"), Ordering::SeqCst);
        let rows = program.rows(&format!(
            "select count(*), count(distinct duration) from running where duration >= {next} and duration < {}",
            next + count
        ));
        waits.lock().expect("whole").push(begun.elapsed());
        assert_eq!(rows[0], json!([count, count]), "round {round}");
        next += count;
    }
}

/// A range is paged through from its beginning while more events of it arrive: what the pages give is what the
/// table gives in index order, without a gap or a double.
#[test]
fn pages_of_a_range_have_no_gap_and_no_double_while_events_arrive() {
    const BATCH: u64 = 500;
    let data = tempfile::tempdir().expect("a directory");
    let program = Program::start(data.path(), &["--config", &short_rolls(data.path())]);
    let before = 10 * BATCH;
    assert_eq!(program.ndjson("running", &running(0, before)).status, 200);
    let over = AtomicBool::new(false);
    let range = "start=2024-09-10T09:10:00Z&end=2024-09-10T09:25:00Z";
    let found = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut next = before;
            // Bounded, so that whoever pages reaches the end at last.
            while !over.load(Ordering::SeqCst) && next < 200_000 {
                assert_eq!(program.ndjson("running", &running(next, BATCH)).status, 200);
                next += BATCH;
            }
        });
        let found = {
            let _end = Over(&over);
            (0..rounds() / 20)
                .map(|_| pages(&program, range))
                .collect::<Vec<_>>()
        };
        writer.join().expect("the writer");
        found
    });
    // One writer, so the number of an event is its index.
    let of_range = |number: &u64| (10..25).contains(&(number / 60 % 60));
    for found in found {
        let least = (0..before).filter(of_range).count();
        assert!(found.len() >= least, "{} events of {least} and more", found.len());
        let expected = (0..).filter(of_range).map(|number| json!([number, number]));
        let wrong = found
            .iter()
            .zip(expected)
            .position(|(found, expected)| *found != expected);
        assert_eq!(wrong, None, "of {} events", found.len());
    }
}

/// (index, duration) of all events of a range, page by page.
fn pages(program: &Program, range: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/streams/running/events?{range}&limit=97{cursor}");
        let answer = program.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let events = page["events"].as_array().expect("events").iter();
        found.extend(events.map(|event| json!([event["_index"], event["duration"]])));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}
