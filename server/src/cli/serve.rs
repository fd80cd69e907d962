//! `tidemill serve`: runs until it is told to stop, then shuts down in flow order (I-7).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::failure::{Failure, JOURNAL_STOPPED, SECOND_SIGNAL};
use super::{Outcome, settings::SettingsArgs};
use crate::serve::{Server, Signals};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Write the addresses that are listened on to this file, one a line, once all is ready
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
}

pub(crate) async fn run(arguments: ServeArgs) -> Outcome {
    let config = arguments.settings.load()?;
    // From here on a signal means an ordered end, also while recovery reads the journal.
    let mut signals = Signals::listen()?;
    let greeting = Greeting::of(&config);
    let server = tokio::select! {
        server = Server::start(config) => server?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    greeting.print(&server)?;
    if let Some(path) = &arguments.address_file {
        write_addresses(path, &server)?;
    }
    let stopped = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "shutting down; a second signal ends at once");
            None
        }
        reason = server.journal_stopped() => Some(reason),
    };
    if let Some(reason) = stopped {
        // Nothing more can be acknowledged, and only recovery may open the journal again (I-8).
        return Err(Failure::with_exit(JOURNAL_STOPPED, reason));
    }
    tokio::select! {
        clean = server.shutdown() => {
            tracing::info!(clean, "shut down");
            Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal: ending at once; the journal keeps what was acknowledged");
            end_at_once()
        }
    }
}

/// Ends without waiting for threads that are writing a file or a commit.
#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for exactly this (I-7)"
)]
fn end_at_once() -> ! {
    std::process::exit(i32::from(SECOND_SIGNAL))
}

fn write_addresses(path: &Path, server: &Server) -> Result<(), Failure> {
    let text: String = server
        .addresses()
        .iter()
        .map(|address| format!("{address}\n"))
        .collect();
    // Written beside and renamed, so that whoever waits for the file never reads half of it.
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).map_err(|error| format!("write `{}`: {error}", temporary.display()))?;
    rename(&temporary, path).map_err(|error| format!("write `{}`: {error}", path.display()))?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing depends on this file after a power loss"
)]
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)
}

/// What a person sees first.
struct Greeting {
    data_dir: PathBuf,
    streams: Vec<String>,
    sample: Option<String>,
    /// What makes curl send a token, when one is needed.
    token: &'static str,
}

impl Greeting {
    fn of(config: &crate::config::Config) -> Self {
        let streams: Vec<String> = config
            .streams
            .iter()
            .map(|stream| stream.name.to_string())
            .collect();
        let sample = config.streams.iter().find(|stream| stream.name.as_str() == "running").map(|_| {
            r#"{"user_id":"d290f1ee-6c54-4b01-90e6-d701748f0851","duration":3600,"distance":5000,"timestamp":"2024-09-10T09:12:33.001Z"}"#.to_owned()
        });
        Self {
            data_dir: config.data_dir.clone(),
            streams,
            sample,
            token: match config.access.tokens_file {
                Some(_) => " -H \"authorization: Bearer $TIDEMILL_TOKEN\"",
                None => "",
            },
        }
    }

    fn print(&self, server: &Server) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for address in server.addresses() {
            writeln!(out, "listening on {}://{address}", server.scheme())?;
        }
        writeln!(out, "data in {}", self.data_dir.display())?;
        writeln!(out, "streams: {}", self.streams.join(", "))?;
        let (scheme, token) = (server.scheme(), self.token);
        if let Some(address) = server.addresses().first() {
            if let Some(sample) = &self.sample {
                writeln!(
                    out,
                    "try:\n  curl {scheme}://{address}/v1/streams/running/events{token} -H 'content-type: application/json' \
                     -d '{sample}'\n  curl {scheme}://{address}/v1/sql{token} -H 'accept: text/plain' \
                     -d 'select count(*) from running'"
                )?;
            }
            writeln!(out, "documentation: {scheme}://{address}/docs")?;
        }
        out.flush()
    }
}
