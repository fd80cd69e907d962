//! `tidemill demo`: the first minute. Starts a server in this process, fills it, asks it, and stays up.
//!
//! ```text
//! directory ──► serve::Server ──► load::replay (over HTTP) ──► questions.rs (over HTTP) ──► waits ──► shutdown
//! ```
//!
//! It needs no set-up: no file and no environment is read, a port that is taken is replaced by a free one, and
//! without `--data-dir` everything lies in a new directory that goes with the demo.

mod directory;
mod questions;
mod table;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::failure::{Failure, JOURNAL_STOPPED, USAGE};
use crate::config::{self, Config, Sources};
use crate::load::generate::{EVENTS_MAX, GeneratorOptions, Starter};
use crate::load::replay::{self, Options, Progress, Report, Source, Target};
use crate::serve::{Server, Signals};
use directory::Directory;

/// Where it listens when nothing is said and nobody else does.
const LISTEN: &str = "127.0.0.1:8080";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the data here [default: a new directory `tidemill-demo` in this one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many events are made and sent
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: u64,
    /// Address to listen on [default: 127.0.0.1:8080, or a free port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// End after the answers instead of staying up
    #[arg(long)]
    exit: bool,
}

pub(crate) async fn run(arguments: DemoArgs) -> Outcome {
    if !(1..=EVENTS_MAX).contains(&arguments.events) {
        let message = format!("--events `{}`: write 1 to {EVENTS_MAX}", arguments.events);
        return Err(Failure::with_exit(USAGE, message));
    }
    let mut signals = Signals::listen()?;
    let directory = match &arguments.data_dir {
        Some(path) => Directory::kept(path.clone()),
        None => Directory::new_here()?,
    };
    let config = configuration(&directory, arguments.listen.as_deref())?;
    let server = Server::start(config).await?;
    let address = *server.addresses().first().ok_or("the server has no address")?;
    println!("listening on http://{address}");
    println!("data in {directory}\n");

    let shown = tokio::select! {
        shown = show(address, &arguments, &mut signals) => shown,
        reason = server.journal_stopped() => Err(Failure::with_exit(JOURNAL_STOPPED, reason)),
    };
    println!("shutting down");
    let clean = tokio::select! {
        clean = server.shutdown() => clean,
        // What the journal has is safe; nobody wants to wait for files of a demo.
        _ = signals.next() => false,
    };
    directory.remove()?;
    shown?;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything between start and shutdown; a signal ends it.
async fn show(address: SocketAddr, arguments: &DemoArgs, signals: &mut Signals) -> Result<(), Failure> {
    let whole = async {
        let report = fill(address, arguments.events).await?;
        println!("{report}");
        if !report.succeeded() {
            return Err(Failure::from("not every event was answered"));
        }
        let stored = report.accepted;
        questions::ask_all(address, stored).await?;
        questions::invite(address);
        if arguments.exit {
            return Ok(());
        }
        println!("\nctrl-c ends it");
        std::future::pending().await
    };
    tokio::select! {
        done = whole => done,
        _ = signals.next() => Ok(()),
    }
}

/// Sends generated runs, as `tidemill replay` does.
async fn fill(address: SocketAddr, count: u64) -> Result<Report, Failure> {
    let starter = Starter::Running;
    let source = Source::Generated {
        starter,
        count,
        options: GeneratorOptions::default(),
    };
    let target = Target::parse(&format!("http://{address}"), Some(starter.name()))?;
    println!("sending {} generated runs", replay::grouped(count));
    let progress = Arc::new(Progress::default());
    let options = Options::new(source, target);
    let sending = replay::run(options, Arc::clone(&progress), CancellationToken::new());
    tokio::select! {
        report = sending => Ok(report?),
        () = replay::show(progress, Some(count)) => Err(Failure::from("the display ended")),
    }
}

/// The starter streams in that directory, and nothing that a file or the environment says.
fn configuration(directory: &Directory, listen: Option<&str>) -> Result<Config, Failure> {
    let data_dir = directory
        .path()
        .to_str()
        .ok_or_else(|| Failure::with_exit(USAGE, "--data-dir is not UTF-8"))?;
    let sources = Sources {
        flags: vec![
            ("data_dir", data_dir.to_owned()),
            ("listen", listen.map_or_else(free_address, str::to_owned)),
            // Few enough for the usual limit of open files.
            ("ingest.connections", "200".to_owned()),
        ],
        ..Sources::default()
    };
    config::load(&sources).map_err(|problems| Failure::with_exit(USAGE, problems))
}

fn free_address() -> String {
    match TcpListener::bind(LISTEN) {
        Ok(_) => LISTEN.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}
