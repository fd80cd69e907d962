//! Larger batches: from one event in a request to 16 MiB of them.

use std::time::Duration;

use benches::Anything;
use benches::process::{self, Process};
use benches::report::Figure;
use server::load::generate::Starter;
use server::load::replay::{BatchSize, Pace};

use crate::Figures;
use crate::sending::Sending;

/// Events of a request, and connections: small requests need many to fill a group. The last one is 16 MiB.
const SIZES: [(u64, usize); 6] = [
    (1, 64),
    (10, 64),
    (100, 64),
    (1_000, 16),
    (8_600, 4),
    (137_000, 4),
];

pub(crate) async fn measure(time: Duration) -> Result<Vec<Figure>, Anything> {
    let mut figures = Figures::new("events in a request");
    for (events, connections) in SIZES {
        let directory = process::directory()?;
        let server = Process::start(directory.path(), "")?;
        let sending = Sending {
            streams: vec![Starter::Running.name().to_owned()],
            loads: 1,
            connections,
            batch: BatchSize::Events(events),
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
        figures.add(events, &values);
    }
    Ok(figures.done())
}
