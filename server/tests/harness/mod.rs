//! Starts the real binary and speaks HTTP/1.1 to it over plain sockets, as a stranger would.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up; nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidemill serve`; killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

/// The binary with arguments, and no settings from the environment of the test run.
pub(crate) fn tidemill(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEMILL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

impl Program {
    /// Starts on a free port and returns once it says that it listens.
    pub(crate) fn start(data_dir: &Path, more: &[&str]) -> Self {
        Self::start_with(data_dir, more, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn start_with(data_dir: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let directory = data_dir.to_str().expect("UTF-8");
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", directory];
        arguments.extend(more);
        let mut child = tidemill(&arguments)
            // No `tidemill.toml` of somebody else is read.
            .current_dir(data_dir)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the binary");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = loop {
            match lines.next() {
                Some(Ok(line)) => {
                    let url = line.strip_prefix("listening on ");
                    if let Some((_, address)) = url.and_then(|url| url.split_once("://")) {
                        break address.parse().expect("an address");
                    }
                }
                _ => panic!("ended before it listened: {:?}", child.wait()),
            }
        };
        // What it prints later must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], b"").expect("an answer")
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        request(
            self.address,
            "POST",
            path,
            &[("content-type", content_type)],
            body,
        )
        .expect("an answer")
    }

    /// Posts lines of NDJSON to a stream.
    pub(crate) fn ndjson(&self, stream: &str, body: &str) -> Answer {
        self.post(
            &format!("/v1/streams/{stream}/events"),
            "application/x-ndjson",
            body.as_bytes(),
        )
    }

    /// The rows of a statement, as JSON.
    pub(crate) fn rows(&self, statement: &str) -> Vec<serde_json::Value> {
        let headers = [("content-type", "text/plain"), ("accept", "application/json")];
        let answer =
            request(self.address, "POST", "/v1/sql", &headers, statement.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        answer.json()["rows"].as_array().expect("rows").clone()
    }

    /// The one number that a statement gives.
    pub(crate) fn number(&self, statement: &str) -> i64 {
        let rows = self.rows(statement);
        rows[0][0]
            .as_i64()
            .unwrap_or_else(|| panic!("{statement}: {rows:?}"))
    }

    /// The value of a metric, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        text.lines().filter_map(value).sum()
    }

    /// Sends a signal, as `kill` does.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(status.success());
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends as a power cut of the process would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Ends in order, and says how.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    read_answer(&mut stream)
}

/// Reads an answer up to the end of the connection.
pub(crate) fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let broken = || std::io::Error::other(format!("no answer in {} bytes", all.len()));
    let at = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&all[..at]).to_ascii_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(broken)?;
    let mut body = all[at + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body).ok_or_else(broken)?;
    }
    Ok(Answer { status, head, body })
}

fn unchunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?.trim(), 16).ok()?;
        chunks = &chunks[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunks.get(..size)?);
        chunks = chunks.get(size + 2..)?;
    }
}

/// Waits until `condition` holds; the failure says what for.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `count` events of `running` from number `from` on; every event is different.
pub(crate) fn running(from: u64, count: u64) -> String {
    let mut lines = String::new();
    for number in from..from + count {
        let second = number % 60;
        let minute = (number / 60) % 60;
        lines.push_str(&format!(
            "{{\"user_id\":\"00000000-0000-4000-8000-{number:012x}\",\"duration\":{number},\"distance\":{},\
             \"timestamp\":\"2024-09-10T09:{minute:02}:{second:02}Z\"}}\n",
            number % 10_000
        ));
    }
    lines
}
