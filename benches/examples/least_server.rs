//! The least that a server can do which makes requests durable before it answers them: how fast could answers be here?
//!
//! One thread takes whatever requests have come, writes as many bytes for each as it is told, into a file whose blocks
//! were written before, with one fdatasync for all of them, and answers. Nothing is decoded, checked or stored for
//! anybody to read. What `tidemill replay` measures against it is what this machine, its disk and the load generator
//! leave to every server; figures are in `benches/README.md`.
//!
//! ```sh
//! cargo build --release --workspace --examples
//! target/release/examples/least_server 127.0.0.1:9911 100 4000 least.file
//! tidemill replay --generate running --batch 100 --connections 64 --rate 1250000/s --for 10s --to http://127.0.0.1:9911
//! ```

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

/// Bytes of the file, which is written from its beginning again when it is full.
const FILE_BYTES: u64 = 128 << 20;

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Requests that wait for the next fdatasync.
#[derive(Default)]
struct Waiting {
    requests: RefCell<Vec<oneshot::Sender<()>>>,
    any: Notify,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, events, record_bytes, path] = &arguments[..] else {
        return Err("write ADDRESS EVENTS-IN-A-REQUEST RECORD-BYTES FILE".into());
    };
    let (events, record_bytes): (u64, usize) = (events.parse()?, record_bytes.parse()?);
    let file = File::create(path)?;
    let piece = vec![0x5a; 1 << 20];
    for at in (0..FILE_BYTES).step_by(piece.len()) {
        file.write_all_at(&piece, at)?;
    }
    file.sync_all()?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let body = format!(r#"{{"accepted":{events},"rejected":0}}"#);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (answer, waiting): (Rc<[u8]>, _) = (answer.into_bytes().into(), Rc::new(Waiting::default()));
    let tasks = LocalSet::new();
    tasks.spawn_local({
        let waiting = Rc::clone(&waiting);
        async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (waiting, answer) = (Rc::clone(&waiting), Rc::clone(&answer));
                tokio::task::spawn_local(async move {
                    // A client that goes away ends its connection.
                    let _ = serve(stream, &waiting, &answer).await;
                });
            }
        }
    });
    tasks.run_until(commit(&waiting, &file, record_bytes)).await
}

/// Writes and syncs for all requests that wait, then for the next ones.
async fn commit(waiting: &Waiting, file: &File, record_bytes: usize) -> Result<(), Box<dyn Error>> {
    let (mut at, mut bytes) = (0, Vec::new());
    loop {
        waiting.any.notified().await;
        // Whoever has come by now is taken along.
        tokio::task::yield_now().await;
        let requests = std::mem::take(&mut *waiting.requests.borrow_mut());
        bytes.resize(requests.len() * record_bytes, 0xa5);
        if at + bytes.len() as u64 > FILE_BYTES {
            at = 0;
        }
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        at += bytes.len() as u64;
        for request in requests {
            // Somebody who has gone away does not hear of it.
            let _ = request.send(());
        }
    }
}

/// Takes requests of one connection, and answers each when it is durable.
async fn serve(mut stream: TcpStream, waiting: &Waiting, answer: &[u8]) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let (head, body) = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break (end + 4, length(&read[..end]).ok_or("a request without a length")?);
            }
            if read.len() > HEAD_BYTES_MAX {
                return Err("the head is too long".into());
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        while read.len() < head + body {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        read.drain(..head + body);
        let (done, durable) = oneshot::channel();
        waiting.requests.borrow_mut().push(done);
        waiting.any.notify_one();
        durable.await?;
        stream.write_all(answer).await?;
    }
}

/// What a head says of its body, as `tidemill replay` writes it.
fn length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let value = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    value.parse().ok().filter(|bytes| *bytes <= 64 << 20)
}
