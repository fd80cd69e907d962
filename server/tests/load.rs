//! The load commands, with the real binary: what they print, what they send, what they count.

mod harness;
#[path = "load/scripted.rs"]
mod scripted;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use harness::{Program, tidemill};
use scripted::{Scripted, Step};
use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn generated(arguments: &[&str]) -> Vec<u8> {
    let output = tidemill(&[&["generate"], arguments].concat())
        .output()
        .expect("the binary");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Replays to an address and gives the report together with what was printed.
fn replay(address: std::net::SocketAddr, arguments: &[&str], input: &[u8]) -> (Output, Value) {
    let work = directory();
    let json = work.path().join("report.json");
    let url = format!("http://{address}");
    let fixed = ["replay", "--to", &url, "--json", json.to_str().expect("UTF-8")];
    let mut child = tidemill(&[&fixed, arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("take the input");
    let output = child.wait_with_output().expect("an end");
    let report = std::fs::read(&json).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, serde_json::from_slice(&report).expect("JSON"))
}

fn counts(report: &Value) -> [Option<u64>; 4] {
    ["accepted", "rejected", "failed", "unknown"].map(|name| report[name].as_u64())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_same_seed_prints_the_same_bytes() {
    let one = generated(&["music", "500", "--seed", "4", "--users", "20"]);
    assert_eq!(one, generated(&["music", "500", "--users", "20", "--seed", "4"]));
    assert_ne!(one, generated(&["music", "500", "--users", "20", "--seed", "5"]));
    assert_eq!(one.iter().filter(|byte| **byte == b'\n').count(), 500);
}

#[test]
fn a_reader_that_has_enough_ends_generate_quietly() {
    let mut child = tidemill(&["generate", "running", "5000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut some = [0; 1_000];
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut some).expect("a thousand bytes");
    drop(out);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn arguments_that_cannot_be_used_are_refused_with_code_2() {
    for arguments in [
        &["generate", "walking", "5"][..],
        &["generate", "running", "5", "--users", "0"],
        &["replay", "--stream", "running"],
        &["replay", "--generate", "running"],
        &["replay", "x", "--to", "ftp://127.0.0.1:1", "--stream", "running"],
        &["replay", "x", "--stream", "running", "--batch", "1MB"],
        &["replay", "x", "--stream", "running", "--rate", "0/s"],
        &["replay", "x", "--stream", "running", "--connections", "0"],
    ] {
        let output = tidemill(arguments).output().expect("the binary");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn plain_and_compressed_files_and_the_standard_input_arrive_whole() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let work = directory();
    let (plain, packed) = (work.path().join("a.ndjson"), work.path().join("b.ndjson.gz"));
    // No newline at the end, blank lines and CRLF, as files have them.
    let mut lines = generated(&["running", "3000", "--seed", "1"]);
    lines.pop();
    std::fs::write(&plain, &lines).expect("write");
    let more = generated(&["running", "2000", "--seed", "2"]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&more).expect("compress");
    std::fs::write(&packed, encoder.finish().expect("compress")).expect("write");
    let input = String::from_utf8(generated(&["running", "1000", "--seed", "3"])).expect("UTF-8");
    let input = format!("\n \r\n{}{{\"duration\":1}}\n\n", input.replace('\n', "\r\n\n"));

    let files = [text(&plain), text(&packed), "-", "--stream", "running"];
    let (output, report) = replay(
        program.address,
        &[&files[..], &["--batch", "64KiB"]].concat(),
        input.as_bytes(),
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        counts(&report),
        [Some(6_000), Some(1), Some(0), Some(0)],
        "{report}"
    );
    assert_eq!(report["open_loop"], false);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("6,000") && shown.contains("service"), "{shown}");
    assert_eq!(
        program.number("select count(distinct user_id || \"timestamp\") from running"),
        6_000
    );
}

#[test]
fn batches_have_the_size_that_was_asked_for() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let made = ["--generate", "running", "--events", "1000", "--users", "10"];
    for (batch, requests) in [("1", 1_000), ("300", 4), ("1MiB", 1), ("64MiB", 1)] {
        let arguments = [&made[..], &["--batch", batch, "--connections", "8"]].concat();
        let (_, report) = replay(program.address, &arguments, b"");
        assert_eq!(report["requests"].as_u64(), Some(requests), "{batch}: {report}");
        assert_eq!(counts(&report), [Some(1_000), Some(0), Some(0), Some(0)]);
    }
    // Batches of more than a chunk, and one that ends a file.
    let (_, report) = replay(
        program.address,
        &["--generate", "running", "--events", "50000", "--batch", "20000"],
        b"",
    );
    assert_eq!(report["requests"].as_u64(), Some(3), "{report}");
    assert_eq!(
        report["bytes"].as_u64().map(|bytes| bytes > 5_000_000),
        Some(true)
    );
    assert_eq!(program.number("select count(*) from running"), 54_000);
}

#[test]
fn a_rate_is_kept_and_latency_counts_from_the_intended_start() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let rated = [
        "--generate",
        "running",
        "--events",
        "1000",
        "--rate",
        "2000/s",
        "--batch",
        "1",
    ];
    let (_, report) = replay(program.address, &rated, b"");
    assert_eq!(report["open_loop"], true);
    assert_eq!(report["requests"].as_u64(), Some(1_000));
    // The last of a thousand is due after 499.5 ms.
    assert!(report["seconds"].as_f64() >= Some(0.4995), "{report}");
}

#[test]
fn recorded_gaps_are_kept() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let lines: String = [0, 100, 90, 400]
        .iter()
        .map(|ms| {
            format!(
                "{{\"user_id\":\"00000000-0000-4000-8000-000000000001\",\"duration\":1,\"distance\":{ms},\
                 \"timestamp\":\"2024-09-10T09:00:00.{ms:03}Z\"}}\n"
            )
        })
        .collect();
    let recorded = ["-", "--stream", "running", "--as-recorded"];
    let (_, report) = replay(program.address, &recorded, lines.as_bytes());
    assert_eq!(counts(&report), [Some(4), Some(0), Some(0), Some(0)], "{report}");
    // The one out of order travels with the one before it.
    assert_eq!(report["requests"].as_u64(), Some(3), "{report}");
    assert!(report["seconds"].as_f64() >= Some(0.4), "{report}");
}

#[test]
fn a_busy_server_is_asked_again_after_the_time_that_it_names() {
    let server = Scripted::start(vec![
        Step::Busy(429, Some(1)),
        Step::Busy(503, None),
        Step::Accept,
        Step::Accept,
    ]);
    let arguments = ["-", "--stream", "running", "--batch", "1", "--connections", "1"];
    let (output, report) = replay(server.address, &arguments, b"{}\n{}\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(counts(&report), [Some(2), Some(0), Some(0), Some(0)], "{report}");
    assert_eq!(
        (report["requests"].as_u64(), report["retries"].as_u64()),
        (Some(2), Some(2))
    );
    // The second's wait is a part of the first event's latency.
    assert!(report["latency"]["max_ms"].as_f64() >= Some(1_000.0), "{report}");
}

#[test]
fn what_got_no_answer_is_unknown_and_not_sent_again() {
    let server = Scripted::start(vec![Step::Hang, Step::Accept, Step::Refuse(404)]);
    let arguments = ["-", "--stream", "running", "--batch", "2", "--connections", "1"];
    let (output, report) = replay(server.address, &arguments, b"{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // Two are unknown, two accepted, two refused; after a 404 nothing more is sent.
    assert_eq!(counts(&report), [Some(2), Some(0), Some(2), Some(2)], "{report}");
    assert_eq!(report["problem_count"].as_u64(), Some(2), "{report}");
    assert_eq!(report["stopped"], true);
}

/// Name and arguments of every sample, from the commands in the README beside them.
fn samples() -> Vec<(String, Vec<String>)> {
    let readme = std::fs::read_to_string(datasets().join("README.md")).expect("the README");
    let commands = readme
        .lines()
        .filter_map(|line| line.strip_prefix("tidemill generate "));
    let samples: Vec<_> = commands
        .map(|command| {
            let (arguments, file) = command.split_once(" > datasets/").expect("a file");
            let name = file.strip_suffix(".ndjson").expect("NDJSON").to_owned();
            (name, arguments.split_whitespace().map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(samples.len(), 5);
    samples
}

fn datasets() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets")
}

#[test]
fn the_samples_are_what_their_commands_print() {
    for (name, arguments) in samples() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let stored = std::fs::read(datasets().join(format!("{name}.ndjson"))).expect("the sample");
        assert!(generated(&arguments) == stored, "{name}");
    }
}

/// Every sample arrives whole under the declaration that is there without a configuration, and under the one
/// that `infer` prints for it.
#[test]
fn every_sample_is_accepted_as_declared_and_as_inferred() {
    let (data, inferred) = (directory(), directory());
    let mut configuration = String::new();
    for (name, _) in samples() {
        let file = datasets().join(format!("{name}.ndjson"));
        let output = tidemill(&["infer", text(&file)]).output().expect("the binary");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        configuration += std::str::from_utf8(&output.stdout).expect("UTF-8");
    }
    let file = inferred.path().join("inferred.toml");
    std::fs::write(&file, &configuration).expect("write");
    let programs = [
        Program::start(data.path(), &[]),
        Program::start(inferred.path(), &["--config", text(&file)]),
    ];
    for program in &programs {
        for (name, _) in samples() {
            let file = datasets().join(format!("{name}.ndjson"));
            let arguments = [text(&file), "--stream", &name, "--batch", "64"];
            let (output, report) = replay(program.address, &arguments, b"");
            assert!(output.status.success(), "{name}: {output:?}\n{configuration}");
            assert_eq!(
                counts(&report),
                [Some(200), Some(0), Some(0), Some(0)],
                "{name}: {report}"
            );
            assert_eq!(program.number(&format!("select count(*) from {name}")), 200);
        }
        assert_eq!(
            program.number("select sum(distance) from running"),
            sum_of("running", "distance")
        );
        assert_eq!(
            program.number("select sum(song_duration) from music"),
            sum_of("music", "song_duration")
        );
        assert_eq!(
            program.number("select sum(severity) from detection"),
            sum_of("detection", "severity")
        );
    }
}

/// A member's sum over a sample, without any code of ours.
fn sum_of(name: &str, member: &str) -> i64 {
    let sample = std::fs::read_to_string(datasets().join(format!("{name}.ndjson"))).expect("the sample");
    let events = sample
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events
        .map(|event| event[member].as_i64().expect("an integer"))
        .sum()
}

#[test]
fn infer_says_what_it_cannot_read() {
    let work = directory();
    let (empty, odd) = (
        work.path().join("empty.ndjson"),
        work.path().join("9 odd.name.ndjson"),
    );
    std::fs::write(&empty, "[1]\n\n").expect("write");
    std::fs::write(&odd, "{\"a\":1}\n").expect("write");
    let run = |arguments: &[&str]| tidemill(arguments).output().expect("the binary");
    assert_eq!(run(&["infer", text(&empty)]).status.code(), Some(1));
    assert_eq!(run(&["infer", "/nowhere.ndjson"]).status.code(), Some(1));
    assert_eq!(run(&["infer", text(&odd)]).status.code(), Some(2));
    let named = run(&["infer", text(&odd), "--stream", "odd"]);
    let printed = String::from_utf8_lossy(&named.stdout).into_owned();
    assert!(printed.starts_with("[streams.odd]\n"), "{printed}");
}

#[test]
fn the_demo_fills_asks_and_leaves_nothing_behind() {
    let work = directory();
    let demo = |arguments: &[&str]| {
        tidemill(
            &[
                &["demo", "--events", "20000", "--exit", "--listen", "127.0.0.1:0"],
                arguments,
            ]
            .concat(),
        )
        .current_dir(work.path())
        .output()
        .expect("the binary")
    };
    let output = demo(&[]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for part in [
        "20,000",
        "p99",
        "| _index",
        "10,000",
        "| km ",
        "curl http://127.0.0.1:",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(std::fs::read_dir(work.path()).expect("list").count(), 0);
    // A directory that was named stays, and a second demo adds to it.
    let kept = directory();
    for _ in 0..2 {
        let output = demo(&["--data-dir", text(kept.path())]);
        assert!(output.status.success(), "{output:?}");
    }
    let program = Program::start(kept.path(), &[]);
    assert_eq!(program.number("select count(*) from running"), 40_000);
}

#[test]
fn the_demo_stays_up_until_it_is_told_to_stop() {
    use std::io::BufRead;

    let work = directory();
    let mut child = tidemill(&["demo", "--events", "1000", "--listen", "127.0.0.1:0"])
        .current_dir(work.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = |line: Option<std::io::Result<String>>| line.expect("more").expect("UTF-8");
    let first = line(lines.next());
    let address = first
        .strip_prefix("listening on http://")
        .expect("an address")
        .parse()
        .expect("one");
    while !line(lines.next()).starts_with("ctrl-c") {}
    let answer =
        harness::request(address, "GET", "/v1/streams/running/events/999", &[], b"").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    assert!(child.wait().expect("an end").success());
    assert_eq!(std::fs::read_dir(work.path()).expect("list").count(), 0);
}
