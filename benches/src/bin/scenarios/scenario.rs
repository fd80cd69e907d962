//! The scenarios, and how one of them is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::Anything;
use benches::process::{self, Process};
use benches::processors::Used;
use serde::Serialize;
use serde_json::Value;
use server::load::generate::{EVENTS_MAX, GeneratorOptions, Starter};
use server::load::replay::{self, BatchSize, Options, Pace, Progress, Report, Source, Target};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::Place::{Embedded, Kafka};
use crate::kafka::{self, Topics};

/// How long the sink may take to have its partitions, and to catch up before the measurement says that it did not.
const PATIENCE: Duration = Duration::from_secs(120);

/// One way to send.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) place: Place,
    batch: BatchSize,
    connections: usize,
    pace: Pace,
}

/// Where events become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this disk, with every role in the process.
    Embedded,
    /// On a broker, with those roles in the process.
    Kafka(&'static str),
}

const MIB: BatchSize = BatchSize::Bytes(1 << 20);

const ONE: BatchSize = BatchSize::Events(1);
const HUNDRED: BatchSize = BatchSize::Events(100);

pub(super) static SCENARIOS: [Scenario; 8] = [
    closed("running_1mib", Embedded, MIB, 4),
    closed("running_100_events", Embedded, HUNDRED, 64),
    closed("running_single", Embedded, ONE, 64),
    // The only one whose latency is what a client with a schedule of its own sees.
    Scenario {
        name: "running_single_5000_per_second",
        place: Embedded,
        batch: ONE,
        connections: 64,
        pace: Pace::Rate(5_000.0),
    },
    closed("kafka_running_1mib", Kafka("ingest"), MIB, 4),
    closed("kafka_running_1mib_8_connections", Kafka("ingest"), MIB, 8),
    closed("kafka_running_100_events", Kafka("ingest"), HUNDRED, 64),
    closed("kafka_running_1mib_with_sink", Kafka("all"), MIB, 4),
];

/// A scenario whose connections send as soon as they are free.
const fn closed(name: &'static str, place: Place, batch: BatchSize, connections: usize) -> Scenario {
    Scenario {
        name,
        place,
        batch,
        connections,
        pace: Pace::FullSpeed,
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    connections: usize,
    pub(super) report: Report,
    /// Processor time from the first request to the last answer.
    pub(super) used: Used,
    /// The most anonymous memory that the server had, in bytes, looked at every 50 ms.
    pub(super) rss_anon_peak: u64,
    /// Records that the sink had not read when the last answer came; none when the process has no sink.
    lag_records: Option<u64>,
    /// Seconds from then until it had read all; none when it did not within two minutes.
    pub(super) lag_gone_s: Option<f64>,
}

impl Measured {
    /// Whether there is a sink, and it had not caught up within two minutes.
    pub(super) fn is_behind(&self) -> bool {
        self.lag_records.is_some() && self.lag_gone_s.is_none()
    }
}

impl Scenario {
    /// Sends for so many seconds to a server of its own.
    ///
    /// # Errors
    /// When something does not start or answer; what went wrong with requests is in the report.
    pub(super) async fn measure(&self, seconds: u64) -> Result<Measured, Anything> {
        let topics = match self.place {
            Place::Embedded => None,
            Place::Kafka(_) => Some(Topics::new(kafka::brokers().ok_or("needs KAFKA_BROKERS")?)?),
        };
        let config = match (&topics, self.place) {
            (Some(topics), Place::Kafka(roles)) => topics.configuration(roles),
            _ => String::new(),
        };
        let directory = process::directory()?;
        let server = Process::start(directory.path(), &config)?;
        wait_for_sink(&server).await?;
        let before = server.processors()?;
        let report = self.send(&server, seconds).await?;
        let used = before.until(&server.processors()?);
        let ended = Instant::now();
        let lag_records = lag(&server.readiness().await?);
        let mut left = lag_records;
        while left.is_some_and(|left| left > 0) && ended.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20)).await;
            left = lag(&server.readiness().await?);
        }
        Ok(Measured {
            connections: self.connections,
            report,
            used,
            rss_anon_peak: server.stop()?,
            lag_records,
            lag_gone_s: (left == Some(0)).then(|| ended.elapsed().as_secs_f64()),
        })
    }

    async fn send(&self, server: &Process, seconds: u64) -> Result<Report, Anything> {
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
            connections: self.connections,
            batch: Some(self.batch),
            pace: self.pace.clone(),
            duration: Some(Duration::from_secs(seconds)),
            ..Options::new(source, target)
        };
        Ok(replay::run(options, Arc::new(Progress::default()), CancellationToken::new()).await?)
    }
}

/// Waits until the sink, if there is one, has its partition: members of a group take some seconds to agree.
async fn wait_for_sink(server: &Process) -> Result<(), Anything> {
    let begun = Instant::now();
    loop {
        let ready = server.readiness().await?;
        let running = |one: &Value| one["stream"] == Starter::Running.name();
        if ready["sink"]
            .as_array()
            .is_none_or(|streams| streams.iter().any(running))
        {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err("the sink gets no partition".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Records of the journal that the sink has not read; none when the process has no sink.
fn lag(ready: &Value) -> Option<u64> {
    let streams = ready["sink"].as_array()?;
    Some(
        streams
            .iter()
            .filter_map(|stream| stream["lag_records"].as_u64())
            .sum(),
    )
}
