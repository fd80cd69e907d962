//! What things cost when there is more of something: events, streams, connections, larger batches. Prints each
//! figure over the sizes, writes `target/bench/growth.json` and makes the page anew.
//!
//! ```text
//! growth [--quick] [--events N] [--seconds N] [--only events|streams|connections|batches]…
//! ```
//!
//! Sizes are 1×, 10× and 100×. Why a figure that is not flat grows is written down in `benches/README.md`.

mod batches;
mod connections;
mod events;
mod sending;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use benches::report::{Course, Figure, Growth};
use benches::{Anything, history, processors};

/// What can be asked for alone.
const PARTS: [&str; 4] = ["events", "streams", "connections", "batches"];

struct Arguments {
    /// Events of the smallest lake.
    events: u64,
    /// How long each load lasts.
    time: Duration,
    only: Vec<String>,
}

impl Arguments {
    fn read(mut given: impl Iterator<Item = String>) -> Result<Self, Anything> {
        let mut arguments = Self {
            events: 200_000,
            time: Duration::from_secs(5),
            only: Vec::new(),
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--events" => arguments.events = value()?.parse()?,
                "--seconds" => arguments.time = Duration::from_secs(value()?.parse()?),
                "--only" => arguments.only.push(value()?),
                "--quick" => (arguments.events, arguments.time) = (10_000, Duration::from_secs(2)),
                _ => {
                    let known = "--quick, --events N, --seconds N or --only PART";
                    return Err(format!("`{argument}`: write {known}").into());
                }
            }
        }
        benches::known_parts(&arguments.only, &PARTS)?;
        if arguments.events < 2_000 || arguments.time.is_zero() {
            return Err("write at least 2,000 events and 1 second".into());
        }
        Ok(arguments)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> ExitCode {
    benches::exit_code("growth", run())
}

fn run() -> Result<(), Anything> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let load = processors::load_average()?;
    let head = history::head(load)?;
    println!("load average before: {load}\n");
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(async {
        let mut figures = Vec::new();
        if arguments.wants("events") {
            figures.extend(events::measure(arguments.events).await?);
        }
        if arguments.wants("streams") {
            figures.extend(streams::measure(arguments.time).await?);
        }
        if arguments.wants("connections") {
            figures.extend(connections::measure(arguments.time).await?);
        }
        if arguments.wants("batches") {
            figures.extend(batches::measure(arguments.time).await?);
        }
        Ok::<_, Anything>(figures)
    })?;
    println!("\n{}", Growth { head, figures }.write()?.display());
    Ok(())
}

/// Figures of one kind, filled size by size.
struct Figures {
    of: &'static str,
    all: Vec<Figure>,
}

impl Figures {
    fn new(of: &'static str) -> Self {
        Self { of, all: Vec::new() }
    }

    /// Adds what was measured at a size: name, unit and value of each figure.
    fn add(&mut self, size: u64, values: &[(&str, &str, f64)]) {
        for (name, unit, value) in values {
            let point = (size as f64, *value);
            match self.all.iter_mut().find(|figure| figure.name == *name) {
                Some(figure) => figure.points.push(point),
                None => self.all.push(Figure {
                    of: self.of.to_owned(),
                    name: (*name).to_owned(),
                    unit: (*unit).to_owned(),
                    points: vec![point],
                }),
            }
        }
    }

    /// Prints them, and gives them.
    fn done(self) -> Vec<Figure> {
        for figure in &self.all {
            let points = figure.points.iter();
            let points: Vec<_> = points
                .map(|(size, value)| format!("{size}: {value:.3}"))
                .collect();
            let (sizes, values) = figure.factors().unwrap_or_default();
            println!(
                "{:<12} {:<34} {:<8} {:<60} {sizes:.0} times as many: {values:.2} times, {}",
                figure.of,
                figure.name,
                figure.unit,
                points.join("  "),
                figure.course().map_or("", Course::name)
            );
        }
        self.all
    }
}
