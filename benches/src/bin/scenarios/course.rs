//! Looks at a server again and again while it is measured: throughput, memory, lag.

use std::time::{Duration, Instant};

use benches::process::Process;
use benches::report::Sample;
use server::load::replay::Progress;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// About how many looks a run has: more are not seen in a chart.
const SAMPLES: u32 = 120;

/// Bounds of the time between two looks.
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Looks until it is stopped. `time` is how long it will be, about.
pub(super) async fn watch(
    server: &Process,
    progress: &Progress,
    time: Duration,
    stop: &CancellationToken,
) -> Vec<Sample> {
    let mut ticks = interval((time / SAMPLES).clamp(EVERY.0, EVERY.1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now.
    ticks.tick().await;
    let begun = Instant::now();
    let (mut last, mut events, mut bytes) = (begun, progress.events(), progress.bytes());
    let mut course = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return course,
            _ = ticks.tick() => {}
        }
        let (now, events_now, bytes_now) = (Instant::now(), progress.events(), progress.bytes());
        let seconds = (now - last).as_secs_f64().max(1e-3);
        let rss_anon = server.memory();
        course.push(Sample {
            at_s: (now - begun).as_secs_f64(),
            events_per_second: (events_now - events) as f64 / seconds,
            megabytes_per_second: (bytes_now - bytes) as f64 / 1e6 / seconds,
            rss_anon,
            // A server that is busy may answer late, and that one look has no lag then.
            lag_records: server.lag().await.unwrap_or(None),
        });
        (last, events, bytes) = (now, events_now, bytes_now);
    }
}
