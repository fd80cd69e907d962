//! The same work by us and by others, in turns, in one run: prints what everybody took, writes
//! `target/bench/peers.json` and makes the page anew.
//!
//! ```text
//! peers --python PATH [--quick] [--events N] [--rounds N] [--only questions|convert|kafka]…
//! ```
//!
//! `cargo xtask bench peers` installs DuckDB and chdb and calls it. What is compared: twelve questions over the
//! same Parquet files, NDJSON to Parquet, and how fast a topic of Kafka is filled.

mod answer;
mod broker;
mod convert;
mod engine;
mod lake_files;
mod questions;

use std::path::PathBuf;
use std::process::ExitCode;

use benches::report::{Peers, Work};
use benches::spread::median;
use benches::{Anything, history, processors};

/// The engines beside us.
const ENGINES: [&str; 2] = ["duckdb", "chdb"];

/// Threads that each of them has.
const THREADS: usize = 2;

/// What can be asked for alone.
const PARTS: [&str; 3] = ["questions", "convert", "kafka"];

/// Events in the file that is converted and sent to Kafka, for each of those in the lake: a quarter.
const FILE_SHARE: u64 = 4;

struct Arguments {
    python: PathBuf,
    /// Events of `running` in the lake.
    events: u64,
    rounds: usize,
    only: Vec<String>,
}

impl Arguments {
    fn events_in_file(&self) -> u64 {
        (self.events / FILE_SHARE).max(1)
    }

    fn read(mut given: impl Iterator<Item = String>) -> Result<Self, Anything> {
        let mut arguments = Self {
            python: PathBuf::from("python3"),
            events: 20_000_000,
            rounds: 5,
            only: Vec::new(),
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--python" => arguments.python = value()?.into(),
                "--events" => arguments.events = value()?.parse()?,
                "--rounds" => arguments.rounds = value()?.parse()?,
                "--only" => arguments.only.push(value()?),
                "--quick" => (arguments.events, arguments.rounds) = (1_000_000, 3),
                _ => {
                    let known = "--python PATH, --quick, --events N, --rounds N or --only PART";
                    return Err(format!("`{argument}`: write {known}").into());
                }
            }
        }
        benches::known_parts(&arguments.only, &PARTS)?;
        if arguments.events == 0 || arguments.rounds == 0 {
            return Err("nothing is compared of no events or in no rounds".into());
        }
        Ok(arguments)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> ExitCode {
    benches::exit_code("peers", run())
}

fn run() -> Result<(), Anything> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let load = processors::load_average()?;
    let head = history::head(load)?;
    println!(
        "load average before: {load}; medians of {} rounds in turns, with the least and the most\n",
        arguments.rounds
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let works = runtime.block_on(async {
        let mut works = Vec::new();
        if arguments.wants("questions") {
            works.extend(questions::measure(&arguments).await?);
        }
        if arguments.wants("convert") {
            works.extend(convert::measure(&arguments).await?);
        }
        if arguments.wants("kafka") {
            works.extend(broker::measure(&arguments).await?);
        }
        Ok::<_, Anything>(works)
    })?;
    println!("\n{}", Peers { head, works }.write()?.display());
    Ok(())
}

/// One line for each who did it.
fn print(work: &Work) {
    let of =
        |what: &str, ratio: Option<f64>| ratio.map(|ratio| format!("{what} {ratio:.2} of the best other's"));
    let ratios: Vec<_> = [
        of("our figure is", work.ratio()),
        of("our CPU time", work.cpu_ratio()),
    ]
    .into_iter()
    .flatten()
    .collect();
    println!("{}: {}; {}", work.group, work.name, ratios.join(", "));
    for side in &work.sides {
        let least = side.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = side.rounds.iter().copied().fold(0.0, f64::max);
        let cpu = median(&side.cpu_seconds);
        let others = match side.others_cpu_seconds.is_empty() {
            true => String::new(),
            false => format!(", others {:.2}", median(&side.others_cpu_seconds)),
        };
        match &side.trouble {
            Some(trouble) => println!("    {:<34} {trouble}", side.name),
            None => println!(
                "    {:<34} {:>10.2} {} ({least:.2} to {most:.2}), CPU s {cpu:.3}{others}",
                side.name,
                median(&side.rounds),
                work.unit
            ),
        }
    }
}
