//! The servers as processes of this machine: start what is not there, stop what is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::home::{Home, make_directory, remove_all};
use super::process::{Account, Process, sweep};
use super::server::Server;
use super::variables::Variables;
use super::{kafka, mariadb, postgres, rabbitmq, redis, s3};

/// All of them, in the order of the table.
pub(super) const SERVERS: &[&dyn Server] = &[
    &kafka::Kafka,
    &mariadb::MariaDb,
    &postgres::Postgres,
    &redis::Redis,
    &rabbitmq::RabbitMq,
    &s3::S3,
];

/// A process that was there before answers within this time, or is started anew.
const RUNNING_PATIENCE: Duration = Duration::from_secs(10);

/// One line of the table.
pub(super) struct Row {
    pub(super) server: &'static str,
    pub(super) address: String,
    pub(super) process: Option<u32>,
    pub(super) state: &'static str,
}

/// Names of the servers whose process lives.
pub(super) fn alive(services: &Path) -> Vec<&'static str> {
    SERVERS
        .iter()
        .map(|server| server.name())
        .filter(|name| Process::recorded(&services.join(name)).is_some_and(Process::is_alive))
        .collect()
}

/// Brings all up side by side. When one fails, the others are left as they are, for a look at them; the error
/// has every failure.
pub(super) fn up(services: &Path) -> Result<(), String> {
    let mut homes = Vec::new();
    let mut held = Vec::new();
    let running = alive(services);
    for server in SERVERS {
        let mut home = Home::open(services.join(server.name()))?;
        home.choose_secrets(server.secrets())?;
        if !running.contains(&server.name()) {
            held.extend(home.choose_ports(server.ports())?);
        }
        homes.push(home);
    }
    drop(held);
    let failed: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = SERVERS
            .iter()
            .zip(&mut homes)
            .map(|(server, home)| scope.spawn(move || bring_up(*server, home)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .filter_map(Result::err)
            .collect()
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n"))
}

fn bring_up(server: &dyn Server, home: &mut Home) -> Result<(), String> {
    let name = server.name();
    let begun = Instant::now();
    if let Some(process) = Process::recorded(home.directory()).filter(|process| process.is_alive()) {
        if home.is_prepared() && wait(server, home, process, RUNNING_PATIENCE).is_ok() {
            eprintln!("  {name} runs already");
            return Ok(());
        }
        eprintln!("  {name} runs but does not answer, and is started anew");
        process.stop(server.stop_signal());
    }
    start(server, home).map_err(|error| format!("{name}: {error}"))?;
    eprintln!("  {name} answers after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn start(server: &dyn Server, home: &mut Home) -> Result<(), String> {
    sweep(home);
    let account = match server.account() {
        Some(name) => Account::of(name)?,
        None => None,
    };
    if !home.is_prepared() {
        make_data(home, account)?;
        server.prepare(home)?;
    }
    let process = Process::start(home, &server.launch(home)?, account)?;
    let answered = wait(server, home, process, server.patience()).and_then(|()| {
        if home.is_prepared() {
            return Ok(());
        }
        server.settle(home)?;
        home.set_prepared()
    });
    answered.map_err(|error| {
        process.stop(server.stop_signal());
        sweep(home);
        format!(
            "{error}\n  the end of `{}`:\n{}",
            home.log().display(),
            home.log_tail()
        )
    })
}

/// An empty directory for its data, which belongs to its account and which that account can reach.
fn make_data(home: &mut Home, account: Option<Account>) -> Result<(), String> {
    home.remove_data()?;
    if let Some(account) = account {
        let mut reach = Command::new("bash");
        reach.args(["-c", r#"cd "$0""#]).arg(home.directory());
        account.take(&mut reach);
        let reached = reach.current_dir("/").stderr(Stdio::null()).status();
        if !reached.is_ok_and(|status| status.success()) && home.value("data").is_empty() {
            home.choose_secrets(&["elsewhere"])?;
            let data = format!("/var/tmp/tidemill-services-{}", home.value("elsewhere"));
            home.remember("data", data)?;
        }
    }
    let data = home.data();
    make_directory(Path::new(&data), 0o700)?;
    if let Some(account) = account {
        std::os::unix::fs::chown(&data, Some(account.user), Some(account.group))
            .map_err(|error| format!("give away `{data}`: {error}"))?;
    }
    Ok(())
}

/// Asks until there is an answer, the process ends, or time is up.
fn wait(server: &dyn Server, home: &Home, process: Process, patience: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let answer = server.answers(home);
        if !process.is_alive() {
            return Err("it ended before it answered".into());
        }
        let Err(error) = answer else { return Ok(()) };
        if begun.elapsed() > patience {
            return Err(format!("no answer within {} s: {error}", patience.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What becomes of the data of a server that is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    /// It waits for the next start.
    Stays,
    /// It goes, with everything else of the server.
    Goes,
}

/// Stops those servers.
pub(super) fn down(services: &Path, names: &[&str], data: Data) -> Result<(), String> {
    let chosen: Vec<_> = SERVERS
        .iter()
        .filter(|server| names.contains(&server.name()))
        .map(|server| (*server, services.join(server.name())))
        .filter(|(_, directory)| directory.exists())
        .collect();
    let failed: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = chosen
            .into_iter()
            .map(|(server, directory)| scope.spawn(move || take_down(server, directory, data)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .filter_map(Result::err)
            .collect()
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n"))
}

fn take_down(server: &dyn Server, directory: PathBuf, data: Data) -> Result<(), String> {
    let home = Home::open(directory)?;
    if let Some(process) = Process::recorded(home.directory()).filter(|process| process.is_alive()) {
        process.stop(server.stop_signal());
        eprintln!("  {} is stopped", server.name());
    }
    sweep(&home);
    match data {
        Data::Stays => Ok(()),
        Data::Goes => {
            home.remove_data()?;
            remove_all(home.directory())
        }
    }
}

/// What clients need to know, of the servers that live.
pub(super) fn variables(services: &Path) -> Result<Variables, String> {
    let alive = alive(services);
    let mut variables = Variables::new();
    for server in SERVERS.iter().filter(|server| alive.contains(&server.name())) {
        let home = Home::open(services.join(server.name()))?;
        let named = server.variables(&home);
        variables.extend(named.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(variables)
}

/// How each server is.
pub(super) fn status(services: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for server in SERVERS {
        let directory = services.join(server.name());
        // Looked at first: opening a home makes it.
        if !fs::exists(&directory).unwrap_or(false) {
            rows.push(Row {
                server: server.name(),
                address: "-".into(),
                process: None,
                state: "down",
            });
            continue;
        }
        let home = Home::open(directory)?;
        let process = Process::recorded(home.directory()).filter(|process| process.is_alive());
        rows.push(Row {
            server: server.name(),
            address: home.address("port"),
            process: process.map(|process| process.id),
            state: match process.map(|_| server.answers(&home)) {
                None => "down",
                Some(Ok(())) => "up",
                Some(Err(_)) => "no answer",
            },
        });
    }
    Ok(rows)
}
