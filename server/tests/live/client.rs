//! Clients who watch, as strangers would write them: `text/event-stream` over a plain socket, and a WebSocket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::PATIENCE;

/// One event of a stream. What only says where the client is has no data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) retry: Option<u64>,
}

impl Event {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {:?}", self.data))
    }
}

/// An open stream of events.
pub(crate) struct EventStream {
    lines: BufReader<Chunks>,
}

/// The body of an answer in chunks.
struct Chunks {
    stream: BufReader<TcpStream>,
    left: usize,
}

impl Chunks {
    /// Reads up to the next chunk's bytes; 0 at the end.
    fn next_chunk(&mut self) -> std::io::Result<usize> {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(0);
            }
        }
        usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            self.left = self.next_chunk()?;
        }
        let most = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

impl EventStream {
    /// Asks for a stream; the answer's head when it is not one.
    pub(crate) fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Result<Self, String>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            if stream.read_line(&mut answer)? == 0 {
                return Err(std::io::Error::other("no answer"));
            }
        }
        if !answer.starts_with("HTTP/1.1 200") {
            return Ok(Err(answer));
        }
        assert!(
            answer
                .to_ascii_lowercase()
                .contains("content-type: text/event-stream"),
            "{answer}"
        );
        Ok(Ok(Self {
            lines: BufReader::new(Chunks { stream, left: 0 }),
        }))
    }

    /// A stream that must open, past its first words.
    pub(crate) fn of(address: SocketAddr, path: &str) -> (Self, String) {
        let opened = Self::open(address, path, &[]).expect("an answer");
        let mut stream = opened.unwrap_or_else(|answer| panic!("{path}: {answer}"));
        let first = stream.next().expect("first words");
        assert!(first.retry.is_some() && first.data.is_empty(), "{first:?}");
        (stream, first.id)
    }

    /// The next event; `None` when the stream has ended, however it did.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line);
            if !matches!(read, Ok(read) if read > 0 && line.ends_with('\n')) {
                return None;
            }
            let line = line.trim_end_matches('\n');
            match line.split_once(": ") {
                _ if line.is_empty() => return Some(event),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", kind)) => event.kind = kind.to_owned(),
                Some(("data", data)) => event.data.push_str(data),
                Some(("retry", retry)) => event.retry = retry.parse().ok(),
                _ => assert!(line.starts_with(':'), "{line:?}"),
            }
        }
    }

    /// The next event that has data.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            let event = self.next()?;
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }
}
