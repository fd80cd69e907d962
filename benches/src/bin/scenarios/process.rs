//! The server as a process of its own: started, looked at, and stopped in order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use benches::Anything;
use server::load::ask::ask;

/// How long start and end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often its memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running `tidemill serve` on a free port and new data; killed when dropped.
pub(super) struct Process {
    child: Child,
    address: String,
    memory: Arc<Memory>,
    watcher: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Memory {
    peak: AtomicU64,
    ended: AtomicBool,
}

impl Process {
    /// Starts the binary that lies beside this one, and waits until it is ready.
    pub(super) fn start() -> Result<Self, Anything> {
        let here = std::env::current_exe()?;
        let binary = here.with_file_name("tidemill");
        // Beside the binaries is the disk that was chosen for building, and `/tmp` may be memory.
        let beside = here.parent().ok_or("a binary lies in a directory")?;
        let directory = tempfile::tempdir_in(beside)?;
        let address_file = directory.path().join("address");
        let mut command = Command::new(&binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEMILL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                "data",
                "--address-file",
            ])
            .arg(&address_file)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()
            .map_err(|error| format!("start `{}`: {error}", binary.display()))?;
        let memory = Arc::new(Memory::default());
        let mut process = Self {
            address: String::new(),
            watcher: Some(watch(child.id(), Arc::clone(&memory))),
            memory,
            child,
            _directory: directory,
        };
        process.address = process.wait_for(&address_file)?;
        Ok(process)
    }

    fn wait_for(&mut self, file: &Path) -> Result<String, Anything> {
        let begun = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return Ok(text.lines().next().ok_or("no address")?.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(file.with_file_name("log"))?;
                return Err(format!("the server ended ({status}):\n{log}").into());
            }
            if begun.elapsed() > PATIENCE {
                return Err("the server does not get ready".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Records of the journal that the sink has not read.
    pub(super) async fn lag_records(&self) -> Result<u64, Anything> {
        let answer = ask(&self.address, http::Request::get("/readyz"), "").await?;
        let ready: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let streams = ready["sink"]
            .as_array()
            .ok_or("readiness does not tell the lag")?;
        Ok(streams
            .iter()
            .filter_map(|stream| stream["lag_records"].as_u64())
            .sum())
    }

    /// Stops it in order, and gives the peak of its anonymous memory in bytes.
    pub(super) fn stop(mut self) -> Result<u64, Anything> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status()?;
        if !told.success() {
            return Err(format!("kill -TERM {id}: {told}").into());
        }
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                return Err("the server does not end".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if !status.success() {
            return Err(format!("the server ended with {status}").into());
        }
        Ok(self.memory.peak.load(Ordering::Relaxed))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.memory.ended.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

fn watch(id: u32, memory: Arc<Memory>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let file = PathBuf::from(format!("/proc/{id}/status"));
        while !memory.ended.load(Ordering::Relaxed) {
            if let Some(bytes) = rss_anon(&file) {
                memory.peak.fetch_max(bytes, Ordering::Relaxed);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })
}

fn rss_anon(file: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(file).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
