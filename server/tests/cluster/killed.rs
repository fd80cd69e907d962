//! Acknowledged events are everywhere once, whatever process is killed, paused, stopped or started.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client;
use crate::harness::{Program, until};
use crate::processes::{Installation, Process, Servers, caught_up};
use crate::python;

const CLIENTS: u64 = 4;
pub(crate) const PARTITIONS: usize = 4;
const SEED: u64 = 20_261_121;
/// The default of `journal.kafka.session_timeout`.
const SESSION: Duration = Duration::from_secs(6);

const STREAM: &str = r#"
[streams.ledger]
key = "line"
[streams.ledger.fields]
client = "int"
batch = "int"
line = "int"
text = "string"
"#;

/// The order of the processes: three that ingest, the sinks, and one that analyses.
pub(crate) const INGEST: usize = 3;

#[test]
fn acknowledged_events_are_in_kafka_lake_and_databases_once_after_kills() {
    let Some(servers) = Servers::find() else { return };
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 100 } else { 6 };
    println!("seed {SEED}, {kills} kills");
    let mut world = World::start(&servers, 2);
    let acknowledged = world.post_while(|world, random| {
        // Each of them at least once, in any order.
        let mut waiting: Vec<usize> = (0..world.processes.len()).collect();
        for _ in 0..kills {
            // The moment of the kill is what is varied here; nothing waits for anything.
            std::thread::sleep(Duration::from_millis(random.random_range(200..2_500)));
            let killed = match waiting.len() {
                0 => random.random_range(0..world.processes.len()),
                left => waiting.swap_remove(random.random_range(0..left)),
            };
            println!("killing {} {killed}", world.processes[killed].role);
            world.processes[killed].kill();
            world.restart(killed);
        }
    });
    world.everything_is_everywhere_once(&servers, acknowledged);
}

/// A paused process wakes up with partitions that others have long taken over, and goes on where it was.
#[test]
fn a_sink_that_was_paused_or_replaced_writes_nothing_twice() {
    let Some(servers) = Servers::find() else { return };
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let rounds = if soak { 50 } else { 2 };
    println!("seed {SEED}, {rounds} rounds");
    let mut world = World::start(&servers, 3);
    let acknowledged = world.post_while(|world, random| {
        for round in 0..rounds {
            let sink = INGEST + random.random_range(0..3);
            if round % 2 == 0 {
                println!("pausing sink {sink} for longer than its session");
                world.processes[sink].program.signal("STOP");
                std::thread::sleep(SESSION + Duration::from_millis(random.random_range(1_000..4_000)));
                world.processes[sink].program.signal("CONT");
            } else {
                println!("stopping sink {sink} and starting it again");
                assert!(world.processes[sink].stop().success(), "a sink ends in order");
                std::thread::sleep(Duration::from_millis(random.random_range(0..3_000)));
                world.restart(sink);
            }
        }
    });
    world.everything_is_everywhere_once(&servers, acknowledged);
}

/// One installation and the clients' addresses of its ingest processes.
pub(crate) struct World {
    installation: Installation,
    pub(crate) processes: Vec<Process>,
    /// What a client waits between two batches.
    pub(crate) pace: Duration,
    addresses: Arc<Vec<Mutex<SocketAddr>>>,
    sinks: usize,
}

impl World {
    pub(crate) fn start(servers: &Servers, sinks: usize) -> Self {
        let installation = Installation::new(servers, PARTITIONS as u32, STREAM);
        let mut processes: Vec<Process> = (0..INGEST).map(|n| installation.start("ingest", n)).collect();
        processes.extend((0..sinks).map(|number| installation.start("sink", number)));
        processes.push(installation.start("analytics", 0));
        let addresses = processes[..INGEST]
            .iter()
            .map(|process| Mutex::new(process.program.address));
        Self {
            addresses: Arc::new(addresses.collect()),
            installation,
            processes,
            pace: Duration::ZERO,
            sinks,
        }
    }

    pub(crate) fn restart(&mut self, number: usize) {
        self.installation.restart(&mut self.processes[number]);
        if let Some(address) = self.addresses.get(number) {
            *address.lock().expect("whole") = self.processes[number].program.address;
        }
    }

    /// Clients post for as long as something is done to the processes. Gives the number of events that were
    /// acknowledged.
    pub(crate) fn post_while(&mut self, disturb: impl FnOnce(&mut Self, &mut ChaCha8Rng)) -> u64 {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let addresses = Arc::clone(&self.addresses);
        let folder = self.installation.folder.path().to_owned();
        let (stop, pace) = (AtomicBool::new(false), self.pace);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|id| {
                    let ledger = folder.join(format!("ledger-{id}"));
                    let (address, stop) = (&addresses[id as usize % INGEST], &stop);
                    scope.spawn(move || client::run(id, SEED + id, &ledger, address, pace, stop))
                })
                .collect();
            {
                let _ending = Ending(&stop);
                disturb(self, &mut random);
            }
            clients
                .into_iter()
                .map(|client| client.join().expect("the client ends"))
                .sum()
        })
    }

    /// Waits until every destination has everything, and compares each with what the clients wrote down.
    pub(crate) fn everything_is_everywhere_once(self, servers: &Servers, acknowledged: u64) {
        assert!(
            acknowledged > 0,
            "nothing was acknowledged, so this test checks nothing"
        );
        let python = python::with_deltalake();
        let begun = Instant::now();
        let sinks = &self.processes[INGEST..INGEST + self.sinks];
        let sinks: Vec<&Program> = sinks.iter().map(|process| &process.program).collect();
        until("every destination has everything", || {
            caught_up(&sinks, "ledger", PARTITIONS)
        });
        println!(
            "{acknowledged} events acknowledged; caught up after {:?}",
            begun.elapsed()
        );

        let analytics = &self.processes[INGEST + self.sinks].program;
        let rows = analytics.number("select count(*) from ledger");
        for mut process in self.processes {
            assert!(process.stop().success(), "{} ends in order", process.role);
        }
        let folder = self.installation.folder.path();
        let table = format!("{}_ledger", self.installation.name);
        let groups = |quote: &str| {
            format!(
                "select client, batch, count(*), count(distinct line), min(line), max(line) from {quote}{table}{quote} \
                 group by client, batch"
            )
        };
        std::fs::write(folder.join("maria.tsv"), servers.mysql(&groups("`"))).expect("written");
        std::fs::write(folder.join("postgres.tsv"), servers.postgres(&groups("\""))).expect("written");
        let topic = format!("{}.ledger", self.installation.name);
        let in_topic = servers.kafka_rows(&topic);
        assert_eq!(
            in_topic,
            rows.unsigned_abs(),
            "the topic has as many events as the lake"
        );
        for place in ["maria.tsv", "postgres.tsv"] {
            compare(&python, folder, &folder.join(place), rows);
        }
        compare(&python, folder, &self.installation.table("ledger"), rows);
        servers.mysql(&format!("drop table `{table}`"));
        servers.postgres(&format!("drop table \"{table}\""));
    }
}

/// Tells the clients to stop when the scope is left by a panic.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Compares one place with the clients' ledgers and with what our own SQL counted. Of a batch that was not
/// acknowledged some partitions may have their lines and others not.
fn compare(python: &Path, ledgers: &Path, place: &Path, rows: i64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/compare.py");
    let mut command = Command::new(python);
    let output = command
        .arg(script)
        .args([ledgers, place])
        .arg(rows.to_string())
        .arg("parts")
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}: {text}", place.display());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}\n{said}", place.display());
}
