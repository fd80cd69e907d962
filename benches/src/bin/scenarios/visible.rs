//! How long after its answer an event is in the answers of SQL.
//!
//! While the load goes on, now and then one event of a user that nobody else is goes in, and is asked for from the
//! moment when it was acknowledged until an answer has it.

use std::time::{Duration, Instant};

use benches::Anything;
use http::{Request, StatusCode};
use serde_json::Value;
use server::load::ask::ask;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often one goes in.
const EVERY: Duration = Duration::from_millis(100);

/// How long an event may be missing before the measurement says that it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until it is stopped, and gives the times in milliseconds.
///
/// # Errors
/// When the server refuses an event or a question, or an event does not appear.
pub(super) async fn watch(address: &str, stop: &CancellationToken) -> Result<Vec<f64>, Anything> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(times),
            _ = ticks.tick() => {}
        }
        times.push(appears_after(address, times.len()).await?.as_secs_f64() * 1e3);
    }
}

async fn appears_after(address: &str, number: usize) -> Result<Duration, Anything> {
    let user = format!("ffffffff-0000-4000-8000-{number:012x}");
    let event = format!(
        "{{\"user_id\":\"{user}\",\"duration\":1,\"distance\":1,\"timestamp\":\"2024-01-01T00:00:00Z\"}}\n"
    );
    let post = Request::post("/v1/streams/running/events").header("content-type", "application/x-ndjson");
    let answer = ask(address, post, event).await?;
    if answer.status != StatusCode::OK {
        return Err(format!("an event got {}", answer.status).into());
    }
    let acknowledged = Instant::now();
    loop {
        let question = Request::post("/v1/sql").header("content-type", "text/plain");
        let sql = format!("select count(*) from running where user_id = '{user}'");
        let answer = ask(address, question, sql).await?;
        if answer.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("a question got {}: {text}", answer.status).into());
        }
        let found: Value = serde_json::from_slice(&answer.body)?;
        if found["rows"][0][0].as_u64() == Some(1) {
            return Ok(acknowledged.elapsed());
        }
        if acknowledged.elapsed() > PATIENCE {
            return Err(format!("event `{number}` is in no answer after {} s", PATIENCE.as_secs()).into());
        }
    }
}
