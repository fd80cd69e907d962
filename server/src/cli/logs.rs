//! Where diagnostics go and what of them is shown.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::failure::{Failure, USAGE};

/// Flags about logs, the same for every command.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What to log: a level, or `target=level` parts with commas between them [default: info; demo: warn]
    #[arg(long, global = true, env = "TIDEMILL_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to write it
    #[arg(long, global = true, env = "TIDEMILL_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins logging to the error output, from `level` on when the arguments do not say what.
pub(crate) fn begin(arguments: &LogArgs, level: &str) -> Result<(), Failure> {
    let wanted = match &arguments.log {
        Some(filter) => filter.clone(),
        None => format!("{level},delta_kernel=warn,delta_kernel_default_engine=warn,lapin=off"),
    };
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| Failure::with_exit(USAGE, format!("--log `{wanted}`: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|error| Failure::with_exit(USAGE, format!("begin logging: {error}")))
}
