//! Acknowledged events are everywhere once, whatever process is killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client;
use crate::harness::{Program, until};
use crate::processes::{Installation, Process, Servers, caught_up};
use crate::python;

const CLIENTS: u64 = 4;
const PARTITIONS: usize = 4;
const SEED: u64 = 20_261_121;
/// The issue's bound on catching up after a kill.
const CATCH_UP: Duration = Duration::from_secs(15);

const STREAM: &str = r#"
[streams.ledger]
key = "client"
[streams.ledger.fields]
client = "int"
batch = "int"
line = "int"
text = "string"
"#;

#[test]
fn acknowledged_events_are_in_kafka_lake_and_databases_once_after_kills() {
    let Some(servers) = Servers::find() else { return };
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 100 } else { 6 };
    println!("seed {SEED}, {kills} kills");
    let python = python::with_deltalake();
    let installation = Installation::new(&servers, PARTITIONS as u32, STREAM);
    let mut processes: Vec<Process> = (0..3)
        .map(|number| installation.start("ingest", number))
        .collect();
    processes.extend((0..2).map(|number| installation.start("sink", number)));
    processes.push(installation.start("analytics", 0));
    let acknowledged = post_and_kill(&installation, &mut processes, kills);
    assert!(
        acknowledged > 0,
        "nothing was acknowledged, so this test checks nothing"
    );

    let begun = Instant::now();
    let sinks: Vec<&Program> = processes[3..5].iter().map(|process| &process.program).collect();
    until("every destination has everything", || {
        caught_up(&sinks, "ledger", PARTITIONS)
    });
    println!(
        "{acknowledged} events acknowledged; caught up after {:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() < CATCH_UP,
        "catching up took {:?}",
        begun.elapsed()
    );

    let rows = processes[5].program.number("select count(*) from ledger");
    for process in processes {
        let role = process.role;
        assert!(process.program.stop().success(), "{role} ends in order");
    }
    let folder = installation.folder.path();
    let table = format!("{}_ledger", installation.name);
    let groups = |quote: &str| {
        format!(
            "select client, batch, count(*), count(distinct line), min(line), max(line) from {quote}{table}{quote} \
             group by client, batch"
        )
    };
    std::fs::write(folder.join("maria.tsv"), servers.mysql(&groups("`"))).expect("written");
    std::fs::write(folder.join("postgres.tsv"), servers.postgres(&groups("\""))).expect("written");
    let topic = format!("{}.ledger", installation.name);
    assert_eq!(
        servers.kafka_rows(&topic),
        rows.unsigned_abs(),
        "the topic has as many events as the lake"
    );
    for place in [
        installation.table("ledger"),
        folder.join("maria.tsv"),
        folder.join("postgres.tsv"),
    ] {
        compare(&python, folder, &place, rows);
    }
    servers.mysql(&format!("drop table `{table}`"));
    servers.postgres(&format!("drop table \"{table}\""));
}

/// Clients post for as long as processes are killed. Gives the number of events that were acknowledged.
fn post_and_kill(installation: &Installation, processes: &mut [Process], kills: u32) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let addresses: Vec<Mutex<SocketAddr>> = processes[..3]
        .iter()
        .map(|process| Mutex::new(process.program.address))
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let ledger = installation.folder.path().join(format!("ledger-{id}"));
                let (address, stop) = (&addresses[id as usize % 3], &stop);
                scope.spawn(move || client::run(id, SEED + id, &ledger, address, stop))
            })
            .collect();
        let _ending = Ending(&stop);
        // Each of them at least once, in any order.
        let mut waiting: Vec<usize> = (0..processes.len()).collect();
        for _ in 0..kills {
            // The moment of the kill is what is varied here; nothing waits for anything.
            std::thread::sleep(Duration::from_millis(random.random_range(200..2_500)));
            let killed = match waiting.len() {
                0 => random.random_range(0..processes.len()),
                left => waiting.swap_remove(random.random_range(0..left)),
            };
            println!("killing {} {killed}", processes[killed].role);
            installation.kill_and_restart(&mut processes[killed]);
            if let Some(address) = addresses.get(killed) {
                *address.lock().expect("whole") = processes[killed].program.address;
            }
        }
        stop.store(true, Ordering::Release);
        clients
            .into_iter()
            .map(|client| client.join().expect("the client ends"))
            .sum()
    })
}

/// Tells the clients to stop when the scope is left by a panic.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Compares one place with the clients' ledgers and with what our own SQL counted.
fn compare(python: &Path, ledgers: &Path, place: &Path, rows: i64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/compare.py");
    let mut command = Command::new(python);
    let output = command
        .arg(script)
        .args([ledgers, place])
        .arg(rows.to_string())
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}: {text}", place.display());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}\n{said}", place.display());
}
