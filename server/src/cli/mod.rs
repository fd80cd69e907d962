//! The command line: one file for each command, each with its arguments and a `run`.
//!
//! Exit codes are in [`failure`]; logs go to the error output, results to the standard output.

mod check;
mod credentials;
mod demo;
mod failure;
mod generate;
mod health;
mod infer;
mod journal;
mod lake;
mod logs;
mod outbox;
mod output;
mod replay;
mod serve;
mod settings;
mod sql;
mod sql_worker;
mod token;

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
    /// Shows the first minute: a server, a million events, a few answers; then it stays up
    Demo(demo::DemoArgs),
    /// Takes events and answers questions until it is told to stop
    Serve(serve::ServeArgs),
    /// Checks the configuration and prints what it comes to
    Check(check::CheckArgs),
    /// Asks one question, of a running server or straight of a data directory
    Sql(sql::SqlArgs),
    /// Runs SQL for the server that started it; not for people
    #[command(hide = true)]
    SqlWorker,
    /// Asks a server whether it is ready; exit code 0 when it is
    Health(health::HealthArgs),
    /// Prints events of a starter stream; the same seed gives the same bytes
    Generate(generate::GenerateArgs),
    /// Sends events to a server at a pace, and says how long the answers took
    Replay(Box<replay::ReplayArgs>),
    /// Prints a declaration for a sample of events
    Infer(infer::InferArgs),
    /// Reads the files of a journal: verify, dump
    Journal(journal::JournalArgs),
    /// Works on the tables of a data directory that no server is using
    Lake(lake::LakeArgs),
    /// Makes and lists the tokens of a server that asks for them
    Token(token::TokenArgs),
    /// Prints the version and what this binary was built for.
    Version,
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Check(arguments) => check::run(&arguments),
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::SqlWorker => sql_worker::run().await,
        Command::Health(arguments) => health::run(arguments).await,
        Command::Generate(arguments) => generate::run(arguments).await,
        Command::Replay(arguments) => replay::run(*arguments).await,
        Command::Infer(arguments) => infer::run(&arguments),
        Command::Journal(arguments) => journal::run(arguments).await,
        Command::Lake(arguments) => lake::run(arguments).await,
        Command::Token(arguments) => token::run(&arguments),
        Command::Version => output::print(format_args!("tidemill {}\n", crate::version::TEXT)),
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
    // Whoever sees it for the first time wants to see the demo, not its diagnostics.
    let level = match arguments.command {
        // A worker comes and goes; its server says what is to be known of that.
        Command::Demo(_) | Command::SqlWorker => "warn",
        _ => "info",
    };
    logs::begin(&arguments.logs, level)?;
    crate::serve::raise_open_files();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("tidemill");
    // A worker was started by a thread that lets others go first already.
    if !matches!(arguments.command, Command::SqlWorker) {
        runtime.on_thread_start(crate::serve::let_others_go_first);
    }
    let runtime = runtime.build()?;
    let done = runtime.block_on(run(arguments.command));
    // Whatever is left was told to stop and had its time; nothing acknowledged depends on it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}
