//! A client that writes down what it sends, before, and what was acknowledged, after; both fsynced.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::PATIENCE;

/// Posts batches with a pause of `pace` after each until told to stop, over as many connections as it takes. Gives the
/// number of events that were acknowledged.
pub(crate) fn run(
    id: u64,
    seed: u64,
    ledger: &Path,
    address: &Mutex<SocketAddr>,
    pace: Duration,
    stop: &AtomicBool,
) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut ledger = File::create(ledger).expect("the ledger is created");
    let mut note = |line: String| {
        ledger.write_all(line.as_bytes()).expect("the ledger is written");
        ledger.sync_data().expect("the ledger is synced");
    };
    let mut connection = None;
    let (mut batch, mut acknowledged) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        let Some(open) = connection.take().or_else(|| connect(address)) else {
            // The server is away; looks again soon.
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let lines: u64 = if random.random_bool(0.5) {
            random.random_range(1..20)
        } else {
            random.random_range(20..4_000)
        };
        let body = body(id, batch, lines, &mut random);
        note(format!("send {id} {batch} {lines}\n"));
        if let Some((open, accepted)) = post(open, &body) {
            connection = Some(open);
            if let Some(accepted) = accepted {
                note(format!("acknowledged {id} {batch} {accepted}\n"));
                acknowledged += accepted;
            }
        }
        batch += 1;
        std::thread::sleep(pace);
    }
    acknowledged
}

fn body(client: u64, batch: u64, lines: u64, random: &mut ChaCha8Rng) -> String {
    let mut body = String::new();
    for line in 0..lines {
        let text: u64 = random.random();
        body += &format!("{{\"client\":{client},\"batch\":{batch},\"line\":{line},\"text\":\"{text:x}\"}}\n");
    }
    body
}

fn connect(address: &Mutex<SocketAddr>) -> Option<TcpStream> {
    let address = *address.lock().expect("whole");
    let open = TcpStream::connect(address).ok()?;
    open.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(open)
}

/// Sends one batch. `None` when the connection broke, so that the outcome is unknown; no number when the server
/// answered anything else than 200.
fn post(mut open: TcpStream, body: &str) -> Option<(TcpStream, Option<u64>)> {
    let head = format!(
        "POST /v1/streams/ledger/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    open.write_all(head.as_bytes()).ok()?;
    open.write_all(body.as_bytes()).ok()?;
    let mut reader = BufReader::new(open);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status: u16 = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer).ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    let accepted = (status == 200).then(|| answer["accepted"].as_u64().expect("the answer names a count"));
    Some((reader.into_inner(), accepted))
}
