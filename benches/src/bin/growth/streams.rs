//! More streams, all of them used at once, with as many connections in all.

use std::fmt::Write;
use std::time::{Duration, Instant};

use benches::Anything;
use benches::process::{self, Process};
use benches::report::Figure;
use server::load::replay::{BatchSize, Pace};

use crate::Figures;
use crate::sending::Sending;

const SIZES: [usize; 3] = [1, 10, 100];

/// Connections in all, dealt out to the streams.
const CONNECTIONS: usize = 100;

const EVENTS: BatchSize = BatchSize::Events(100);

/// Events a second in all, however many streams share them: a load that one stream carries with ease.
const EVENTS_PER_SECOND: f64 = 200_000.0;

pub(crate) async fn measure(time: Duration) -> Result<Vec<Figure>, Anything> {
    let mut figures = Figures::new("streams");
    for count in SIZES {
        let names: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
        let directory = process::directory()?;
        let begun = Instant::now();
        let server = Process::start(directory.path(), &declared(&names))?;
        server.until_ready().await?;
        let started_ms = begun.elapsed().as_secs_f64() * 1e3;
        let sending = Sending {
            streams: names,
            loads: 1,
            connections: CONNECTIONS / count,
            batch: EVENTS,
            pace: Pace::Rate(EVENTS_PER_SECOND / count as f64),
            time,
        };
        let cost = sending.to(server).await?;
        let values = [
            ("first start, with new tables", "ms", started_ms),
            ("server, for a million events", "CPU s", cost.cpu_s_per_million),
            ("worst p99 of a stream, open loop", "ms", cost.p99_ms),
            (
                "throughput of 200,000 asked for",
                "events/s",
                cost.events_per_second,
            ),
            (
                "refused with 429 or 503",
                "of 1M requests",
                cost.refused_of_million,
            ),
            ("peak of anonymous memory", "MiB", cost.memory_mib),
        ];
        figures.add(count as u64, &values);
    }
    Ok(figures.done())
}

/// Streams with the fields of `running`.
fn declared(names: &[String]) -> String {
    let mut config = String::new();
    for name in names {
        // Writing into a string cannot fail.
        let _ = write!(
            config,
            "[streams.{name}]\ntime = \"timestamp\"\nkey = \"user_id\"\n\
             [streams.{name}.fields]\nuser_id = \"uuid\"\nduration = \"int\"\ndistance = \"int\"\n\
             timestamp = \"timestamp\"\n"
        );
    }
    config
}
