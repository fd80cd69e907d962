//! More connections, each with one event under way all the time.

use std::time::Duration;

use benches::Anything;
use benches::report::Figure;
use server::load::replay::BatchSize;

use crate::Figures;
use crate::sending::running;

/// How many loads with how many connections: one load has 4,096 at most.
const SIZES: [(usize, usize); 3] = [(1, 1), (1, 100), (4, 2_500)];

pub(crate) async fn measure(time: Duration) -> Result<Vec<Figure>, Anything> {
    let mut figures = Figures::new("connections");
    for (loads, connections) in SIZES {
        let cost = running(loads, connections, BatchSize::Events(1), time).await?;
        figures.add((loads * connections) as u64, &cost.values());
    }
    Ok(figures.done())
}
