//! A server that answers as a script says, whatever it is asked, to see what a client makes of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What is done with the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// 200; every line is accepted.
    Accept,
    /// A status that means "later", perhaps with the seconds.
    Busy(u16, Option<u64>),
    /// A status that means "no".
    Refuse(u16),
    /// The connection is closed without an answer.
    Hang,
}

/// A server on a free port, with a script for one connection after the other.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
}

impl Scripted {
    /// Starts; the thread ends with the script.
    pub(crate) fn start(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let mut steps = script.into_iter();
            while steps.len() > 0 {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                answer_all(stream, &mut steps);
            }
        });
        Self { address }
    }
}

fn answer_all(mut stream: TcpStream, steps: &mut std::vec::IntoIter<Step>) {
    let mut pending = Vec::new();
    while let Some(body) = read_request(&mut stream, &mut pending) {
        let Some(step) = steps.next() else { return };
        let lines = body.iter().filter(|byte| **byte == b'\n').count();
        let (status, more, body) = match step {
            Step::Accept => (
                200,
                String::new(),
                format!("{{\"accepted\":{lines},\"rejected\":0}}"),
            ),
            Step::Busy(status, Some(seconds)) => {
                (status, format!("retry-after: {seconds}\r\n"), String::from("{}"))
            }
            Step::Busy(status, None) | Step::Refuse(status) => (status, String::new(), String::from("{}")),
            Step::Hang => return,
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\n{more}content-length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The body of the next request; none when the client is gone.
fn read_request(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(head_end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..head_end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let end =
                head_end + 4 + length.map_or(0, |length| length.trim().parse::<usize>().expect("a length"));
            if pending.len() >= end {
                let request: Vec<u8> = pending.drain(..end).collect();
                return Some(request[head_end + 4..].to_vec());
            }
        }
        let mut some = [0; 4_096];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(read) => pending.extend_from_slice(&some[..read]),
        }
    }
}
