//! End-to-end measurements: starts the real binary as a process, drives it over HTTP with the code of `tidemill
//! replay`, prints a table, writes `target/bench/report.json` and `report.html`, and appends one line to
//! `benches/history.jsonl`.
//!
//! ```text
//! scenarios [--quick] [--seconds N] [--only NAME]… [--no-history]
//! scenarios --dataset FILE --declaration TOML [--pace events] [--for 20s]
//! ```
//!
//! `cargo xtask bench` builds everything and calls it. Every scenario has a server and a data directory of its
//! own, on the disk of the build directory; load generator and server share the machine, and so does the broker of
//! those that need one. Those are left out, loudly, when `KAFKA_BROKERS` does not say where it is.

mod arguments;
mod course;
mod dataset;
mod measure;
mod scenario;
mod visible;

use std::process::ExitCode;
use std::time::Duration;

use benches::report::{self, Document, Measured};
use benches::{Anything, history, kafka, processors};
use serde_json::{Map, Value, json};

use arguments::Arguments;
use scenario::{Beat, Place, Scenario};

fn main() -> ExitCode {
    benches::exit_code("scenarios", run())
}

fn run() -> Result<(), Anything> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    if arguments.render {
        println!("{}", report::render()?.display());
        return Ok(());
    }
    let (chosen, time) = match Scenario::of(&arguments)? {
        // A file has an end; what is made on the way has none.
        Some(one) if arguments.declaration.is_some() => (vec![one], arguments.time),
        Some(one) => (vec![one], Some(arguments.time_of_scenarios())),
        None => (chosen(&arguments.only)?, Some(arguments.time_of_scenarios())),
    };
    let head = history::head(processors::load_average()?)?;
    let scenarios = measure(&chosen, time)?;
    let document = Document {
        head,
        seconds: time.map_or(0.0, |time| time.as_secs_f64()),
        scenarios,
        criterion_median_ns: history::criterion()?,
    };
    if arguments.history {
        let path = history::append(document.head.clone(), line(&document)?)?;
        println!("\nappended a line to {}", path.display());
    }
    println!("{}", document.write()?.display());
    Ok(())
}

/// Measures one after the other, and prints a row of each.
fn measure(chosen: &[Scenario], time: Option<Duration>) -> Result<Vec<Measured>, Anything> {
    let runtime = tokio::runtime::Runtime::new()?;
    println!("load average before: {}\n", processors::load_average()?);
    println!(
        "{:<34} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>7}  CPU s of server, load, others",
        "scenario",
        "events/s",
        "MB/s",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "max",
        "sync ms",
        "p99 in",
        "SQL p99",
        "RSS MiB",
        "lag s"
    );
    let mut measured: Vec<Measured> = Vec::new();
    for scenario in chosen {
        let maximum = match &scenario.beat {
            Beat::HalfOf(other) => {
                let found = measured.iter().find(|one| one.name == *other);
                found.map(|one| one.report.events_per_second)
            }
            _ => None,
        };
        let one = runtime.block_on(scenario.measure(time, maximum))?;
        print(&one);
        if !one.report.succeeded() {
            let problems = one.report.problems.join("; ");
            return Err(format!("`{}` went wrong: {problems}", scenario.name).into());
        }
        measured.push(one);
    }
    Ok(measured)
}

/// What a recorded run keeps: everything but its course.
fn line(document: &Document) -> Result<Map<String, Value>, Anything> {
    let mut scenarios = Map::new();
    for one in &document.scenarios {
        let mut kept = serde_json::to_value(one)?;
        if let Some(members) = kept.as_object_mut() {
            for left_out in ["name", "about", "course"] {
                members.shift_remove(left_out);
            }
        }
        scenarios.insert(one.name.clone(), kept);
    }
    let mut line = Map::new();
    line.insert("seconds".to_owned(), json!(document.seconds));
    line.insert("scenarios".to_owned(), json!(scenarios));
    let criterion = json!(document.criterion_median_ns);
    line.insert("criterion_median_ns".to_owned(), criterion);
    Ok(line)
}

/// The scenarios that were asked for, each behind the one whose maximum it halves, or all that can be measured here.
fn chosen(only: &[String]) -> Result<Vec<Scenario>, Anything> {
    let possible = |scenario: &Scenario| scenario.place == Place::Embedded || kafka::brokers().is_some();
    let all = scenario::all();
    if only.is_empty() {
        let (here, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(possible);
        for scenario in missing {
            println!(
                "LEFT OUT: {} needs KAFKA_BROKERS (cargo xtask services up)",
                scenario.name
            );
        }
        return Ok(here);
    }
    let mut names = Vec::new();
    for name in only {
        let found = all.iter().find(|scenario| scenario.name == *name);
        let found = found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
            format!("there is no scenario `{name}`, only {}", known.join(", "))
        })?;
        if !possible(found) {
            return Err(format!("`{name}` needs KAFKA_BROKERS (cargo xtask services up)").into());
        }
        if let Beat::HalfOf(other) = found.beat {
            names.push(other.to_owned());
        }
        names.push(name.clone());
    }
    Ok(all
        .into_iter()
        .filter(|scenario| names.contains(&scenario.name))
        .collect())
}

fn print(one: &Measured) {
    let (report, latency, used) = (&one.report, &one.report.latency, &one.used);
    let lag = match one.lag_gone_s {
        Some(seconds) => format!("{seconds:.2}"),
        None if one.is_behind() => "> 120".to_owned(),
        None => "-".to_owned(),
    };
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    println!(
        "{:<34} {:>10.0} {:>7.1} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>7} {:>7} {:>8} {:>8.0} {lag:>7}  \
         {:.1}, {:.1}, {:.1}",
        one.name,
        report.events_per_second,
        report.megabytes_per_second,
        latency.p50_ms,
        latency.p90_ms,
        latency.p99_ms,
        latency.p99_9_ms,
        latency.max_ms,
        optional(one.fdatasync_ms.map(|sync| sync.p50)),
        optional(one.p99_in_syncs()),
        optional(one.visible_ms.map(|visible| visible.p99)),
        one.rss_anon_peak as f64 / f64::from(1 << 20),
        used.server_s,
        used.load_s,
        used.others_s,
    );
}
