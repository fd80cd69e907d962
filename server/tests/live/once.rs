//! Every stored event once, in order, through kills of the server.
//!
//! Method: one client posts numbered events and goes on whatever ends the server; one watches over SSE and one over a
//! WebSocket, and both come back with the last id that they saw. In the end each must have exactly what is stored, in
//! the order in which it is stored.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::EventStream;
use crate::harness::{Program, request, running, until};
use crate::websocket::Socket;
use crate::{config, directory};

const TAIL: &str = "/v1/streams/running/tail";

/// What the threads share.
struct World {
    address: Mutex<SocketAddr>,
    /// Whether the poster is to end, and those who watch.
    posted: AtomicBool,
    ending: AtomicBool,
    /// What each client has seen: id and number.
    seen: [Mutex<Vec<(String, u64)>>; 2],
}

impl World {
    fn address(&self) -> SocketAddr {
        *self.address.lock().expect("not poisoned")
    }

    fn ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn saw(&self, client: usize, id: String, number: u64) {
        self.seen[client].lock().expect("not poisoned").push((id, number));
    }

    fn last_id(&self, client: usize) -> Option<String> {
        let seen = self.seen[client].lock().expect("not poisoned");
        seen.last().map(|(id, _)| id.clone())
    }

    fn count(&self, client: usize) -> usize {
        self.seen[client].lock().expect("not poisoned").len()
    }
}

/// Posts batches, each number at most once, whatever happens.
fn post(world: &World) {
    let mut number = 0;
    while !world.posted.load(Ordering::Relaxed) {
        let count = 1 + number % 7;
        let headers = [("content-type", "application/x-ndjson")];
        let body = running(number, count);
        // What became of it, if there is no answer, the table says.
        let path = "/v1/streams/running/events";
        if request(world.address(), "POST", path, &headers, body.as_bytes()).is_err() {
            std::thread::yield_now();
        }
        number += count;
    }
}

fn watch_stream(world: &World) {
    while !world.ending() {
        let id = world.last_id(0);
        let headers: Vec<_> = id.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let path = format!("{TAIL}?from=start");
        let Ok(opened) = EventStream::open(world.address(), &path, &headers) else {
            std::thread::yield_now();
            continue;
        };
        let mut stream = opened.expect("a stream");
        while let Some(event) = stream.next() {
            if event.data.is_empty() {
                continue;
            }
            assert_eq!(event.kind, "", "nothing is missed: {event:?}");
            let number = event.json()["duration"].as_u64().expect("a number");
            world.saw(0, event.id, number);
        }
    }
}

fn watch_socket(world: &World) {
    while !world.ending() {
        let from = world.last_id(1).unwrap_or_else(|| "start".to_owned());
        let Ok(mut socket) = Socket::open(world.address(), &format!("{TAIL}?from={from}")) else {
            std::thread::yield_now();
            continue;
        };
        while let Some(message) = socket.next_json() {
            let id = message["id"]
                .as_str()
                .unwrap_or_else(|| panic!("{message}"))
                .to_owned();
            let number = message["event"]["duration"].as_u64().expect("a number");
            world.saw(1, id, number);
        }
    }
}

fn start(directory: &Path, config: &str) -> Program {
    Program::start(directory, &["--config", config])
}

#[test]
fn each_stored_event_comes_once_and_in_order_through_kills_of_the_server() {
    let kills = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        30
    } else {
        4
    };
    let data = directory();
    // Files are rolled all the time, so what is watched lies in the journal, and in the lake as well.
    let config = config(data.path(), "[lake.roll]\nevery = \"100ms\"\n");
    let mut program = start(data.path(), &config);
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
    for kill in 0..kills {
        let before = (world.count(0), world.count(1));
        until("both clients see more", || {
            world.count(0) > before.0 + 100 && world.count(1) > before.1 + 100
        });
        program.kill();
        program = start(data.path(), &config);
        *world.address.lock().expect("not poisoned") = program.address;
        println!(
            "kill {kill}: {} and {} events seen",
            world.count(0),
            world.count(1)
        );
    }
    world.posted.store(true, Ordering::Relaxed);
    posting.join().expect("the poster");
    let statement = "select duration from running order by _offset, _row";
    let rows = program.rows(statement);
    let stored: Vec<_> = rows
        .iter()
        .map(|row| row[0].as_u64().expect("a number"))
        .collect();
    until("both clients have seen everything", || {
        world.count(0) >= stored.len() && world.count(1) >= stored.len()
    });
    // What would come twice, or in addition, would come now.
    std::thread::sleep(Duration::from_millis(100));
    world.ending.store(true, Ordering::Relaxed);
    assert!(program.stop().success());
    stream.join().expect("the stream");
    socket.join().expect("the socket");
    for client in 0..2 {
        let seen = world.seen[client].lock().expect("not poisoned");
        let numbers: Vec<_> = seen.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers.len(), stored.len(), "client {client}");
        assert_eq!(numbers, stored, "client {client}");
    }
}
