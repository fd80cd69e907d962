//! The server as a process of its own: started, looked at, and stopped in order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use server::load::ask::ask;

use crate::Anything;
use crate::processors::{self, Moment};

/// How long start and end may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often its memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running `tidemill serve` on a free port; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: String,
    memory: Arc<Memory>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Memory {
    peak: AtomicU64,
    ended: AtomicBool,
}

impl Process {
    /// Starts the binary that lies beside this one in a directory, and waits until it listens. The data that a
    /// process before it left there is its own; `config` is TOML, without any of its own the starter streams are served.
    ///
    /// # Errors
    /// What the server said when it ended instead.
    pub fn start(directory: &Path, config: &str) -> Result<Self, Anything> {
        let binary = std::env::current_exe()?.with_file_name("tidemill");
        let address_file = directory.join("address");
        if address_file.exists() {
            std::fs::remove_file(&address_file)?;
        }
        std::fs::write(directory.join("tidemill.toml"), config)?;
        let mut command = Command::new(&binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEMILL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args([
                "serve",
                "--config",
                "tidemill.toml",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                "data",
                "--address-file",
            ])
            .arg(&address_file)
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log"))?)
            .spawn()
            .map_err(|error| format!("start `{}`: {error}", binary.display()))?;
        let memory = Arc::new(Memory::default());
        let mut process = Self {
            address: String::new(),
            watcher: Some(watch(child.id(), Arc::clone(&memory))),
            memory,
            child,
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
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Seconds of processor time that it has used, with the processes that it started.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(&self) -> Result<f64, Anything> {
        processors::of_tree(self.child.id())
    }

    /// Its anonymous memory as it is now, in bytes; 0 when it is gone.
    #[must_use]
    pub fn memory(&self) -> u64 {
        rss_anon(&PathBuf::from(format!("/proc/{}/status", self.child.id()))).unwrap_or(0)
    }

    /// The counters of processor time as they are now.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn processors(&self) -> Result<Moment, Anything> {
        Moment::now(self.child.id())
    }

    /// What `/readyz` says, whether it is ready or not.
    ///
    /// # Errors
    /// When there is no answer, or none that is JSON.
    pub async fn readiness(&self) -> Result<Value, Anything> {
        let answer = ask(&self.address, http::Request::get("/readyz"), "").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn until_ready(&self) -> Result<(), Anything> {
        let begun = Instant::now();
        loop {
            let state = self.readiness().await?;
            if state["ready"] == true {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("the server does not get ready: {state}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Records of the journal that its sink has not read; none when it has no sink.
    ///
    /// # Errors
    /// As [`Self::readiness`].
    pub async fn lag(&self) -> Result<Option<u64>, Anything> {
        let ready = self.readiness().await?;
        let of = |streams: &Vec<Value>| {
            let lags = streams.iter().filter_map(|stream| stream["lag_records"].as_u64());
            lags.sum()
        };
        Ok(ready["sink"].as_array().map(of))
    }

    /// Stops it in order, and gives the peak of its anonymous memory in bytes.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(mut self) -> Result<u64, Anything> {
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

/// A new directory beside the binaries: that is the disk that was chosen for building, and `/tmp` may be memory.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> Result<tempfile::TempDir, Anything> {
    let here = std::env::current_exe()?;
    let beside = here.parent().ok_or("a binary lies in a directory")?;
    Ok(tempfile::tempdir_in(beside)?)
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
