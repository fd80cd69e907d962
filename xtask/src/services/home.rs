//! Where one server lives: its directory, and what must be the same at the next start.
//!
//! ```text
//! target/services/<server>/
//!   values    NAME=value lines: ports, random words, the directory of the data
//!   process   pid and start time of the running process
//!   log       what it prints
//!   data/     what it keeps
//!   prepared  empty; there when the first start was brought to its end
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where ports are looked for: below the range from which systems take the port of an outgoing connection, so
/// that no client of the tests sits on the port of a server that is about to be started again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// For how long a port that was ours may be somebody's until another one is taken.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// As much of a log as an error shows, in bytes and in lines.
const LOG_TAIL_BYTES: u64 = 16 << 10;
const LOG_TAIL_LINES: usize = 40;

/// The directory of one server and the values that are remembered in it.
pub(super) struct Home {
    directory: PathBuf,
    values: BTreeMap<String, String>,
}

impl Home {
    /// Opens the directory, empty or as it was left.
    pub(super) fn open(directory: PathBuf) -> Result<Self, String> {
        make_directory(&directory, 0o711)?;
        let text = fs::read_to_string(directory.join("values")).unwrap_or_default();
        Ok(Self {
            values: parse_values(&text),
            directory,
        })
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in the directory, as text for an argument.
    pub(super) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Where the server keeps its data: in the directory, or where its account can reach it.
    pub(super) fn data(&self) -> String {
        self.values
            .get("data")
            .cloned()
            .unwrap_or_else(|| self.file("data"))
    }

    /// What the server prints.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// A remembered value; empty when there is none, which `remember` prevents.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// `127.0.0.1` and that port.
    pub(super) fn address(&self, port: &str) -> String {
        format!("127.0.0.1:{}", self.value(port))
    }

    /// Remembers a value, also for the next start.
    pub(super) fn remember(&mut self, name: &str, value: String) -> Result<(), String> {
        self.values.insert(name.to_owned(), value);
        let text: String = self
            .values
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        write_private(&self.directory.join("values"), &text)
    }

    /// Gives each name a port that is free now: the remembered one if nobody took it. What is returned holds the
    /// ports, so that whoever chooses next gets others; drop it before the server starts.
    pub(super) fn choose_ports(&mut self, names: &[&str]) -> Result<Vec<TcpListener>, String> {
        let mut held = Vec::new();
        for name in names {
            let listener = match self.value(name).parse().ok().and_then(bind_again) {
                Some(listener) => listener,
                None => free_port()?,
            };
            let port = listener
                .local_addr()
                .map_err(|error| format!("read a port: {error}"))?
                .port();
            self.remember(name, port.to_string())?;
            held.push(listener);
        }
        Ok(held)
    }

    /// Gives each name a random word, unless it has one.
    pub(super) fn choose_secrets(&mut self, names: &[&str]) -> Result<(), String> {
        for name in names {
            if self.value(name).is_empty() {
                self.remember(name, random_word()?)?;
            }
        }
        Ok(())
    }

    /// Whether the first start was brought to its end.
    pub(super) fn is_prepared(&self) -> bool {
        self.directory.join("prepared").exists()
    }

    /// Says that the first start was brought to its end.
    pub(super) fn set_prepared(&self) -> Result<(), String> {
        write_private(&self.directory.join("prepared"), "")
    }

    /// Removes the data, wherever it lies.
    pub(super) fn remove_data(&self) -> Result<(), String> {
        remove_all(Path::new(&self.data()))
    }

    /// The last lines that the server printed.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("(no log: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        last.iter().map(|line| format!("  | {line}\n")).collect()
    }
}

/// Lines of `NAME=value`; others are skipped.
fn parse_values(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

/// The same with a port that was ours before. Of a server that was killed the first thread may be gone while others
/// still have its sockets, so it is tried for a moment: its clients know this port.
fn bind_again(port: u16) -> Option<TcpListener> {
    let begun = Instant::now();
    loop {
        let bound = bind(port);
        if bound.is_some() || begun.elapsed() > PORT_PATIENCE {
            return bound;
        }
        sleep(Duration::from_millis(20));
    }
}

/// A listener on a port that nobody has: a random one of ours, or else whichever the system gives.
fn free_port() -> Result<TcpListener, String> {
    let width = u64::from(PORTS.end - PORTS.start);
    for _ in 0..64 {
        let offset = u16::try_from(random_number()? % width).unwrap_or_default();
        if let Some(listener) = bind(PORTS.start + offset) {
            return Ok(listener);
        }
    }
    TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("find a free port: {error}"))
}

fn random_number() -> Result<u64, String> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// 24 letters and digits, which no shell, URL or configuration file reads as something else.
fn random_word() -> Result<String, String> {
    let mut bytes = [0; 12];
    random(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random(bytes: &mut [u8]) -> Result<(), String> {
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytes))
        .map_err(|error| format!("read `/dev/urandom`: {error}"))
}

/// Makes a directory and those above it.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| format!("make `{}`: {error}", path.display()))
}

/// Writes a file that only its owner reads.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), String> {
    // Written anew each time, so that the mode holds also where somebody else made the file.
    let _ = fs::remove_file(path);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("write `{}`: {error}", path.display()))
}

/// Removes a directory with all that is in it; one that is not there is fine.
pub(super) fn remove_all(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("remove `{}`: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
