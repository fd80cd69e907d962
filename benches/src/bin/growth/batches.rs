//! Larger batches: from one event in a request to 16 MiB of them.

use std::time::Duration;

use benches::Anything;
use benches::report::Figure;
use server::load::replay::BatchSize;

use crate::Figures;
use crate::sending::running;

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
        let cost = running(1, connections, BatchSize::Events(events), time).await?;
        figures.add(events, &cost.values());
    }
    Ok(figures.done())
}
