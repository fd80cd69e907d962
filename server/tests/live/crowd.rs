//! Many clients at once: each gets everything, soon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::directory;
use crate::harness::{Program, running, until};

/// Events that are posted, one a request.
const EVENTS: usize = 100;
/// The time between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// A client that notes when each event came.
async fn watch(address: SocketAddr, ready: Arc<Semaphore>, events: usize) -> std::io::Result<Vec<Instant>> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET /v1/streams/running/tail HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let mut arrived = Vec::with_capacity(events);
    while arrived.len() < events {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other(format!(
                "the stream ended after {} events",
                arrived.len()
            )));
        }
        if line.starts_with("retry:") {
            ready.add_permits(1);
        }
        if line.starts_with("data:") {
            arrived.push(Instant::now());
        }
    }
    Ok(arrived)
}

/// Posts one event after the other on one connection; gives when each was sent, and how long its answer took.
async fn post(address: SocketAddr, events: usize) -> Vec<(Instant, Duration)> {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let mut answers = Vec::new();
    let mut ticks = tokio::time::interval(PAUSE);
    for number in 0..events {
        ticks.tick().await;
        let body = running(number as u64, 1);
        let head = format!(
            "POST /v1/streams/running/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let begun = Instant::now();
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // The answer's body ends the way in which it is written: an object, and a line end.
        while !answer.ends_with(b"}\n") && !answer.ends_with(b"}") {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.expect("an answer");
            assert!(read > 0, "the connection ended");
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        answers.push((begun, begun.elapsed()));
    }
    answers
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn quantiles(durations: impl Iterator<Item = Duration>) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("a histogram");
    for one in durations {
        let micros = u64::try_from(one.as_micros()).expect("a short time");
        histogram.record(micros).expect("the histogram grows");
    }
    histogram
}

fn show(what: &str, histogram: &Histogram<u64>) {
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
}

#[test]
fn many_clients_all_get_everything_soon() {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let clients = if soak { 1_000 } else { 100 };
    let events = if soak { 10 * EVENTS } else { EVENTS };
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let address = program.address;
    let alone = runtime().block_on(post(address, EVENTS));
    show("ingest alone", &quantiles(alone.iter().map(|(_, took)| *took)));
    let ready = Arc::new(Semaphore::new(0));
    let (posted, watched) = runtime().block_on(async {
        let mut watching = JoinSet::new();
        for _ in 0..clients {
            watching.spawn(watch(address, Arc::clone(&ready), events));
        }
        let all = u32::try_from(clients).expect("few");
        ready.acquire_many(all).await.expect("open").forget();
        // On a thread of its own, so that its answers do not wait for those who watch.
        let posting = tokio::task::spawn_blocking(move || runtime().block_on(post(address, events)));
        let watched = watching.join_all().await;
        (posting.await.expect("all are posted"), watched)
    });
    show(
        "ingest while they watch",
        &quantiles(posted.iter().map(|(_, took)| *took)),
    );
    let mut latencies = Vec::new();
    for arrived in watched {
        let arrived = arrived.expect("a client that got everything");
        let pairs = arrived.iter().zip(&posted);
        latencies.extend(pairs.map(|(arrived, (sent, _))| arrived.duration_since(*sent)));
    }
    let histogram = quantiles(latencies.into_iter());
    show(
        &format!("from being sent to a client, {clients} clients"),
        &histogram,
    );
    if soak {
        assert!(
            histogram.value_at_quantile(0.99) <= 250_000,
            "p99 is above 250 ms"
        );
    }
    until("everybody has gone", || {
        program.metric("tidemill_live_clients") < 1.0
    });
}
