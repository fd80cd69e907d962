//! Servers that are killed, paused and stopped while events come: nothing that was acknowledged is lost or doubled
//! (I-1, I-2), and one destination's trouble delays nothing else (I-5).

use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::harness::{Program, until};
use crate::killed::{INGEST, World};
use crate::servers::{BEHIND, OwnServers};

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
    let acknowledged = world.post_while(|world, _| {
        let lake = |world: &World| {
            world.processes[INGEST + 2]
                .program
                .number("select count(*) from ledger")
        };
        sleep(Duration::from_secs(2));
        own.signal("mariadb", "KILL");
        let begun = Instant::now();
        let mut seen = lake(world);
        while begun.elapsed() < away {
            // Acknowledged, and in the lake: every few seconds there are more of both.
            until("more events are acknowledged and stored", || {
                let now = lake(world);
                let more = now > seen && stored(&world.processes[INGEST..INGEST + 2]);
                seen = if more { now } else { seen };
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

/// Whether the lake and PostgreSQL follow the topic: no partition is more than some records behind.
fn stored(sinks: &[crate::processes::Process]) -> bool {
    let behind = |sink: &Program| {
        let body = sink.get("/readyz").json();
        let lists = [&body["sink"], &body["destinations"]["postgres"]];
        let own = lists
            .into_iter()
            .flat_map(|list| list.as_array().cloned().unwrap_or_default());
        own.filter(|one| one["stream"] == "ledger")
            .filter_map(|one| one["lag_records"].as_u64())
            .max()
    };
    let worst = sinks.iter().filter_map(|sink| behind(&sink.program)).max();
    worst.is_some_and(|records| records < 1_000)
}
