//! A stream with `unique = "event_id"`: eight clients send the same batches at once, processes are killed in between,
//! and every place has each id once: SQL, statistics, the index, pages, the lake's own files, PostgreSQL and MariaDB, and
//! those who watch.
//!
//! Method: each client sends all batches in an order of its own, and tries again until each is acknowledged, so that
//! what one sends twice after a lost answer is a duplicate as well. Meanwhile the server is killed at seeded moments.
//! Databases take part when `POSTGRES_URL` and so on say where they are (`cargo xtask services up`).

#[path = "live/client.rs"]
#[allow(dead_code, reason = "the tests of those who watch use the rest")]
mod client;
mod harness;
#[path = "cluster/processes.rs"]
#[allow(dead_code, reason = "the tests of clusters use the rest")]
mod processes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::EventStream;
use harness::{Program, request, until};
use processes::{Installation, Servers, caught_up};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const CLIENTS: u64 = 8;
const SEED: u64 = 20_261_126;
const ROWS: u64 = 60;

const STREAM: &str = r#"
[streams.user_events]
unique = "event_id"
unknown_fields = "reject"

[streams.user_events.fields]
event_id = "uuid"
event_type = "string"
n = "int"
"#;

fn batches() -> u64 {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        1_500
    } else {
        40
    }
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// A batch, whose last ids come again in the next one, and whose first one comes twice.
fn batch(number: u64, client: u64) -> String {
    let first = number * ROWS;
    let ids = std::iter::once(first).chain(first..first + ROWS + 7);
    let line = |number: u64| {
        let event = json!({"event_id": id(number), "event_type": "CLICK", "n": client});
        format!("{event}\n")
    };
    ids.map(line).collect()
}

/// How many ids all batches have.
fn ids() -> i64 {
    i64::try_from(batches() * ROWS + 7).expect("few")
}

/// Sends every batch until it is acknowledged.
fn send_all(client: u64, addresses: &Mutex<Vec<SocketAddr>>, done: &AtomicUsize) {
    let mut random = ChaCha8Rng::seed_from_u64(SEED + client);
    let mut order: Vec<u64> = (0..batches()).collect();
    // Most go about together; some are far behind.
    order.chunks_mut(10).for_each(|part| part.shuffle(&mut random));
    for number in order {
        let body = batch(number, client);
        let lines = body.lines().count();
        until("a batch is acknowledged", || {
            let to = {
                let addresses = addresses.lock().expect("whole");
                addresses[random.random_range(0..addresses.len())]
            };
            let headers = [("content-type", "application/x-ndjson")];
            let path = "/v1/streams/user_events/events";
            let Ok(answer) = request(to, "POST", path, &headers, body.as_bytes()) else {
                return false;
            };
            if answer.status != 200 {
                assert!(answer.status >= 429, "{}", answer.text());
                return false;
            }
            // It cannot know which of them are there already.
            assert_eq!(answer.json()["accepted"], lines);
            true
        });
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets all clients send, and calls `hurt` each time that a part of it is done.
fn send(addresses: &Mutex<Vec<SocketAddr>>, mut hurt: impl FnMut(usize)) {
    let (done, all) = (AtomicUsize::new(0), CLIENTS * batches());
    std::thread::scope(|scope| {
        let done = &done;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || send_all(client, addresses, done)))
            .collect();
        for part in 1..4 {
            until("a part is sent", || {
                done.load(Ordering::Relaxed) as u64 >= part * all / 4
                    || clients.iter().all(|one| one.is_finished())
            });
            hurt(part as usize);
        }
        for client in clients {
            client.join().expect("all is sent");
        }
    });
}

/// Every question has each id once. With several partitions an index is final when the lake has the event.
fn check(server: &Program, indexed: bool) {
    let all = ids();
    assert_eq!(server.number("select count(*) from user_events"), all);
    assert_eq!(
        server.number("select count(distinct event_id) from user_events"),
        all
    );
    let stats = server.get("/v1/streams/user_events/stats").json();
    assert_eq!(stats["count"], all, "{stats}");
    if !indexed {
        return;
    }
    assert_eq!(server.number("select max(_index) + 1 from user_events"), all);
    let event = |index: i64| server.get(&format!("/v1/streams/user_events/events/{index}"));
    assert_eq!((event(all - 1).status, event(all).status), (200, 404));
    let mut found = BTreeSet::new();
    let mut next = String::new();
    loop {
        let page = server.get(&format!("/v1/streams/user_events/events?limit=1000{next}"));
        let page = page.json();
        for event in page["events"].as_array().expect("events") {
            assert_eq!(event["_index"], found.len(), "dense and in order");
            assert!(
                found.insert(event["event_id"].to_string()),
                "{event} is there twice"
            );
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(found.len() as i64, all);
}

/// Whether a destination's partitions have all that the journal has.
fn stored(server: &Program, pointer: &str) -> bool {
    let body = server.get("/readyz").json();
    let list = body.pointer(pointer).and_then(|list| list.as_array());
    let own = list
        .into_iter()
        .flatten()
        .filter(|one| one["stream"] == "user_events");
    let own: Vec<_> = own.collect();
    let done = |one: &&serde_json::Value| {
        one["lag_records"] == 0 && one["open_rows"] == 0 && one["read"] == one["committed"]
    };
    !own.is_empty() && own.iter().all(done)
}

#[test]
fn what_eight_clients_send_at_once_is_stored_once_everywhere() {
    println!("seed {SEED}");
    let servers = Servers::find();
    let folder = tempfile::tempdir().expect("a folder");
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let name = format!("u{}_{}", std::process::id(), since.subsec_nanos());
    let mut config = format!("lake.roll.every = \"300ms\"\nlake.compact.every = \"500ms\"\n{STREAM}");
    if let Some(servers) = &servers {
        // The table of R3 in the one, the default one in the other.
        config.push_str(&format!(
            r#"
[destinations.postgres]
kind = "postgres"
url = "{}"
[destinations.postgres.tables.user_events]
table = "{name}_user_events"
key = ["event_id"]
columns = {{ event_id = "event_id", event_type = "event_type", n = "n" }}
event = "full_event_data"
on_conflict = "ignore"
[destinations.maria]
kind = "mysql"
url = "{}"
table_prefix = "{name}_"
"#,
            servers.postgres, servers.mysql
        ));
        servers.postgres(&format!(
            "CREATE TABLE {name}_user_events (event_id UUID PRIMARY KEY, event_type VARCHAR(50) NOT NULL, n BIGINT, \
             full_event_data JSONB, received_at TIMESTAMPTZ DEFAULT now())"
        ));
    }
    let path = folder.path().join("unique.toml");
    std::fs::write(&path, config).expect("the configuration is written");
    let more = ["--config", path.to_str().expect("UTF-8")];
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("the data directory");

    let mut server = Program::start(&data, &more);
    let addresses = Mutex::new(vec![server.address]);
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    send(&addresses, |_| {
        // The moment of the kill is what is varied here; nothing waits for anything.
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        server.child.kill().expect("kill");
        server.child.wait().expect("the end");
        server = Program::start(&data, &more);
        *addresses.lock().expect("whole") = vec![server.address];
    });
    // Wherever the lake ends by now.
    check(&server, true);
    until("the lake has it", || stored(&server, "/sink"));
    check(&server, true);
    // Once more, when all of it has long been there.
    for number in 0..batches() {
        assert_eq!(server.ndjson("user_events", &batch(number, 99)).status, 200);
    }
    check(&server, true);
    assert_eq!(server.number("select count(*) from user_events where n = 99"), 0);
    until("the lake has left it out", || {
        stored(&server, "/sink") && server.metric("tidemill_duplicates_total") > 0.0
    });
    check(&server, true);
    if let Some(servers) = &servers {
        for destination in ["postgres", "maria"] {
            until("the database has it", || {
                stored(&server, &format!("/destinations/{destination}"))
            });
        }
        let count = |distinct: &str| format!("SELECT count({distinct}) FROM {name}_user_events");
        for counted in ["*", "DISTINCT event_id"] {
            assert_eq!(servers.postgres(&count(counted)).trim(), ids().to_string());
            assert_eq!(servers.mysql(&count(counted)).trim(), ids().to_string());
        }
        // The first one in the order of the journal is the one that every place has.
        let clients: i64 = server.number("select sum(n) from user_events");
        let sum = format!("SELECT sum(n) FROM {name}_user_events");
        assert_eq!(servers.postgres(&sum).trim(), clients.to_string());
        assert_eq!(servers.mysql(&sum).trim(), clients.to_string());
        let positions = format!("DELETE FROM tidemill_positions WHERE target = '{name}_user_events'");
        for statement in [&format!("DROP TABLE {name}_user_events"), &positions] {
            servers.postgres(statement);
            servers.mysql(statement);
        }
    }
    assert!(server.stop().success());
    // A process that has just begun knows them all the same.
    let server = Program::start(&data, &more[..2]);
    check(&server, true);
    assert!(server.stop().success());
}

#[test]
fn after_its_window_an_id_is_stored_again_in_the_lake() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("unique.toml");
    let stream = STREAM.replace("unknown_fields", "unique_window = \"1s\"\nunknown_fields");
    std::fs::write(&path, format!("lake.roll.every = \"100ms\"\n{stream}")).expect("written");
    let server = Program::start(folder.path(), &["--config", path.to_str().expect("UTF-8")]);
    let line = |n: u64| format!("{{\"event_id\":\"{}\",\"event_type\":\"x\",\"n\":{n}}}\n", id(1));
    let begun = std::time::Instant::now();
    assert_eq!(server.ndjson("user_events", &(line(1) + &line(2))).status, 200);
    assert_eq!(server.number("select count(*) from user_events"), 1);
    until("the window is over", || {
        begun.elapsed() > Duration::from_millis(1_100)
    });
    assert_eq!(server.ndjson("user_events", &line(3)).status, 200);
    let expected = [json!([1]), json!([3])];
    assert_eq!(server.rows("select n from user_events order by _index"), expected);
    until("the lake has it", || stored(&server, "/sink"));
    assert_eq!(server.rows("select n from user_events order by _index"), expected);
    let described = server.get("/v1/streams/user_events").json();
    assert_eq!(
        described["unique"],
        json!({"field": "event_id", "window_seconds": 1, "ids_max": 1_000_000})
    );
    assert!(server.stop().success());
}

/// Three partitions, and sinks that are killed: the ids of a partition are in that one only, whoever has it.
#[test]
fn over_several_partitions_and_processes_each_id_is_stored_once() {
    println!("seed {SEED}");
    let Some(servers) = Servers::find() else { return };
    let installation = Installation::new(&servers, 3, STREAM);
    let ingests = [installation.start("ingest", 0), installation.start("ingest", 1)];
    let mut sinks = [installation.start("sink", 0), installation.start("sink", 1)];
    let mut analytics = installation.start("analytics", 0);
    let addresses = ingests.iter().map(|ingest| ingest.program.address).collect();
    let addresses = Mutex::new(addresses);
    let watching = watch(analytics.program.address);
    send(&addresses, |part| {
        let sink = &mut sinks[part % 2];
        sink.kill();
        installation.restart(sink);
        check_count(&analytics.program);
    });
    assert_eq!(watching.join().expect("each once"), ids());
    check(&analytics.program, false);
    until("every destination has it", || {
        let running: Vec<_> = sinks.iter().map(|sink| &sink.program).collect();
        caught_up(&running, "user_events", 3)
    });
    check(&analytics.program, true);
    let select = |what: &str| format!("SELECT {what} FROM {}_user_events", installation.name);
    let sum = analytics
        .program
        .number("select sum(n) from user_events")
        .to_string();
    for (what, expected) in [("count(*)", ids().to_string()), ("sum(n)", sum)] {
        assert_eq!(servers.postgres(&select(what)).trim(), expected, "{what}");
        assert_eq!(servers.mysql(&select(what)).trim(), expected, "{what}");
    }
    analytics.kill();
    installation.restart(&mut analytics);
    check(&analytics.program, true);
    let late = watch(analytics.program.address);
    assert_eq!(late.join().expect("each once"), ids());
    for statement in ["DROP TABLE", "DELETE FROM tidemill_positions WHERE target ="] {
        let table = format!("{}_user_events", installation.name);
        let text = if statement.starts_with("DROP") {
            format!("{statement} {table}")
        } else {
            format!("{statement} '{table}'")
        };
        servers.postgres(&text);
        servers.mysql(&text);
    }
}

/// Watches from the first event on until every id has come, each of them once. Gives how many have.
fn watch(address: SocketAddr) -> std::thread::JoinHandle<i64> {
    let (mut stream, _) = EventStream::of(address, "/v1/streams/user_events/tail?from=start");
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while (seen.len() as i64) < ids() {
            let event = stream.next_event().expect("an event");
            assert_eq!(event.kind, "", "nothing is missed: {event:?}");
            let id = event.json()["event_id"].to_string();
            assert!(seen.insert(id), "{event:?} came twice");
        }
        seen.len() as i64
    })
}

/// Whatever is there by now is there once.
fn check_count(server: &Program) {
    let rows = server.rows("select count(*), count(distinct event_id) from user_events");
    assert_eq!(rows[0][0], rows[0][1]);
}
