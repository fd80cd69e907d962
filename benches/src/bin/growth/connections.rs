//! More connections, each with one event under way all the time.

use std::time::Duration;

use benches::Anything;
use benches::process::{self, Process};
use benches::report::Figure;
use server::load::generate::Starter;
use server::load::replay::{BatchSize, Pace};

use crate::Figures;
use crate::sending::Sending;

/// How many loads with how many connections: one load has 4,096 at most.
const SIZES: [(usize, usize); 3] = [(1, 1), (1, 100), (4, 2_500)];

pub(crate) async fn measure(time: Duration) -> Result<Vec<Figure>, Anything> {
    let mut figures = Figures::new("connections");
    for (loads, connections) in SIZES {
        let directory = process::directory()?;
        let server = Process::start(directory.path(), "")?;
        let sending = Sending {
            streams: vec![Starter::Running.name().to_owned()],
            loads,
            connections,
            batch: BatchSize::Events(1),
            pace: Pace::FullSpeed,
            time,
        };
        let cost = sending.to(server).await?;
        let values = [
            ("server, for a million events", "CPU s", cost.cpu_s_per_million),
            ("throughput", "events/s", cost.events_per_second),
            (
                "refused with 429 or 503",
                "of 1M requests",
                cost.refused_of_million,
            ),
            ("peak of anonymous memory", "MiB", cost.memory_mib),
        ];
        figures.add((loads * connections) as u64, &values);
    }
    Ok(figures.done())
}
