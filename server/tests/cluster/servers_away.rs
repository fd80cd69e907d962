//! Servers that are killed, paused and stopped while events come: nothing that was acknowledged is lost or doubled
//! (I-1, I-2), and one destination's trouble delays nothing else (I-5).

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::harness::until;
use crate::killed::{INGEST, PARTITIONS, World};
use crate::processes::Process;
use crate::servers::{BEHIND, OwnServers};

/// What a client waits between two batches while a database is away: what gathers for it shall be caught up with in
/// seconds.
const PACE: Duration = Duration::from_millis(25);

fn is_soak() -> bool {
    std::env::var_os("TIDEMILL_SOAK").is_some()
}

#[test]
fn acknowledged_events_are_everywhere_once_when_servers_and_processes_are_killed_and_paused() {
    let Some(own) = OwnServers::start() else { return };
    let rounds = if is_soak() { 40 } else { 6 };
    let servers = own.servers();
    let mut world = World::start(&servers, 2);
    let acknowledged = world.post_while(|world, random| {
        for round in 0..rounds {
            // The moment is what is varied here; nothing waits for anything.
            sleep(Duration::from_millis(random.random_range(500..3_000)));
            let server = BEHIND[round % BEHIND.len()];
            match random.random_range(0..3) {
                0 => {
                    let killed = random.random_range(0..world.processes.len());
                    println!("killing {server}, and {} {killed}", world.processes[killed].role);
                    own.signal(server, "KILL");
                    world.processes[killed].kill();
                    own.up();
                    world.restart(killed);
                }
                1 => {
                    println!("killing {server}");
                    own.signal(server, "KILL");
                    sleep(Duration::from_millis(random.random_range(0..4_000)));
                    own.up();
                }
                _ => {
                    println!("pausing {server}");
                    own.signal(server, "STOP");
                    sleep(Duration::from_millis(random.random_range(1_000..9_000)));
                    own.signal(server, "CONT");
                }
            }
        }
    });
    world.everything_is_everywhere_once(&servers, acknowledged);
}

#[test]
fn a_database_that_is_stopped_delays_neither_parquet_nor_acknowledgements_and_catches_up_exactly() {
    let Some(own) = OwnServers::start() else { return };
    let away = Duration::from_secs(if is_soak() { 600 } else { 12 });
    let servers = own.servers();
    let mut world = World::start(&servers, 2);
    world.pace = PACE;
    let acknowledged = world.post_while(|world, _| {
        let events = |world: &World| {
            world.processes[INGEST + 2]
                .program
                .number("select count(*) from ledger")
        };
        sleep(Duration::from_secs(2));
        own.signal("mariadb", "KILL");
        let begun = Instant::now();
        let mut seen = events(world);
        let mut stored_before = stored(&world.processes[INGEST..INGEST + 2]);
        while begun.elapsed() < away {
            // Acknowledged, in the lake and in PostgreSQL: every few seconds there are more of each partition.
            until("more events are acknowledged and stored", || {
                let (now, stored) = (events(world), stored(&world.processes[INGEST..INGEST + 2]));
                let more = now > seen
                    && stored.len() == 2 * PARTITIONS
                    && stored
                        .iter()
                        .all(|(place, end)| stored_before.get(place).is_none_or(|before| end > before));
                if more {
                    (seen, stored_before) = (now, stored);
                }
                more
            });
            sleep(Duration::from_secs(2));
        }
        println!(
            "MariaDB was away for {:?}; {seen} events were there meanwhile",
            begun.elapsed()
        );
        own.up();
    });
    world.everything_is_everywhere_once(&servers, acknowledged);
}

/// Up to where the lake and PostgreSQL have each partition. How far behind they are says nothing: clients may be
/// faster than a database.
fn stored(sinks: &[Process]) -> HashMap<(&'static str, u64), u64> {
    let mut stored = HashMap::new();
    for sink in sinks {
        let body = sink.program.get("/readyz").json();
        for (place, list) in [
            ("lake", &body["sink"]),
            ("postgres", &body["destinations"]["postgres"]),
        ] {
            let own = list.as_array().into_iter().flatten();
            for one in own.filter(|one| one["stream"] == "ledger") {
                if let (Some(partition), Some(end)) = (one["partition"].as_u64(), one["committed"].as_u64()) {
                    stored.insert((place, partition), end);
                }
            }
        }
    }
    stored
}
