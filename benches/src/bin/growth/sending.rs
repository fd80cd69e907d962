//! One load on one server, and what it cost.

use std::time::Duration;

use benches::Anything;
use benches::load::{made, run};
use benches::process::Process;
use server::load::generate::{EVENTS_MAX, Starter};
use server::load::replay::{BatchSize, Options, Target};
use tokio::task::JoinSet;

/// Loads that run at once, all alike but for their streams.
pub(crate) struct Sending {
    pub(crate) streams: Vec<String>,
    /// How many loads each stream has; a load has as many connections as the load generator allows at most.
    pub(crate) loads: usize,
    pub(crate) connections: usize,
    pub(crate) batch: BatchSize,
    pub(crate) time: Duration,
}

/// What it cost.
pub(crate) struct Cost {
    pub(crate) events_per_second: f64,
    /// Of the server.
    pub(crate) cpu_s_per_million: f64,
    pub(crate) memory_mib: f64,
}

impl Sending {
    /// Sends `running` events in a closed loop, and stops the server.
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
                    duration: Some(self.time),
                    ..Options::new(made(Starter::Running, EVENTS_MAX, seed), target)
                };
                loads.spawn(run(options));
            }
        }
        let (mut events, mut seconds) = (0, 0.0_f64);
        while let Some(done) = loads.join_next().await {
            let report = done??;
            events += report.accepted;
            seconds = seconds.max(report.seconds);
        }
        let used = before.until(&server.processors()?);
        let peak = server.stop()?;
        Ok(Cost {
            events_per_second: events as f64 / seconds,
            cpu_s_per_million: used.server_s / (events.max(1) as f64 / 1e6),
            memory_mib: peak as f64 / f64::from(1 << 20),
        })
    }
}
