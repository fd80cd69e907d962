//! A stream with `unique`: whoever watches sees each id once, as SQL does, over SSE and over a WebSocket, through kills of
//! the server, behind the journal or behind the lake, and from the start when the lake has taken over.
//!
//! Method: one client posts batches whose ids come again, in the same batch, in the next ones and long after, and goes on
//! whatever ends the server; two watch, and come back with the last id that they saw. In the end each must have exactly
//! what is stored, in the order in which it is stored; and so must who comes then.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::client::EventStream;
use crate::harness::{Program, request, until};
use crate::websocket::Socket;
use crate::{config, directory};

const TAIL: &str = "/v1/streams/clicks/tail";
const SEED: u64 = 20_261_121;

/// What the threads share.
struct World {
    address: Mutex<SocketAddr>,
    /// Whether the poster is to end, and those who watch.
    posted: AtomicBool,
    ending: AtomicBool,
    /// What each client has seen: the event's id in the journal, and its number.
    seen: [Mutex<Vec<(String, u64)>>; 2],
}

impl World {
    fn address(&self) -> SocketAddr {
        *self.address.lock().expect("whole")
    }

    fn saw(&self, client: usize, id: &str, event: &Value) {
        let number = event["n"].as_u64().unwrap_or_else(|| panic!("{event}"));
        let mut seen = self.seen[client].lock().expect("whole");
        seen.push((id.to_owned(), number));
    }

    fn last_id(&self, client: usize) -> Option<String> {
        let seen = self.seen[client].lock().expect("whole");
        seen.last().map(|(id, _)| id.clone())
    }

    fn count(&self, client: usize) -> usize {
        self.seen[client].lock().expect("whole").len()
    }
}

/// Posts batches: every line has a number of its own, and most ids come several times.
fn post(world: &World) {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut number = 0_u64;
    while !world.posted.load(Ordering::Relaxed) {
        let mut body = String::new();
        for _ in 0..random.random_range(1..9) {
            let newest = number / 2;
            let id = newest - random.random_range(0..=newest.min(300));
            let event = json!({"event_id": format!("00000000-0000-4000-8000-{id:012x}"), "n": number});
            body.push_str(&format!("{event}\n"));
            number += 1;
        }
        let headers = [("content-type", "application/x-ndjson")];
        let path = "/v1/streams/clicks/events";
        // What became of it, if there is no answer, the table says.
        if request(world.address(), "POST", path, &headers, body.as_bytes()).is_err() {
            std::thread::yield_now();
        }
    }
}

fn watch_stream(world: &World) {
    while !world.ending.load(Ordering::Relaxed) {
        let id = world.last_id(0);
        let headers: Vec<_> = id.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let path = format!("{TAIL}?from=start");
        let Ok(Ok(mut stream)) = EventStream::open(world.address(), &path, &headers) else {
            std::thread::yield_now();
            continue;
        };
        while let Some(event) = stream.next() {
            if !event.data.is_empty() {
                assert_eq!(event.kind, "", "nothing is missed: {event:?}");
                world.saw(0, &event.id, &event.json());
            }
        }
    }
}

fn watch_socket(world: &World) {
    while !world.ending.load(Ordering::Relaxed) {
        let from = world.last_id(1).unwrap_or_else(|| "start".to_owned());
        let Ok(mut socket) = Socket::open(world.address(), &format!("{TAIL}?from={from}")) else {
            std::thread::yield_now();
            continue;
        };
        while let Some(message) = socket.next_json() {
            let id = message["id"].as_str().unwrap_or_else(|| panic!("{message}"));
            world.saw(1, id, &message["event"]);
        }
    }
}

/// The numbers of the events that SQL finds from a record on, in their order.
fn stored(program: &Program, from: &str) -> Vec<u64> {
    let statement = format!("select n from clicks where _offset >= {from} order by _offset, _row");
    let rows = program.rows(&statement);
    rows.iter()
        .map(|row| row[0].as_u64().expect("a number"))
        .collect()
}

/// Somebody who comes now gets all of it from the first event on, and from where the journal begins.
fn comes_late(program: &Program, all: &[u64]) {
    let path = format!("{TAIL}?from=0:0");
    let (mut stream, _) = EventStream::of(program.address, &path);
    let mut socket = Socket::open(program.address, &path).expect("a socket");
    for n in all {
        assert_eq!(stream.next_event().expect("an event").json()["n"], *n);
        assert_eq!(socket.next_json().expect("an event")["event"]["n"], *n);
    }
    let (mut stream, start) = EventStream::of(program.address, &format!("{TAIL}?from=start"));
    let start = start.strip_prefix("0:").expect("a position of the one partition");
    for n in stored(program, start) {
        assert_eq!(stream.next_event().expect("an event").json()["n"], n);
    }
}

fn run(after: &str) {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 20 } else { 2 };
    println!("seed {SEED}, after {after}, {kills} kills");
    let data = directory();
    let text = format!(
        "[live]\nafter = \"{after}\"\nmemory = \"1MiB\"\n[lake.roll]\nevery = \"100ms\"\n\
         [lake.compact]\nevery = \"300ms\"\n[streams.clicks]\nunique = \"event_id\"\n\
         [streams.clicks.fields]\nevent_id = \"uuid\"\nn = \"int\"\n"
    );
    let config = config(data.path(), &text);
    let start = || Program::start(data.path(), &["--config", &config]);
    let mut program = start();
    let world = Arc::new(World {
        address: Mutex::new(program.address),
        posted: AtomicBool::new(false),
        ending: AtomicBool::new(false),
        seen: Default::default(),
    });
    let spawn = |work: fn(&World)| {
        let world = Arc::clone(&world);
        std::thread::spawn(move || work(&world))
    };
    let (posting, stream, socket) = (spawn(post), spawn(watch_stream), spawn(watch_socket));
    for _ in 0..kills {
        let before = [world.count(0), world.count(1)];
        until("both clients see more", || {
            (0..2).all(|client| world.count(client) > before[client] + 100)
        });
        program.kill();
        program = start();
        *world.address.lock().expect("whole") = program.address;
    }
    world.posted.store(true, Ordering::Relaxed);
    posting.join().expect("the poster");
    let expected = stored(&program, "0");
    until("both clients have seen everything", || {
        (0..2).all(|client| world.count(client) >= expected.len())
    });
    comes_late(&program, &expected);
    until("the lake has it", || {
        let body = program.get("/readyz").json();
        let sinks = body["sink"].as_array().cloned().unwrap_or_default();
        let own = |one: &&Value| one["stream"] == "clicks";
        let done = |one: &Value| one["lag_records"] == 0 && one["open_rows"] == 0;
        sinks.iter().filter(own).count() > 0 && sinks.iter().filter(own).all(done)
    });
    comes_late(&program, &expected);
    assert_eq!(stored(&program, "0"), expected);
    let from_lake = "tidemill_live_catch_up_reads_total{stream=\"clicks\",from=\"lake\"}";
    assert!(
        program.metric(from_lake) >= 1.0,
        "nobody was served from the lake"
    );
    world.ending.store(true, Ordering::Relaxed);
    assert!(program.stop().success());
    stream.join().expect("the stream");
    socket.join().expect("the socket");
    for client in 0..2 {
        let seen = world.seen[client].lock().expect("whole");
        let numbers: Vec<_> = seen.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, expected, "client {client}");
    }
}

#[test]
fn each_id_comes_once_and_in_order_through_kills_of_the_server() {
    run("journal");
}

#[test]
fn each_id_comes_once_and_in_order_after_the_lake_has_it() {
    run("lake");
}
