//! Real servers for the tests: `cargo xtask services up | down | status`.
//!
//! Docker Compose runs them where there is an engine; elsewhere they are local processes, on ports that were free
//! and in directories below `target/services/` of the checkout, wherever cargo builds. Everything listens on
//! loopback only, with passwords made up at the first `up`. `target/services/env` says how to reach them; `down`
//! removes it with everything else.
//!
//! The way of one server is in `local.rs`, what differs from server to server in a file of its own.

mod engine;
mod guard;
mod home;
mod install;
mod kafka;
mod local;
mod mariadb;
mod postgres;
mod probe;
mod process;
mod rabbitmq;
mod redis;
mod s3;
mod server;
mod variables;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub(crate) use guard::Guard;
pub(crate) use install::{cache, program, programs};
pub(crate) use variables::Variables;

use crate::cargo::root;

const USAGE: &str = "\
usage: cargo xtask services up [--local] | down | status

  up       starts Kafka, MariaDB, PostgreSQL, Redis, RabbitMQ and an S3 server, or what of them is not up;
           installs what is missing; writes target/services/env. With --local as processes of this machine
           also where there is a container engine
  down     stops them and removes target/services
  status   prints a table; the exit code is 0 when all are up, 3 otherwise

TIDEMILL_SERVICES_DIR names another directory than target/services, for servers of one's own.";

/// Some server is not up.
const EXIT_DOWN: u8 = 3;

/// `cargo xtask services …`.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up"] => up(Means::of_this_machine()).and_then(|()| show()),
        ["up", "--local"] => up(Means::Local).and_then(|()| show()),
        ["down"] => down().map(|()| ExitCode::SUCCESS),
        ["status"] => show(),
        ["guard", names @ ..] => guard::watch(names).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}

/// What the servers run on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Means {
    /// Containers.
    Engine,
    /// Processes of this machine.
    Local,
}

impl Means {
    /// What is in use, or else what is to be used here.
    pub(crate) fn of_this_machine() -> Self {
        let directory = directory();
        match engine::is_in_use(&directory) {
            true => Self::Engine,
            false if directory.exists() || !engine::works() => Self::Local,
            false => Self::Engine,
        }
    }
}

/// Installs what local servers are made of, as far as it is missing.
pub(crate) fn install() -> Result<(), String> {
    install::everything()
}

/// Starts what is not up and writes how to reach all of it.
pub(crate) fn up(means: Means) -> Result<(), String> {
    let begun = Instant::now();
    let directory = directory();
    let _lock = Lock::take(&directory)?;
    if means == Means::Local && engine::is_in_use(&directory) {
        return Err("the services run in containers: `cargo xtask services down` first".into());
    }
    home::make_directory(&directory, 0o711)?;
    let variables = match means {
        Means::Engine => engine::up(&directory)?,
        Means::Local => {
            install::everything()?;
            let done = local::up(&directory);
            let variables = local::variables(&directory)?;
            // What did come up can be reached all the same.
            variables::write(&env_file(&directory), &variables)?;
            done.map(|()| variables)?
        }
    };
    variables::write(&env_file(&directory), &variables)?;
    eprintln!(
        "the services are up after {:.1} s; `. {}` says where",
        begun.elapsed().as_secs_f64(),
        env_file(&directory).display()
    );
    Ok(())
}

/// Stops everything and removes what there was of it.
pub(crate) fn down() -> Result<(), String> {
    let directory = directory();
    let _lock = Lock::take(&directory)?;
    if !directory.exists() {
        eprintln!("nothing is up");
        return Ok(());
    }
    if engine::is_in_use(&directory) {
        engine::down(&directory)?;
    }
    let all: Vec<&str> = local::SERVERS.iter().map(|server| server.name()).collect();
    local::down(&directory, &all, local::Data::Goes)?;
    home::remove_all(&directory)?;
    eprintln!("the services are stopped, and `{}` is gone", directory.display());
    Ok(())
}

/// Stops some that were not up although they had been started once: they keep their data, and the others run on.
fn down_some(names: &[&str]) -> Result<(), String> {
    let directory = directory();
    let _lock = Lock::take(&directory)?;
    local::down(&directory, names, local::Data::Stays)?;
    variables::write(&env_file(&directory), &local::variables(&directory)?)
}

/// How the servers are reached, when all of them are up.
pub(crate) fn reached() -> Option<Variables> {
    let directory = directory();
    let rows = rows(&directory).ok()?;
    let all_up = rows.iter().all(|row| row.state == "up");
    all_up.then(|| variables::read(&env_file(&directory)))?
}

/// How those that are up are reached.
pub(crate) fn reached_in_part() -> Variables {
    variables::read(&env_file(&directory())).unwrap_or_default()
}

/// Names of the servers that nobody has started; all of them when there is nothing at all. Containers are
/// somebody's as a whole.
pub(crate) fn missing() -> Vec<&'static str> {
    if engine::is_in_use(&directory()) {
        return Vec::new();
    }
    let alive = local::alive(&directory());
    let names = local::SERVERS.iter().map(|server| server.name());
    names.filter(|name| !alive.contains(name)).collect()
}

fn rows(directory: &Path) -> Result<Vec<local::Row>, String> {
    if engine::is_in_use(directory) {
        return engine::status(directory);
    }
    local::status(directory)
}

fn show() -> Result<ExitCode, String> {
    let rows = rows(&directory())?;
    let mut table = format!("{:<10} {:<22} {:>8}  state\n", "server", "address", "pid");
    for row in &rows {
        let process = row.process.map_or("-".into(), |id| id.to_string());
        table += &format!(
            "{:<10} {:<22} {process:>8}  {}\n",
            row.server, row.address, row.state
        );
    }
    // Whoever reads us may have read enough.
    let _ = io::stdout().write_all(table.as_bytes());
    match rows.iter().all(|row| row.state == "up") {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(EXIT_DOWN)),
    }
}

/// Of the servers that everybody shares; or, for a test that kills servers, of some of its own.
fn directory() -> PathBuf {
    let own = std::env::var_os("TIDEMILL_SERVICES_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| root().join("target/services"))
}

fn env_file(directory: &Path) -> PathBuf {
    directory.join("env")
}

/// Held by `up` and `down`, so that two of them do not meet. The file stays beside the directory, since a lock
/// that is removed is no lock.
struct Lock {
    _file: fs::File,
}

impl Lock {
    fn take(directory: &Path) -> Result<Self, String> {
        let path = directory.with_extension("lock");
        let target = directory.parent().unwrap_or(directory);
        home::make_directory(target, 0o755)?;
        let file = fs::File::create(&path).map_err(|error| format!("open `{}`: {error}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another `cargo xtask services`");
            file.lock()
                .map_err(|error| format!("lock `{}`: {error}", path.display()))?;
        }
        Ok(Self { _file: file })
    }
}
