//! Sends events to a server as `tidemill replay` does, for programs that need a lake or a topic filled.

use std::path::Path;
use std::sync::Arc;

use server::load::generate::{GeneratorOptions, Starter};
use server::load::replay::{self, BatchSize, Options, Progress, Report, Source, Target};
use tokio_util::sync::CancellationToken;

use crate::Anything;
use crate::process::Process;

/// Users of generated events.
pub const USERS: u64 = 100_000;

/// So many events of a starter stream, made on the way.
#[must_use]
pub fn made(starter: Starter, count: u64, seed: u64) -> Source {
    Source::Generated {
        starter,
        count,
        options: GeneratorOptions { users: USERS, seed },
    }
}

/// A file of events.
#[must_use]
pub fn file(path: &Path) -> Source {
    Source::Files(vec![path.to_owned()])
}

/// Posts all of it to a stream, as fast as answers come.
///
/// # Errors
/// When an event has no answer, or is rejected: then something else would be measured than is said.
pub async fn post(
    server: &Process,
    stream: &str,
    source: Source,
    batch: BatchSize,
    connections: usize,
) -> Result<Report, Anything> {
    let target = Target::parse(&format!("http://{}", server.address()), Some(stream))?;
    let options = Options {
        connections,
        batch: Some(batch),
        ..Options::new(source, target)
    };
    run(options).await
}

/// Runs a replay that has to succeed.
///
/// # Errors
/// As [`post`].
pub async fn run(options: Options) -> Result<Report, Anything> {
    let report = replay::run(options, Arc::new(Progress::default()), CancellationToken::new()).await?;
    if !report.succeeded() || report.rejected > 0 {
        let problems = report.problems.join("; ");
        return Err(format!("{} events were rejected; {problems}", report.rejected).into());
    }
    Ok(report)
}
