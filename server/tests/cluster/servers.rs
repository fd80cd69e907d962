//! Servers that belong to one test, which may kill and pause them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::processes::Servers;

/// The names of those that an installation has behind it.
pub(crate) const BEHIND: [&str; 3] = ["kafka", "mariadb", "postgres"];
const ALL: [&str; 6] = ["kafka", "mariadb", "postgres", "redis", "rabbitmq", "s3"];

/// A set of servers of one's own, which ends with its test, however that ends.
pub(crate) struct OwnServers {
    program: PathBuf,
    folder: tempfile::TempDir,
    guard: Child,
}

impl OwnServers {
    /// Starts them with what starts the shared ones. `None`, loudly, where that was not built.
    pub(crate) fn start() -> Option<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_tidemill"));
        let program = built.with_file_name("xtask");
        if !program.exists() {
            assert!(
                std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none(),
                "`{}` starts the servers of this test and must be there",
                program.display()
            );
            println!("SKIPPED: needs `{}` (cargo xtask test)", program.display());
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let guard = services(&program, folder.path())
            .arg("guard")
            .args(ALL)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the guard starts");
        let own = Self {
            program,
            folder,
            guard,
        };
        own.up();
        Some(own)
    }

    /// Starts what does not run. It keeps its data and its port.
    pub(crate) fn up(&self) {
        let mut command = services(&self.program, self.folder.path());
        let done = command.args(["up", "--local"]).output().expect("xtask starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// How they are reached.
    pub(crate) fn servers(&self) -> Servers {
        let text = fs::read_to_string(self.directory().join("env")).expect("the variables");
        let variable = |name: &str| {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('\'').to_owned())
        };
        Servers::of(variable).expect("all of them are up")
    }

    /// Sends a signal to a server and its children.
    pub(crate) fn signal(&self, server: &str, signal: &str) {
        let process = fs::read_to_string(self.directory().join(server).join("process")).expect("its process");
        let id = process.split_whitespace().next().expect("a process id");
        let sent = Command::new("kill")
            .args([format!("-{signal}"), "--".to_owned(), format!("-{id}")])
            .status()
            .expect("kill");
        assert!(sent.success(), "signal {signal} to {server}");
    }

    fn directory(&self) -> PathBuf {
        directory(self.folder.path())
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        // The end of its input tells the guard to stop them.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn directory(folder: &Path) -> PathBuf {
    folder.join("services")
}

fn services(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("services")
        .env("TIDEMILL_SERVICES_DIR", directory(folder));
    command
}
