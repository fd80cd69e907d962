//! `tidemill replay`: sends events to a running server at a pace, and says how long the answers took.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use event::units::{parse_bytes, parse_duration};
use tokio_util::sync::CancellationToken;

use super::credentials::CredentialArgs;
use super::failure::{FAILED, Failure, USAGE};
use super::generate::ChoiceArgs;
use super::{Outcome, output};
use crate::load::ask::ask_at;
use crate::load::generate::{EVENTS_MAX, Starter};
use crate::load::replay::{self, BatchSize, Options, Pace, Progress, Report, Source, Target};
use crate::serve::Signals;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// NDJSON files, one after the other; `.gz` and `.zst` are inflated, `-` is the standard input
    #[arg(value_name = "FILE", required_unless_present = "generate")]
    files: Vec<PathBuf>,
    /// The server
    #[arg(
        long,
        env = "TIDEMILL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    to: String,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// The stream that the events are of; not needed when the URL has a path that says so
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Events a second, as `50000/s`: an open loop. Without it, as fast as the server answers
    #[arg(long, value_name = "N/s", value_parser = rate, conflicts_with = "as_recorded")]
    rate: Option<f64>,
    /// Keep the gaps between the events' own times: an open loop
    #[arg(long)]
    as_recorded: bool,
    /// With --as-recorded, how many times as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "as_recorded")]
    speed: f64,
    /// With --as-recorded, the member with the time, `a.b` for nested ones [default: what the stream declares]
    #[arg(long, value_name = "FIELD", requires = "as_recorded")]
    time_field: Option<String>,
    /// How many requests are under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// What one request carries: a number of events or a size as `1MiB` [default: 1MiB; with a pace, what is
    /// due within 10 ms]
    #[arg(long, value_name = "N|SIZE", value_parser = batch)]
    batch: Option<BatchSize>,
    /// Send nothing more after this time, as `60s`
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Send events that are made on the way instead of files: running, music, activity, tracking, detection
    #[arg(long, value_name = "STREAM", conflicts_with = "files")]
    generate: Option<Starter>,
    /// With --generate, how many events [default: until --for is over]
    #[arg(long, value_name = "N", requires = "generate")]
    events: Option<u64>,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Also write the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write what is sent and what is answered to this file, durably, before and after each request
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// For how long a busy or absent server is asked again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
}

pub(crate) async fn run(arguments: ReplayArgs) -> Outcome {
    let options = arguments.options().await?;
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let total = match &options.source {
        Source::Generated { count, .. } if options.duration.is_none() => Some(*count),
        _ => None,
    };
    let progress = Arc::new(Progress::default());
    let sending = replay::run(options, Arc::clone(&progress), stop.clone());
    tokio::pin!(sending);
    let report = {
        let show = replay::show(progress, total);
        tokio::pin!(show);
        tokio::select! {
            report = &mut sending => report?,
            () = &mut show => return Err(Failure::from("the display ended")),
            _ = signals.next() => {
                // What is in flight is answered and counted; a second signal cuts it off.
                stop.cancel();
                tokio::select! {
                    report = &mut sending => report?,
                    name = signals.next() => return Err(Failure::from(format!("{name}: stopped without a report"))),
                }
            }
        }
    };
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    output::print(&report)?;
    if report.succeeded() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::from(FAILED))
    }
}

fn write_json(path: &std::path::Path, report: &Report) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(|error| Failure::from(format!("write `{}`: {error}", path.display())))
}

impl ReplayArgs {
    async fn options(&self) -> Result<Options, Failure> {
        let usage = |error: replay::OptionsError| Failure::with_exit(USAGE, error);
        let source = match self.generate {
            Some(starter) => Source::Generated {
                starter,
                count: self.count()?,
                options: self.choice.options()?,
            },
            None => Source::Files(self.files.clone()),
        };
        let stream = self.stream.as_deref().or(self.generate.map(Starter::name));
        let target = Target::with(&self.to, stream, &self.credentials.load()?).map_err(usage)?;
        let pace = match (self.rate, self.as_recorded) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, true) => Pace::Recorded {
                field: self.time_field(&target, stream).await?,
                speed: self.speed,
            },
            (None, false) => Pace::FullSpeed,
        };
        let options = Options {
            connections: self.connections,
            batch: self.batch,
            pace,
            duration: self.duration,
            ledger: self.ledger.clone(),
            patience: self.patience,
            ..Options::new(source, target)
        };
        options.check().map_err(usage)?;
        Ok(options)
    }

    fn count(&self) -> Result<u64, Failure> {
        match (self.events, self.duration) {
            (Some(events), _) => Ok(events),
            (None, Some(_)) => Ok(EVENTS_MAX),
            (None, None) => Err(Failure::with_exit(
                USAGE,
                "--generate needs --events or --for to come to an end",
            )),
        }
    }

    /// The member that has an event's time: what the server says, unless the command line does.
    async fn time_field(&self, target: &Target, stream: Option<&str>) -> Result<String, Failure> {
        if let Some(field) = &self.time_field {
            return Ok(field.clone());
        }
        let unknown = |why: String| Failure::from(format!("{why}; say it with --time-field"));
        let Some(stream) = stream else {
            return Err(unknown("--as-recorded needs the field with the time".to_owned()));
        };
        let request = http::Request::get(format!("/v1/streams/{stream}"));
        let answer = ask_at(target.endpoint(), request, "").await?;
        let described: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(time) = described["time"].as_str().filter(|_| answer.status.is_success()) else {
            return Err(unknown(format!(
                "the server does not say which field of `{stream}` has the time ({})",
                answer.status
            )));
        };
        let fields = described["fields"].as_array().map_or(&[][..], Vec::as_slice);
        let declared = fields.iter().find(|field| field["name"] == time);
        let from = declared.and_then(|field| field["from"].as_str());
        Ok(from.unwrap_or(time).to_owned())
    }
}

/// `5000`, `5000/s`.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no rate as 50000/s"))?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err(format!("`{text}` is not above 0"))
    }
}

/// `100` events, `1MiB`.
fn batch(text: &str) -> Result<BatchSize, String> {
    if let Ok(events) = text.parse() {
        return Ok(BatchSize::Events(events));
    }
    let bytes = parse_bytes(text).map_err(|error| format!("{error}, or a number of events"))?;
    usize::try_from(bytes)
        .map(BatchSize::Bytes)
        .map_err(|error| error.to_string())
}
