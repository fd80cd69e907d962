//! Rows into MariaDB and PostgreSQL: how fast the sink brings a journal into a table, beside what the database's own
//! client reaches with the same rows (`LOAD DATA LOCAL INFILE`, `\copy`) in the same minute.
//!
//! ```text
//! databases [--events N] [--rounds N] [--only mysql|postgres] [--no-history]
//! ```
//!
//! The servers are those that `MYSQL_URL`, `MYSQL_CLIENT_ARGS` and `POSTGRES_URL` name (`cargo xtask services up`). A
//! million `running` events are posted into an embedded journal first. The goal is a share of the client's speed,
//! so rounds come in pairs, and the median of the shares is what counts.

mod client;
mod round;

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use benches::load::{self, made};
use benches::process::{self, Process};
use benches::spread::median;
use benches::{Anything, history, processors};
use serde_json::{Map, json};
use server::load::generate::Starter;
use server::load::replay::{BatchSize, Options, Target};

use client::Client;
use round::{CONFIG, Round, Rounds};

struct Arguments {
    events: u64,
    rounds: u32,
    only: Option<String>,
    history: bool,
}

fn main() -> ExitCode {
    benches::exit_code("databases", run())
}

fn run() -> Result<(), Anything> {
    let arguments = arguments(std::env::args().skip(1))?;
    let mut clients = Client::find();
    if let Some(only) = &arguments.only {
        clients.retain(|client| client.kind() == only);
    }
    if clients.is_empty() {
        return Err("there is no database to measure".into());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let load = processors::load_average()?;
    let head = history::head(load)?;
    println!("load average before: {load}");
    let directory = process::directory()?;
    runtime.block_on(post(directory.path(), arguments.events))?;
    let mut measured = Map::new();
    for client in &clients {
        let rounds = runtime.block_on(measure(client, directory.path(), &arguments))?;
        let median = median(&rounds.iter().map(Round::ratio).collect::<Vec<_>>());
        println!("median of the ratios: {median:.2}");
        let one = json!({ "median_ratio": median, "rounds": rounds });
        measured.insert(client.kind().to_owned(), one);
    }
    if arguments.history {
        let mut line = Map::new();
        line.insert("events".to_owned(), json!(arguments.events));
        line.insert("databases".to_owned(), json!(measured));
        let path = history::append(head, line)?;
        println!("\nappended a line to {}", path.display());
    }
    Ok(())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Anything> {
    let mut arguments = Arguments {
        events: 1_000_000,
        rounds: 3,
        only: None,
        history: true,
    };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--events" => arguments.events = value()?.parse()?,
            "--rounds" => arguments.rounds = value()?.parse()?,
            "--only" => arguments.only = Some(value()?),
            "--no-history" => arguments.history = false,
            _ => {
                let known = "--events N, --rounds N, --only mysql|postgres or --no-history";
                return Err(format!("`{argument}`: write {known}").into());
            }
        }
    }
    if arguments.events == 0 || arguments.rounds == 0 {
        return Err("there is at least one event and one round".into());
    }
    Ok(arguments)
}

/// Fills the journal, and lets the lake have it all, so that it is at rest afterwards.
async fn post(directory: &Path, events: u64) -> Result<(), Anything> {
    let server = Process::start(directory, CONFIG)?;
    let url = format!("http://{}", server.address());
    let options = Options {
        batch: Some(BatchSize::Bytes(1 << 20)),
        ..Options::new(
            made(Starter::Running, events, 1),
            Target::parse(&url, Some(Starter::Running.name()))?,
        )
    };
    let report = load::run(options).await?;
    if report.accepted != events {
        return Err(format!("{} of {events} events were taken", report.accepted).into());
    }
    server.stop()?;
    Ok(())
}

async fn measure(client: &Client, directory: &Path, arguments: &Arguments) -> Result<Vec<Round>, Anything> {
    let (kind, way) = (client.kind(), client.way());
    println!("\n{kind}: the sink beside `{way}`, {} rows", arguments.events);
    println!(
        "{:>5} {:>12} {:>14} {:>6}  CPU s of sink, others; of the client",
        "round", "sink rows/s", "client rows/s", "ratio"
    );
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let prefix = format!("bench_{}_{}_", std::process::id(), since.subsec_nanos());
    let rounds = Rounds::prepare(client, directory, prefix, arguments.events).await?;
    let mut measured = Vec::new();
    for number in 1..=arguments.rounds {
        let round = rounds.measure(number).await;
        let Ok(one) = &round else {
            rounds.end()?;
            return round.map(|round| vec![round]);
        };
        print(number, arguments.events, one);
        measured.extend(round);
    }
    rounds.end()?;
    Ok(measured)
}

fn print(number: u32, events: u64, one: &Round) {
    let per_second = |seconds: f64| events as f64 / seconds;
    println!(
        "{number:>5} {:>12.0} {:>14.0} {:>6.2}  {:.1}, {:.1}; {:.1}",
        per_second(one.sink_s),
        per_second(one.client_s),
        one.ratio(),
        one.used.server_s,
        one.used.others_s,
        one.client_processor_s,
    );
}
