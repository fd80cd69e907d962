//! Progress for people: a bar on a terminal, plain lines otherwise, on the error output.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Progress;

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a replay of `total` events, where that is known, until it is dropped.
///
/// # Cancellation
/// This is how it ends; a bar stays as it was last drawn.
pub async fn show(progress: Arc<Progress>, total: Option<u64>) {
    if std::io::stderr().is_terminal() {
        draw(&progress, total).await;
    } else {
        write(&progress, total).await;
    }
}

async fn draw(progress: &Progress, total: Option<u64>) {
    let bar = Bar(ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()));
    let template = match total {
        Some(_) => "{bar:40} {human_pos}/{human_len} events {per_sec:.0} {msg} {eta}",
        None => "{spinner} {human_pos} events {per_sec:.0} {msg} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.0.set_style(style);
    }
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        ticks.tick().await;
        bar.0.set_position(progress.events());
        bar.0.set_message(rates(progress, begun));
    }
}

/// A bar that leaves its last state behind, so that what follows is written below it.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn write(progress: &Progress, total: Option<u64>) {
    let begun = Instant::now();
    let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        eprintln!(
            "{}{of} events after {} s, {}",
            progress.events(),
            begun.elapsed().as_secs(),
            rates(progress, begun)
        );
    }
}

fn rates(progress: &Progress, begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs_f64().max(1e-3);
    let mut text = format!("{:.1} MB/s", progress.bytes() as f64 / seconds / 1e6);
    for (count, what) in [(progress.rejected(), "rejected"), (progress.retries(), "retries")] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}
