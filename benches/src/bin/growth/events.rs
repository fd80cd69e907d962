//! More events in the lake: questions, starts and commits.

use std::path::Path;
use std::time::Instant;

use benches::Anything;
use benches::load::{made, post};
use benches::process::{self, Process};
use benches::report::Figure;
use benches::spread::{Spread, median};
use http::{Request, StatusCode};
use serde_json::Value;
use server::load::ask::ask;
use server::load::generate::Starter;
use server::load::replay::BatchSize;

use crate::Figures;

const FACTORS: [u64; 3] = [1, 10, 100];

/// How often each question is asked; the first tenth only warms.
const ASKED: u64 = 220;

/// How often it is started.
const STARTS: usize = 5;

/// Commits whose time is taken.
const COMMITS: u64 = 20;

/// Nothing is rolled while questions are timed.
const QUIET: &str = "lake.roll.every = \"1d\"\n";

/// Each event is in a file of its own as soon as it can be.
const EAGER: &str = "lake.roll.every = \"100ms\"\n";

pub(crate) async fn measure(base: u64) -> Result<Vec<Figure>, Anything> {
    let mut figures = Figures::new("events");
    for factor in FACTORS {
        let events = base * factor;
        let directory = process::directory()?;
        fill(directory.path(), events).await?;
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let server = Process::start(directory.path(), QUIET)?;
            server.until_ready().await?;
            starts.push(begun.elapsed().as_secs_f64() * 1e3);
            server.stop()?;
        }
        let server = Process::start(directory.path(), QUIET)?;
        server.until_ready().await?;
        let nth = asked(&server, |turn| format!("events/{}", spread_out(turn, events))).await?;
        // The time of an event is where a page of its neighbours begins.
        let times = times(&server, events).await?;
        let range = asked(&server, |turn| {
            let start = &times[turn as usize % times.len()];
            format!("events?start={start}&limit=1000")
        })
        .await?;
        let stats = asked(&server, |_| "stats".to_owned()).await?;
        server.stop()?;
        let commit = commits(directory.path()).await?;
        let values = [
            ("nth event, p50", "ms", nth.p50),
            ("nth event, p99", "ms", nth.p99),
            ("range page of 1,000 events, p50", "ms", range.p50),
            ("range page of 1,000 events, p99", "ms", range.p99),
            ("stats of all, p50", "ms", stats.p50),
            ("stats of all, p99", "ms", stats.p99),
            ("start until ready, median", "ms", median(&starts)),
            ("commit of a small file, mean of 20", "ms", commit),
        ];
        figures.add(events, &values);
    }
    Ok(figures.done())
}

/// Fills a lake, and stops: then everything is committed.
async fn fill(directory: &Path, events: u64) -> Result<(), Anything> {
    let server = Process::start(directory, QUIET)?;
    let source = made(Starter::Running, events, 1);
    post(
        &server,
        Starter::Running.name(),
        source,
        BatchSize::Bytes(1 << 20),
        4,
    )
    .await?;
    server.stop().map(drop)
}

/// Another place each time, all over `events`.
fn spread_out(turn: u64, events: u64) -> u64 {
    turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % events
}

/// How long a question takes over HTTP, in milliseconds.
async fn asked(server: &Process, path: impl Fn(u64) -> String) -> Result<Spread, Anything> {
    let mut times = Vec::new();
    for turn in 0..ASKED {
        let begun = Instant::now();
        get(server, &path(turn)).await?;
        if turn >= ASKED / 10 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Spread::of(times).ok_or_else(|| "nothing was asked".into())
}

async fn get(server: &Process, path: &str) -> Result<Value, Anything> {
    let request = Request::get(format!("/v1/streams/running/{path}"));
    let answer = ask(server.address(), request, "").await?;
    if answer.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(format!("`{path}` got {}: {text}", answer.status).into());
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Times of events all over the lake, with a thousand events behind each.
async fn times(server: &Process, events: u64) -> Result<Vec<String>, Anything> {
    let mut times = Vec::new();
    for turn in 0..32 {
        let event = get(server, &format!("events/{}", spread_out(turn, events - 1_000))).await?;
        let time = event["timestamp"]
            .as_str()
            .or(event["event"]["timestamp"].as_str());
        times.push(
            time.ok_or_else(|| format!("an event without a time: {event}"))?
                .to_owned(),
        );
    }
    Ok(times)
}

/// Milliseconds of a commit of the lake, by the server's own clock.
async fn commits(directory: &Path) -> Result<f64, Anything> {
    let server = Process::start(directory, EAGER)?;
    server.until_ready().await?;
    let (mut seconds, mut count) = (0.0, 0);
    let mut seed = 100;
    let begun = Instant::now();
    while count < COMMITS {
        if begun.elapsed() > process::PATIENCE {
            return Err(format!("only `{count}` commits").into());
        }
        post(
            &server,
            Starter::Running.name(),
            made(Starter::Running, 1, seed),
            BatchSize::Events(1),
            1,
        )
        .await?;
        seed += 1;
        (seconds, count) = commit_time(&server).await?;
    }
    server.stop()?;
    Ok(seconds * 1e3 / count as f64)
}

/// Sum and count of the histogram.
async fn commit_time(server: &Process) -> Result<(f64, u64), Anything> {
    let answer = ask(server.address(), Request::get("/metrics"), "").await?;
    let text = String::from_utf8_lossy(&answer.body);
    let of = |suffix: &str| -> f64 {
        let name = format!("tidemill_lake_commit_seconds_{suffix}");
        let lines = text.lines().filter(|line| line.starts_with(&name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    Ok((of("sum"), of("count") as u64))
}
