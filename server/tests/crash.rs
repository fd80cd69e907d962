//! I-1 and I-2 when the process is killed at any moment: every acknowledged event is there once.
//!
//! Method: clients post batches whose events carry (client, batch, line). Before a batch is sent, and after its
//! answer, a line goes into the client's ledger and is fsynced. Meanwhile the server is killed (SIGKILL) at
//! seeded random moments and started again on the same directory, while files roll and are compacted. At the end
//! somebody else's reader (the Python package `deltalake`) reads the table and compares it with the ledgers: a
//! batch that was acknowledged is there with each of its lines exactly once, one whose outcome is unknown is
//! there once or not at all.
//!
//! Five kills by default, 200 with `TIDEMILL_SOAK=1`.

#[path = "crash/client.rs"]
mod client;
mod harness;
#[path = "crash/python.rs"]
mod python;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::Program;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLIENTS: u64 = 4;
const SEED: u64 = 20_261_121;

const CONFIG: &str = r#"
[lake.roll]
every = "500ms"

[lake.compact]
every = "1s"

[streams.ledger]
key = "client"

[streams.ledger.fields]
client = "int"
batch = "int"
line = "int"
text = "string"
"#;

#[test]
fn acknowledged_events_are_there_once_after_kills_at_random_moments() {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 200 } else { 5 };
    println!("seed {SEED}, {kills} kills");
    let python = python::with_deltalake();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("ledger.toml");
    std::fs::write(&config, CONFIG).expect("the configuration is written");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("the data directory");
    let more = ["--config", config.to_str().expect("UTF-8")];

    let mut server = Program::start(&data, &more);
    let address = Mutex::new(server.address);
    let stop = AtomicBool::new(false);
    let (mut slowest_start, mut acknowledged) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let ledger = folder.path().join(format!("ledger-{id}"));
                let (address, stop) = (&address, &stop);
                scope.spawn(move || client::run(id, SEED + id, &ledger, address, Duration::ZERO, stop))
            })
            .collect();
        // Clients end even when a start fails, so that the failure is shown.
        let _ending = Ending(&stop);
        for _ in 0..kills {
            // The moment of the kill is what is varied here; nothing waits for anything.
            std::thread::sleep(Duration::from_millis(random.random_range(20..1_500)));
            server.child.kill().expect("kill");
            server.child.wait().expect("the end");
            let begun = Instant::now();
            server = Program::start(&data, &more);
            slowest_start = slowest_start.max(begun.elapsed());
            *address.lock().expect("whole") = server.address;
        }
        stop.store(true, Ordering::Release);
        for client in clients {
            acknowledged += client.join().expect("the client ends");
        }
    });
    assert!(
        acknowledged > 0,
        "nothing was acknowledged, so this test checks nothing"
    );

    let rows = server.number("select count(*) from ledger");
    assert!(server.stop().success());
    println!("{acknowledged} events acknowledged, slowest start {slowest_start:?}");
    compare_with_ledgers(&python, folder.path(), &data.join("lake/ledger"), rows);
}

/// Tells the clients to stop when the scope is left by a panic.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Reads the table with Python `deltalake` and compares it with the clients' ledgers, and its rows with what our
/// own SQL counted.
fn compare_with_ledgers(python: &Path, ledgers: &Path, table: &Path, rows: i64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/compare.py");
    let output = Command::new(python)
        .arg(script)
        .args([ledgers, table])
        .arg(rows.to_string())
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
