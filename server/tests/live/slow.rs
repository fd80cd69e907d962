//! Clients that are slow or were away for long: what the journal has let go of comes from the lake, what nobody has any
//! more is named, and nothing is lost in between.

use serde_json::Value;

use crate::client::EventStream;
use crate::harness::{Program, until};
use crate::{config, directory};

/// Bytes of text of one event.
const TEXT_BYTES: usize = 50_000;
/// Events of one request.
const EVENTS: u64 = 20;

/// The smallest segments and the smallest rings; files are rolled at once, so that segments go.
const CONFIG: &str = "[journal]\nsegment_size = \"20MiB\"\n[live]\nmemory = \"1MiB\"\n[lake.roll]\nevery = \"100ms\"\n\
                      [streams.big.fields]\nn = \"int\"\nat = \"timestamp\"\ntext = \"string\"\n";

/// Posts events `from..from + count` of a time long gone.
fn post(program: &Program, from: u64, count: u64) {
    post_at(program, from, count, "2024-09-10T09:12:33Z");
}

/// The same of another time; they are too random to be made small.
fn post_at(program: &Program, from: u64, count: u64, at: &str) {
    for first in (from..from + count).step_by(EVENTS as usize) {
        let mut lines = String::new();
        for n in first..first + EVENTS {
            let text = format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(TEXT_BYTES / 16);
            lines.push_str(&format!("{{\"n\":{n},\"at\":\"{at}\",\"text\":\"{text}\"}}\n"));
        }
        let answer = program.ndjson("big", &lines);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn offset(position: &str) -> u64 {
    let mut parts = position.split(':');
    assert_eq!(parts.next(), Some("0"), "{position}");
    let offset = parts.next().and_then(|offset| offset.parse().ok());
    offset.unwrap_or_else(|| panic!("{position}"))
}

/// Where the journal begins, as a client is told who asks for all that it has.
fn beginning(program: &Program) -> u64 {
    let (_, start) = EventStream::of(program.address, "/v1/streams/big/tail?from=start&n=-1");
    offset(&start)
}

/// Posts until the journal has let go of so many records; gives how many events there are.
fn post_until_gone(program: &Program, records: u64) -> u64 {
    let mut posted = 0;
    until("the journal has let go of its beginning", || {
        post(program, posted, 500);
        posted += 500;
        beginning(program) > records
    });
    posted
}

/// Reads events up to a number; they must come in order, each once.
fn expect(stream: &mut EventStream, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let event = stream.next_event().expect("an event");
        assert_eq!((event.kind.as_str(), event.json()["n"].as_u64()), ("", Some(n)));
    }
}

#[test]
fn what_the_journal_has_no_more_comes_from_the_lake() {
    let data = directory();
    let config = config(data.path(), CONFIG);
    let program = Program::start(data.path(), &["--config", &config]);
    let posted = post_until_gone(&program, 10);
    // From the middle of a record, through the lake and the journal, up to what comes next.
    let (mut stream, at) = EventStream::of(program.address, "/v1/streams/big/tail?from=0:0:4");
    assert_eq!(at, "0:0:4");
    expect(&mut stream, 5..posted);
    post(&program, posted, EVENTS);
    expect(&mut stream, posted..posted + EVENTS);
    assert!(program.metric("tidemill_live_catch_up_reads_total{stream=\"big\",from=\"lake\"}") >= 1.0);
    let last = posted - 1;
    let filtered = format!("/v1/streams/big/tail?from=0:0&n={last}");
    let (mut stream, _) = EventStream::of(program.address, &filtered);
    assert_eq!(stream.next_event().expect("an event").json()["n"], last);
}

#[test]
fn a_slow_client_gets_everything_and_holds_nobody_back() {
    let data = directory();
    let config = config(data.path(), CONFIG);
    let program = Program::start(data.path(), &["--config", &config]);
    let (mut slow, at) = EventStream::of(program.address, "/v1/streams/big/tail");
    assert_eq!(at, "0:0");
    // It reads nothing while much more comes than sockets and rings hold, and than the journal keeps.
    let posted = post_until_gone(&program, 1_500 / EVENTS);
    expect(&mut slow, 0..posted);
}

#[test]
fn what_retention_removed_is_named() {
    let data = directory();
    let text = CONFIG.replace("[lake.roll]", "[lake.retention]\nevery = \"1s\"\n[lake.roll]");
    let text = text.replace(
        "[streams.big.fields]",
        "[streams.big]\ntime = \"at\"\nretention = \"1d\"\n[streams.big.fields]",
    );
    let config = config(data.path(), &text);
    let program = Program::start(data.path(), &["--config", &config]);
    let posted = post_until_gone(&program, 10);
    until("retention has removed events", || {
        program.get("/v1/streams/big").json()["removed"].as_u64() > Some(100)
    });
    let (mut stream, _) = EventStream::of(program.address, "/v1/streams/big/tail?from=0:0:4");
    let first = stream.next_event().expect("what is missed");
    assert_eq!(first.kind, "missed", "{}", first.id);
    let range: Value = first.json();
    assert_eq!(
        (range["from"].as_str(), range["to"].as_str()),
        (Some("0:0:4"), Some(first.id.as_str()))
    );
    // Retention may go on meanwhile, so a further range may follow; then everything that is there, in order, up to what
    // stays for longer than this test.
    post_at(&program, posted, EVENTS, "2200-01-01T00:00:00Z");
    let mut last = None;
    while last != Some(posted + EVENTS - 1) {
        let event = stream.next_event().expect("an event");
        if event.kind == "missed" {
            continue;
        }
        let n = event.json()["n"].as_u64().expect("a number");
        assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
        last = Some(n);
    }
    assert!(program.metric("tidemill_live_missed_records_total") >= 1.0);
}
