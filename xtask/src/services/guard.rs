//! Stops what `cargo xtask test` started, however that ends.
//!
//! A process of its own, away from the terminal, reads a pipe whose other end only the test run holds. When that
//! end is closed, because the run is over, or was interrupted, or killed, the guard stops the servers. So there is
//! one way to the end and no signal to be handled.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use super::local;

/// Lives as long as the servers shall.
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard for those servers, before they are started.
    pub(crate) fn start(names: &[&str]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
        let child = Command::new("setsid")
            .arg(program)
            .args(["services", "guard"])
            .args(names)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("start the guard of the services: {error}"))?;
        Ok(Self { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("xtask: wait for the guard of the services: {error}");
        }
    }
}

/// What the guard's own process does.
pub(super) fn watch(names: &[&str]) -> Result<(), String> {
    let mut nothing = [0; 64];
    while matches!(io::stdin().read(&mut nothing), Ok(read) if read > 0) {}
    if names.len() == local::SERVERS.len() {
        return super::down();
    }
    super::down_some(names)
}
