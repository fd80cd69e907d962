//! End-to-end measurements: starts the real binary as a process, drives it over HTTP with the code of `tidemill
//! replay`, prints a table, and appends one line to `benches/history.jsonl`.
//!
//! ```text
//! scenarios [--quick] [--seconds N] [--only NAME]… [--no-history]
//! ```
//!
//! `cargo xtask bench` builds everything and calls it. Every scenario has a server and a data directory of its
//! own, on the disk of the build directory; load generator and server share the machine, and so does the broker of
//! those that need one. Those are left out, loudly, when `KAFKA_BROKERS` does not say where it is.

mod kafka;
mod scenario;

use std::process::ExitCode;

use benches::{Anything, history, processors};
use serde_json::{Map, json};

use scenario::{Measured, Place, SCENARIOS, Scenario};

/// How long each scenario sends.
const SECONDS: u64 = 20;
const SECONDS_QUICK: u64 = 3;

struct Arguments {
    seconds: u64,
    only: Vec<String>,
    history: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scenarios: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Anything> {
    let arguments = arguments(std::env::args().skip(1))?;
    let chosen = chosen(&arguments.only)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut measured = Map::new();
    let load = processors::load_average()?;
    println!("load average before: {load}\n");
    println!(
        "{:<33} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}  CPU s of server, load, others",
        "scenario", "events/s", "MB/s", "p50 ms", "p90", "p99", "p99.9", "max", "RSS MiB", "lag s"
    );
    for scenario in chosen {
        let one = runtime.block_on(scenario.measure(arguments.seconds))?;
        print(scenario, &one);
        if !one.report.succeeded() {
            let problems = one.report.problems.join("; ");
            return Err(format!("`{}` went wrong: {problems}", scenario.name).into());
        }
        measured.insert(scenario.name.to_owned(), serde_json::to_value(one)?);
    }
    if arguments.history {
        let mut line = Map::new();
        line.insert("seconds".to_owned(), json!(arguments.seconds));
        line.insert("scenarios".to_owned(), json!(measured));
        line.insert("criterion_median_ns".to_owned(), json!(history::criterion()?));
        let path = history::append(load, line)?;
        println!("\nappended a line to {}", path.display());
    }
    Ok(())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Anything> {
    let mut arguments = Arguments {
        seconds: SECONDS,
        only: Vec::new(),
        history: true,
    };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--quick" => arguments.seconds = SECONDS_QUICK,
            "--seconds" => arguments.seconds = value()?.parse()?,
            "--only" => arguments.only.push(value()?),
            "--no-history" => arguments.history = false,
            _ => {
                return Err(
                    format!("`{argument}`: write --quick, --seconds N, --only NAME or --no-history").into(),
                );
            }
        }
    }
    Ok(arguments)
}

/// The scenarios that were asked for, or all that can be measured here.
fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>, Anything> {
    let possible = |scenario: &Scenario| scenario.place == Place::Embedded || kafka::brokers().is_some();
    if only.is_empty() {
        for scenario in SCENARIOS.iter().filter(|scenario| !possible(scenario)) {
            println!(
                "LEFT OUT: {} needs KAFKA_BROKERS (cargo xtask services up)",
                scenario.name
            );
        }
        return Ok(SCENARIOS.iter().filter(|scenario| possible(scenario)).collect());
    }
    let find = |name: &String| -> Result<&'static Scenario, Anything> {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        let found = found.ok_or_else(|| format!("there is no scenario `{name}`"))?;
        if possible(found) {
            Ok(found)
        } else {
            Err(format!("`{name}` needs KAFKA_BROKERS (cargo xtask services up)").into())
        }
    };
    only.iter().map(find).collect()
}

fn print(scenario: &Scenario, one: &Measured) {
    let (report, latency, used) = (&one.report, &one.report.latency, &one.used);
    let lag = match one.lag_gone_s {
        Some(seconds) => format!("{seconds:.2}"),
        None if one.is_behind() => "> 120".to_owned(),
        None => "-".to_owned(),
    };
    println!(
        "{:<33} {:>10.0} {:>7.1} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.0} {lag:>7}  {:.1}, {:.1}, {:.1}",
        scenario.name,
        report.events_per_second,
        report.megabytes_per_second,
        latency.p50_ms,
        latency.p90_ms,
        latency.p99_ms,
        latency.p99_9_ms,
        latency.max_ms,
        one.rss_anon_peak as f64 / f64::from(1 << 20),
        used.server_s,
        used.load_s,
        used.others_s,
    );
}
