//! End-to-end measurements: starts the real binary as a process, drives it over HTTP with the code of `tidemill
//! replay`, prints a table, and appends one line to `benches/history.jsonl`.
//!
//! ```text
//! scenarios [--quick] [--seconds N] [--only NAME] [--no-history]
//! ```
//!
//! `cargo xtask bench` builds everything and calls it. Every scenario has a server and a data directory of its
//! own, on the disk of the build directory; load generator and server share the machine.

mod history;
mod process;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::Anything;
use serde::Serialize;
use server::load::generate::{EVENTS_MAX, GeneratorOptions, Starter};
use server::load::replay::{self, BatchSize, Options, Pace, Progress, Report, Source, Target};
use tokio_util::sync::CancellationToken;

use process::Process;

/// How long each scenario sends.
const SECONDS: u64 = 20;
const SECONDS_QUICK: u64 = 3;

/// How long the sink may take to catch up before the measurement says that it did not.
const CATCH_UP: Duration = Duration::from_secs(120);

/// One way to send.
struct Scenario {
    name: &'static str,
    batch: BatchSize,
    connections: usize,
    pace: Pace,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "running_1mib",
        batch: BatchSize::Bytes(1 << 20),
        connections: 4,
        pace: Pace::FullSpeed,
    },
    Scenario {
        name: "running_100_events",
        batch: BatchSize::Events(100),
        connections: 64,
        pace: Pace::FullSpeed,
    },
    Scenario {
        name: "running_single",
        batch: BatchSize::Events(1),
        connections: 64,
        pace: Pace::FullSpeed,
    },
    // The only one whose latency is what a client with a schedule of its own sees.
    Scenario {
        name: "running_single_5000_per_second",
        batch: BatchSize::Events(1),
        connections: 64,
        pace: Pace::Rate(5_000.0),
    },
];

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    connections: usize,
    report: Report,
    /// The most anonymous memory that the server had, in bytes, looked at every 50 ms.
    rss_anon_peak: u64,
    /// Records that the sink had not read when the last answer came.
    lag_records: u64,
    /// Seconds from then until it had read all; none when it did not within two minutes.
    lag_gone_s: Option<f64>,
}

struct Arguments {
    seconds: u64,
    only: Option<String>,
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
    let runtime = tokio::runtime::Runtime::new()?;
    let mut measured = serde_json::Map::new();
    let load = history::load_average()?;
    println!("load average before: {load}\n");
    println!(
        "{:<32} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "scenario", "events/s", "MB/s", "p50 ms", "p90", "p99", "p99.9", "max", "RSS MiB", "lag s"
    );
    for scenario in &SCENARIOS {
        if arguments
            .only
            .as_deref()
            .is_some_and(|only| only != scenario.name)
        {
            continue;
        }
        let one = runtime.block_on(measure(scenario, arguments.seconds))?;
        print(scenario, &one);
        if !one.report.succeeded() {
            let problems = one.report.problems.join("; ");
            return Err(format!("`{}` went wrong: {problems}", scenario.name).into());
        }
        measured.insert(scenario.name.to_owned(), serde_json::to_value(one)?);
    }
    if measured.is_empty() {
        return Err("there is no such scenario".into());
    }
    if arguments.history {
        let path = history::append(arguments.seconds, load, measured)?;
        println!("\nappended a line to {}", path.display());
    }
    Ok(())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Anything> {
    let mut arguments = Arguments {
        seconds: SECONDS,
        only: None,
        history: true,
    };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--quick" => arguments.seconds = SECONDS_QUICK,
            "--seconds" => arguments.seconds = value()?.parse()?,
            "--only" => arguments.only = Some(value()?),
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

async fn measure(scenario: &Scenario, seconds: u64) -> Result<Measured, Anything> {
    let server = Process::start()?;
    let source = Source::Generated {
        starter: Starter::Running,
        count: EVENTS_MAX,
        options: GeneratorOptions {
            users: 100_000,
            seed: 1,
        },
    };
    let target = Target::parse(
        &format!("http://{}", server.address()),
        Some(Starter::Running.name()),
    )?;
    let options = Options {
        connections: scenario.connections,
        batch: Some(scenario.batch),
        pace: scenario.pace.clone(),
        duration: Some(Duration::from_secs(seconds)),
        ..Options::new(source, target)
    };
    let report = replay::run(options, Arc::new(Progress::default()), CancellationToken::new()).await?;
    let ended = Instant::now();
    let lag_records = server.lag_records().await?;
    let mut left = lag_records;
    while left > 0 && ended.elapsed() < CATCH_UP {
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = server.lag_records().await?;
    }
    let lag_gone_s = (left == 0).then(|| ended.elapsed().as_secs_f64());
    Ok(Measured {
        connections: scenario.connections,
        report,
        rss_anon_peak: server.stop()?,
        lag_records,
        lag_gone_s,
    })
}

fn print(scenario: &Scenario, one: &Measured) {
    let (report, latency) = (&one.report, &one.report.latency);
    let lag = one
        .lag_gone_s
        .map_or_else(|| "> 120".to_owned(), |seconds| format!("{seconds:.2}"));
    println!(
        "{:<32} {:>10.0} {:>7.1} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.0} {lag:>7}",
        scenario.name,
        report.events_per_second,
        report.megabytes_per_second,
        latency.p50_ms,
        latency.p90_ms,
        latency.p99_ms,
        latency.p99_9_ms,
        latency.max_ms,
        one.rss_anon_peak as f64 / f64::from(1 << 20),
    );
}
