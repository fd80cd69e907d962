//! PostgreSQL, which refuses to run as root, so its data must lie where its own account can reach them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::home::{Home, write_private};
use super::process::{Account, output};
use super::server::{Launch, Server};

/// Where Debian has the programs, by version.
const PROGRAMS: &str = "/usr/lib/postgresql";

pub(super) struct Postgres;

impl Server for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn account(&self) -> Option<&'static str> {
        Some("postgres")
    }

    fn prepare(&self, home: &Home) -> Result<(), String> {
        // Read by another account, from the directory that belongs to it.
        let password = Path::new(&home.data()).join("password");
        write_private(&password, home.value("password"))?;
        let mut command = Command::new(program("initdb")?);
        command
            .args(["--username=tidemill", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--pgdata={}/cluster", home.data()))
            .arg(format!("--pwfile={}", password.display()))
            .current_dir(home.data());
        if let Some(account) = Account::of("postgres")? {
            std::os::unix::fs::chown(&password, Some(account.user), Some(account.group))
                .map_err(|error| format!("give away `{}`: {error}", password.display()))?;
            account.take(&mut command);
        }
        output(&mut command)?;
        fs::remove_file(&password).map_err(|error| format!("remove `{}`: {error}", password.display()))
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        // Names a process that is dead by now; where nobody buries the dead, the server would take it for alive.
        let _ = fs::remove_file(Path::new(&home.data()).join("cluster/postmaster.pid"));
        Ok(Launch::of(program("postgres")?)
            .with([
                "-D".to_owned(),
                format!("{}/cluster", home.data()),
                "-p".to_owned(),
                home.value("port").to_owned(),
            ])
            .with(["-c", "listen_addresses=127.0.0.1"])
            .with(["-c", "unix_socket_directories="])
            .with(["-c", "shared_buffers=128MB"]))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        psql(home, "postgres", "SELECT 1").map(|_| ())
    }

    fn settle(&self, home: &Home) -> Result<(), String> {
        let found = psql(
            home,
            "postgres",
            "SELECT 1 FROM pg_database WHERE datname = 'tidemill'",
        )?;
        if found.trim().is_empty() {
            psql(home, "postgres", "CREATE DATABASE tidemill")?;
        }
        Ok(())
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let url = format!(
            "postgres://tidemill:{}@{}/tidemill",
            home.value("password"),
            home.address("port")
        );
        vec![("POSTGRES_URL", url)]
    }

    /// Clients are sent away, and nothing is left in shared memory.
    fn stop_signal(&self) -> &'static str {
        "INT"
    }
}

fn psql(home: &Home, database: &str, sql: &str) -> Result<String, String> {
    output(
        Command::new("psql")
            .env("PGPASSWORD", home.value("password"))
            .env("PGCONNECT_TIMEOUT", "2")
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"])
            .args(["--host=127.0.0.1", "--username=tidemill"])
            .arg(format!("--port={}", home.value("port")))
            .arg(format!("--dbname={database}"))
            .arg(format!("--command={sql}")),
    )
}

/// One of the programs that are not on the path: of the newest version that is there.
pub(super) fn program(name: &str) -> Result<PathBuf, String> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(PROGRAMS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, path)| path.exists())
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, path)| path);
    newest.ok_or_else(|| format!("no `{name}` below `{PROGRAMS}`: install postgresql"))
}
