//! The command line: one file for each command, each with its arguments and a `run`.
//!
//! Exit codes are in [`failure`]; logs go to the error output, results to the standard output.

mod failure;
mod logs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use failure::{Failure, Outcome};

/// Takes events in bulk over HTTP, keeps them as columns, answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version = crate::version::TEXT, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    logs: logs::LogArgs,
    #[command(subcommand)]
    command: Command,
}

// One line here and one in `run` for each command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the version and what this binary was built for.
    Version,
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Version => {
            println!("tidemill {}", crate::version::TEXT);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = start(arguments);
    done.unwrap_or_else(|failure| {
        eprintln!("tidemill: {failure}");
        failure.exit_code()
    })
}

fn start(arguments: Arguments) -> Outcome {
    logs::begin(&arguments.logs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidemill")
        .build()?;
    let done = runtime.block_on(run(arguments.command));
    // Whatever is left was told to stop and had its time; nothing acknowledged depends on it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}
