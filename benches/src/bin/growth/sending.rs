//! One load on one server, and what it cost.

use std::sync::Arc;
use std::time::Duration;

use benches::Anything;
use benches::load::made;
use benches::process::{self, Process};
use server::load::generate::{EVENTS_MAX, Starter};
use server::load::replay::{self, BatchSize, Options, Pace, Progress, Report, Target};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Loads that run at once, all alike but for their streams.
pub(crate) struct Sending {
    pub(crate) streams: Vec<String>,
    /// How many loads each stream has; a load has as many connections as the load generator allows at most.
    pub(crate) loads: usize,
    pub(crate) connections: usize,
    pub(crate) batch: BatchSize,
    /// Of each load.
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
}

/// What it cost.
pub(crate) struct Cost {
    pub(crate) events_per_second: f64,
    /// Of the server.
    pub(crate) cpu_s_per_million: f64,
    pub(crate) memory_mib: f64,
    /// The worst p99 of all loads, in milliseconds; a claim in an open loop only.
    pub(crate) p99_ms: f64,
    /// Requests that were refused with 429 or 503 and sent again, of a million answered ones.
    pub(crate) refused_of_million: f64,
}

impl Cost {
    /// Its figures in a closed loop: name, unit and value of each.
    pub(crate) fn values(&self) -> [(&'static str, &'static str, f64); 4] {
        [
            ("server, for a million events", "CPU s", self.cpu_s_per_million),
            ("throughput", "events/s", self.events_per_second),
            (
                "refused with 429 or 503",
                "of 1M requests",
                self.refused_of_million,
            ),
            ("peak of anonymous memory", "MiB", self.memory_mib),
        ]
    }
}

/// What so many loads of `running` on a new server cost, as fast as answers come.
pub(crate) async fn running(
    loads: usize,
    connections: usize,
    batch: BatchSize,
    time: Duration,
) -> Result<Cost, Anything> {
    let directory = process::directory()?;
    let server = Process::start(directory.path(), "")?;
    let sending = Sending {
        streams: vec![Starter::Running.name().to_owned()],
        loads,
        connections,
        batch,
        pace: Pace::FullSpeed,
        time,
    };
    sending.to(server).await
}

impl Sending {
    /// Sends `running` events, and stops the server.
    pub(crate) async fn to(&self, server: Process) -> Result<Cost, Anything> {
        let before = server.processors()?;
        let mut loads = JoinSet::new();
        for (number, stream) in self.streams.iter().enumerate() {
            for load in 0..self.loads {
                let seed = 1 + (number * self.loads + load) as u64;
                let target = Target::parse(&format!("http://{}", server.address()), Some(stream))?;
                let options = Options {
                    connections: self.connections,
                    batch: Some(self.batch),
                    pace: self.pace.clone(),
                    duration: Some(self.time),
                    ..Options::new(made(Starter::Running, EVENTS_MAX, seed), target)
                };
                let progress = Arc::new(Progress::default());
                loads.spawn(replay::run(options, progress, CancellationToken::new()));
            }
        }
        let (mut events, mut requests, mut retries, mut seconds, mut p99_ms) = (0, 0, 0, 0.0_f64, 0.0_f64);
        while let Some(done) = loads.join_next().await {
            let report = done??;
            check(&report)?;
            events += report.accepted;
            requests += report.requests;
            retries += report.retries;
            seconds = seconds.max(report.seconds);
            p99_ms = p99_ms.max(report.latency.p99_ms);
        }
        let used = before.until(&server.processors()?);
        let peak = server.stop()?;
        Ok(Cost {
            events_per_second: events as f64 / seconds,
            cpu_s_per_million: used.server_s / (events.max(1) as f64 / 1e6),
            memory_mib: peak as f64 / f64::from(1 << 20),
            p99_ms,
            refused_of_million: retries as f64 / (requests.max(1) as f64 / 1e6),
        })
    }
}

/// A server that is busy may refuse, and what waits to be sent again when the time is over stays refused; anything
/// else is no measurement.
fn check(report: &Report) -> Result<(), Anything> {
    if report.rejected > 0 || report.unknown > 0 || (report.failed > 0 && report.retries == 0) {
        return Err(format!("something went wrong: {}", report.problems.join("; ")).into());
    }
    Ok(())
}
