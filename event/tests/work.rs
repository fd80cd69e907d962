//! What the decoder does for an event, counted and never timed: allocations, copied bytes, instructions. Counts are
//! the same on a busy machine and on an idle one, so a bound can be close.
//!
//! Instructions are counted by callgrind of a process that decodes so many events, less those of one that decodes
//! half as many: what both do to get started is not counted. Bounds hold for our release profile; a decoder that was
//! compiled without optimisation is above them.

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use event::StreamDeclaration;
use event::decode::{Decoded, Decoder, Format};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by whoever counts or does what is counted for the whole process: tests run side by side.
static ALONE: Mutex<()> = Mutex::new(());

/// What hyper gives at once, about.
const CHUNK_BYTES: usize = 256 << 10;

/// Most allocations for an event: columns that grow, and nothing else.
const ALLOCATIONS_MAX: f64 = 0.01;

/// Most bytes that are copied between chunks and decoder, of the body's.
const COPIED_MAX: f64 = 0.01;

/// Most instructions for a byte of each sample: a fifth above what was counted.
const INSTRUCTIONS_MAX: [(&str, f64); 5] = [
    ("running", 11.5),
    ("music", 11.6),
    ("activity", 13.4),
    ("tracking", 15.2),
    ("detection", 16.1),
];

/// Where the process that is counted finds its work: a file, and the stream of its events.
const FILE: &str = "TIDEMILL_WORK_FILE";
const STREAM: &str = "TIDEMILL_WORK_STREAM";

/// Events of the longer one of two bodies, twice those of the other.
const EVENTS: usize = 40_000;

fn stream(name: &str) -> Arc<StreamDeclaration> {
    let found = StreamDeclaration::starters()
        .into_iter()
        .find(|stream| stream.name.as_str() == name);
    Arc::new(found.expect("a starter stream"))
}

/// So many events, the sample's again and again.
fn body(name: &str, events: usize) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../datasets/{name}.ndjson"));
    let sample = std::fs::read_to_string(path).expect("a sample");
    let lines = sample.split_inclusive('\n').cycle().take(events);
    lines.collect::<String>().into()
}

fn decode(stream: &Arc<StreamDeclaration>, body: &Bytes) -> Decoded {
    let mut decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
    for at in (0..body.len()).step_by(CHUNK_BYTES) {
        let chunk = body.slice(at..body.len().min(at + CHUNK_BYTES));
        decoder.push(chunk).expect("NDJSON");
    }
    decoder.finish().expect("NDJSON")
}

/// Nothing is allocated for an event, and hardly a byte of an uncompressed body is copied.
///
/// Method: the allocations of a body less those of one half as long. The other tests of this file wait meanwhile.
#[test]
fn an_event_costs_no_allocation_and_no_copy_of_its_bytes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, _) in INSTRUCTIONS_MAX {
        let stream = stream(name);
        let count = |events: usize| {
            let body = body(name, events);
            let region = Region::new(ALLOCATOR);
            let decoded = decode(&stream, &body);
            let allocations = region.change().allocations + region.change().reallocations;
            assert_eq!(
                (decoded.accepted, decoded.rejects.total()),
                (events as u64, 0),
                "{name}"
            );
            let copied = decoded.bytes_copied as f64 / body.len() as f64;
            assert!(copied <= COPIED_MAX, "{name}: {copied} of the bytes were copied");
            allocations as f64
        };
        let (long, short) = (count(EVENTS), count(EVENTS / 2));
        let each = (long - short) / (EVENTS / 2) as f64;
        println!("{name}: {each} allocations for an event");
        assert!(each <= ALLOCATIONS_MAX, "{name}: {each} allocations for an event");
    }
}

/// Decodes what it is told to, for who counts it.
#[test]
#[ignore = "is what the next test counts, in a process of its own"]
fn decodes_what_is_counted() {
    let (Some(file), Some(name)) = (std::env::var_os(FILE), std::env::var_os(STREAM)) else {
        return;
    };
    let body = std::fs::read(file).expect("a body");
    let stream = stream(name.to_str().expect("a name"));
    assert!(decode(&stream, &body.into()).accepted > 0);
}

/// The decoder does not do more for a byte than it did, by instructions.
#[test]
fn a_byte_costs_no_more_instructions_than_were_recorded() {
    if Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        let required = std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_some();
        assert!(!required, "valgrind is not installed");
        println!("SKIPPED: needs valgrind");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let mut beyond = Vec::new();
    for (name, most) in INSTRUCTIONS_MAX {
        let count = |events: usize| {
            let body = body(name, events);
            let file = directory.path().join(format!("{name}-{events}"));
            std::fs::write(&file, &body).expect("a body");
            (instructions(name, &file, directory.path()), body.len() as u64)
        };
        let (long, short) = (count(EVENTS / 4), count(EVENTS / 8));
        let each = (long.0 - short.0) as f64 / (long.1 - short.1) as f64;
        println!("{name}: {each:.2} instructions for a byte, at most {most}");
        if each > most {
            beyond.push(format!("{name}: {each:.2}, at most {most}"));
        }
    }
    assert!(
        beyond.is_empty(),
        "more instructions for a byte than were recorded: {beyond:?}"
    );
}

fn instructions(name: &str, file: &Path, directory: &Path) -> u64 {
    let counted: PathBuf = directory.join("callgrind");
    let itself = std::env::current_exe().expect("this test");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--log-file=/dev/null"])
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(itself)
        .args([
            "--exact",
            "decodes_what_is_counted",
            "--ignored",
            "--test-threads=1",
        ])
        .env(FILE, file)
        .env(STREAM, name)
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let text = std::fs::read_to_string(&counted).expect("what it counted");
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.expect("a sum").trim().parse().expect("a number")
}
