//! The part of the configuration that a process which only runs SQL needs: where to read, and its bounds.
//!
//! It is handed over as text, through a pipe and not on a command line: settings of Kafka may be secrets. What a
//! worker does not need (destinations, tokens, keys of listeners) it does not get.

use std::fmt;

use toml::{Table, Value};

use super::check;
use super::problem::Problems;
use super::run::Config;

/// The sections that a worker needs.
const NEEDED: &[&str] = &["data_dir", "journal", "lake", "analytics", "streams"];

/// Settings of a worker, as TOML.
#[derive(Clone, Default)]
pub(super) struct WorkerSettings(String);

impl WorkerSettings {
    /// What a worker needs of a merged table.
    pub(super) fn of(merged: &Table) -> Self {
        let needed = merged.iter().filter(|(key, _)| NEEDED.contains(&key.as_str()));
        let mut table: Table = needed.map(|(key, value)| (key.clone(), value.clone())).collect();
        table.insert("roles".to_owned(), Value::from("analytics"));
        Self(table.to_string())
    }
}

impl fmt::Debug for WorkerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerSettings")
    }
}

impl Config {
    /// What a worker process is started with; it holds secrets.
    pub(crate) fn worker_settings(&self) -> &str {
        &self.for_worker.0
    }
}

/// The configuration of a worker, from what it was handed.
///
/// # Errors
/// [`Problems`] when it was not handed over by a server of this version.
pub(crate) fn of_worker(settings: &[u8]) -> Result<Config, Problems> {
    let text = String::from_utf8_lossy(settings);
    match text.parse::<Table>() {
        Ok(merged) => check::check(&merged),
        Err(error) => {
            let mut problems = Problems::default();
            problems.push("settings", format!("not TOML: {error}"));
            Err(problems)
        }
    }
}
