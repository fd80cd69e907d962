//! What all servers have in common: the steps from an empty directory to an answer.
//!
//! One file beside this one for each server. The order of the steps, what runs side by side and what happens
//! when one fails are decided once, in `local.rs`.

use std::path::PathBuf;
use std::time::Duration;

use super::home::Home;

/// A server that the tests use, run as a process of this machine.
///
/// All steps may run again after a crash of the server or of `up`; `prepare` and `settle` run on an empty
/// directory until both have once succeeded, and never after that.
pub(super) trait Server: Sync {
    /// Names it in the table, in messages and as a directory.
    fn name(&self) -> &'static str;

    /// Names of the ports it needs, the one that clients use first.
    fn ports(&self) -> &'static [&'static str] {
        &["port"]
    }

    /// Names of the random words it needs.
    fn secrets(&self) -> &'static [&'static str] {
        &["password"]
    }

    /// The account that it insists on, when we are root.
    fn account(&self) -> Option<&'static str> {
        None
    }

    /// Makes what must be there before the first start.
    fn prepare(&self, home: &Home) -> Result<(), String>;

    /// Writes what depends on the ports, which may change from start to start, and says how to start it.
    fn launch(&self, home: &Home) -> Result<Launch, String>;

    /// Asks it a question of its own protocol, once; the error is shown when time is up.
    fn answers(&self, home: &Home) -> Result<(), String>;

    /// Makes users, databases and buckets, after the first answer.
    fn settle(&self, _home: &Home) -> Result<(), String> {
        Ok(())
    }

    /// The same where it runs in a container, whose image has made users and databases by itself.
    fn settle_container(&self, _home: &Home) -> Result<(), String> {
        Ok(())
    }

    /// How clients find it: the variables of `target/services/env`.
    fn variables(&self, home: &Home) -> Vec<(&'static str, String)>;

    /// The signal that ends it in order.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }

    /// It answers within this time, on a busy machine too.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// How a server is started.
pub(super) struct Launch {
    /// The program, by name or path.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Its environment besides `PATH` and `HOME`.
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Launch {
    /// A program without arguments.
    pub(super) fn of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds arguments.
    pub(super) fn with<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    pub(super) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }
}
