//! Into a Kafka topic: events over HTTP through us, and records from the broker's own producer and from kcat.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use benches::kafka::{self, Topics, tool};
use benches::process::{self, Process};
use benches::report::{Side, Work};
use benches::{Anything, processors};

use crate::Arguments;
use crate::convert::{post_events, write_events};

/// Bytes of a small record: a `running` event.
const SMALL: u64 = 123;
const LARGE: u64 = 1 << 20;

/// What a producer of Kafka's own is told. The defaults hold for everything else.
const PROPERTIES: [&str; 4] = [
    "acks=all",
    "linger.ms=5",
    "batch.size=1048576",
    "max.request.size=8388608",
];

/// Who writes.
#[derive(Clone, Copy)]
enum Writer {
    Us,
    Perf(u64),
    Kcat,
}

const WRITERS: [Writer; 4] = [Writer::Us, Writer::Perf(SMALL), Writer::Perf(LARGE), Writer::Kcat];

/// Writes in turns; nothing when there is no broker.
pub(crate) async fn measure(arguments: &Arguments) -> Result<Vec<Work>, Anything> {
    let Some(brokers) = kafka::brokers() else {
        println!("LEFT OUT: into Kafka needs KAFKA_BROKERS (cargo xtask services up)");
        return Ok(Vec::new());
    };
    let directory = process::directory()?;
    let ndjson = directory.path().join("running.ndjson");
    let bytes = write_events(&ndjson, arguments.events_in_file())?;
    let mut sides = Vec::new();
    for writer in WRITERS {
        sides.push(writer.side(&brokers)?);
    }
    for round in 0..arguments.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let topics = Topics::new(brokers.clone())?;
            let (ours, everybody) = (own()?, processors::of_everybody()?);
            let rate = WRITERS[at].write(&topics, &ndjson, bytes).await?;
            let (ours, everybody) = (own()? - ours, processors::of_everybody()? - everybody);
            let side = &mut sides[at];
            side.rounds.push(rate);
            side.cpu_seconds.push(ours);
            side.others_cpu_seconds.push((everybody - ours).max(0.0));
        }
    }
    let [us, small, large, kcat] = <[Side; 4]>::try_from(sides).map_err(|_| "four writers")?;
    let work = |name: &str, sides: Vec<Side>| Work {
        group: "Into one partition of Kafka".to_owned(),
        name: name.to_owned(),
        unit: "MB/s".to_owned(),
        less_is_better: false,
        sides,
    };
    let name = format!("{:.0} MB, a record an event", bytes as f64 / 1e6);
    let works = vec![
        work(&name, vec![us.clone(), small, kcat]),
        work("the same bytes in records of 1 MiB", vec![us, large]),
    ];
    works.iter().for_each(crate::print);
    Ok(works)
}

/// Processor seconds of this program and of those that it waited for.
fn own() -> Result<f64, Anything> {
    Ok(processors::of_children()? + processors::of_this_program()?)
}

impl Writer {
    fn side(self, brokers: &str) -> Result<Side, Anything> {
        let (name, settings) = match self {
            Self::Us => (
                "Tidemill, HTTP to Kafka".to_owned(),
                "bodies of 1 MiB over 4 connections, checked and encoded as columns, acks=all before each answer; \
                 MB of events"
                    .to_owned(),
            ),
            Self::Perf(size) => (
                format!("producer-perf-test, {}", kafka_version(brokers)?),
                format!("records of {size} bytes, {}; its own clock", PROPERTIES.join(" ")),
            ),
            Self::Kcat => (
                kcat_version()?,
                "the same file, a record a line, acks=all, otherwise its defaults; until it has ended".to_owned(),
            ),
        };
        Ok(Side {
            name,
            settings,
            rounds: Vec::new(),
            cpu_seconds: Vec::new(),
            others_cpu_seconds: Vec::new(),
            trouble: None,
        })
    }

    /// Megabytes a second.
    async fn write(self, topics: &Topics, ndjson: &Path, bytes: u64) -> Result<f64, Anything> {
        match self {
            Self::Us => through_us(topics, ndjson).await,
            Self::Perf(size) => perf_test(topics, size, bytes / size),
            Self::Kcat => {
                let topic = topics.create("kcat")?;
                let begun = Instant::now();
                let status = Command::new("kcat")
                    .args([
                        "-P",
                        "-q",
                        "-b",
                        topics.brokers(),
                        "-t",
                        &topic,
                        "-X",
                        "acks=all",
                        "-l",
                    ])
                    .arg(ndjson)
                    .stdout(Stdio::null())
                    .status()
                    .map_err(|error| format!("start `kcat`: {error}"))?;
                match status.success() {
                    true => Ok(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()),
                    false => Err(format!("`kcat` failed ({status})").into()),
                }
            }
        }
    }
}

async fn through_us(topics: &Topics, ndjson: &Path) -> Result<f64, Anything> {
    let directory = process::directory()?;
    let server = Process::start(directory.path(), &topics.configuration("ingest"))?;
    let report = post_events(&server, ndjson).await?;
    server.stop()?;
    Ok(report.megabytes_per_second)
}

fn perf_test(topics: &Topics, size: u64, count: u64) -> Result<f64, Anything> {
    let topic = topics.create(&format!("perf{size}"))?;
    let servers = format!("bootstrap.servers={}", topics.brokers());
    let output = tool("org.apache.kafka.tools.ProducerPerformance")?
        .args(["--topic", &topic, "--throughput", "-1"])
        .args([
            "--record-size",
            &size.to_string(),
            "--num-records",
            &count.to_string(),
        ])
        .args(["--producer-props", &servers])
        .args(PROPERTIES)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let per_second = said.lines().rev().find_map(records_per_second);
    match per_second.filter(|_| output.status.success()) {
        Some(per_second) => Ok(per_second * size as f64 / 1e6),
        None => Err(format!(
            "producer-perf-test: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
    }
}

/// `5000000 records sent, 812347.684809 records/sec (95.29 MB/sec), …`, whose MB are 2^20 bytes.
fn records_per_second(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("records sent, ")?;
    rest.split_once(" records/sec")?.0.trim().parse().ok()
}

fn kafka_version(brokers: &str) -> Result<String, Anything> {
    let output = tool("org.apache.kafka.tools.TopicCommand")?
        .args(["--version", "--bootstrap-server", brokers])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(format!(
        "Kafka {}",
        said.split_whitespace().next().unwrap_or("of unknown version")
    ))
}

fn kcat_version() -> Result<String, Anything> {
    let output = Command::new("kcat")
        .arg("-V")
        .output()
        .map_err(|error| format!("start `kcat`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.lines().find_map(|line| line.strip_prefix("Version "));
    let word = version.and_then(|version| version.split_whitespace().next());
    Ok(format!("kcat {}", word.unwrap_or("of unknown version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_the_last_line_of_the_tool() {
        let line =
            "5000 records sent, 812.5 records/sec (95.29 MB/sec), 3.1 ms avg latency, 9.0 ms max latency";
        assert_eq!(records_per_second(line), Some(812.5));
        assert_eq!(records_per_second("WARN something else"), None);
    }
}
