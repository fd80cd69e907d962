//! `tidemill lake compact|vacuum|verify`: work on the tables of a data directory that no server is using.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use lake::Table;

use super::failure::{FAILED, Failure};
use super::{Outcome, settings::SettingsArgs};
use crate::config::Config;
use crate::serve::open_tables;

#[derive(Debug, Args)]
pub(crate) struct LakeArgs {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Merges small neighbouring files; indexes do not change
    Compact(TableArgs),
    /// Deletes files and log entries that no version needs any more
    Vacuum(TableArgs),
    /// Checks that the tables are what their logs say; changes nothing
    Verify(TableArgs),
}

#[derive(Debug, Args)]
struct TableArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Only this stream; may be repeated
    #[arg(long, value_name = "STREAM")]
    stream: Vec<String>,
}

impl TableArgs {
    async fn open(&self, read_only: bool) -> Result<(Config, Vec<Arc<Table>>), Failure> {
        let config = self.settings.load()?;
        let mut tables = open_tables(&config, read_only).await?;
        let unknown = self
            .stream
            .iter()
            .find(|name| !tables.iter().any(|table| is(table, name)));
        if let Some(name) = unknown {
            return Err(Failure::from(format!(
                "there is no stream `{name}` in `{}`",
                config.data_dir.display()
            )));
        }
        tables.retain(|table| self.stream.is_empty() || self.stream.iter().any(|name| is(table, name)));
        Ok((config, tables))
    }
}

fn is(table: &Table, name: &str) -> bool {
    table.declaration().name.as_str() == name
}

pub(crate) async fn run(arguments: LakeArgs) -> Outcome {
    match arguments.work {
        Work::Compact(tables) => compact(&tables).await,
        Work::Vacuum(tables) => vacuum(&tables).await,
        Work::Verify(tables) => verify(&tables).await,
    }
}

async fn compact(arguments: &TableArgs) -> Outcome {
    let (config, tables) = arguments.open(false).await?;
    for table in tables {
        let report = table.compact(&config.lake.sink.compact, &config.lake.sink.writer).await?;
        println!(
            "{}: {} files became {}, {} rows",
            table.declaration().name,
            report.files_removed,
            report.files_added,
            report.rows
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn vacuum(arguments: &TableArgs) -> Outcome {
    let (_, tables) = arguments.open(false).await?;
    for table in tables {
        let report = table.vacuum().await?;
        println!(
            "{}: {} files with {} bytes and {} log entries deleted",
            table.declaration().name,
            report.files_deleted,
            report.bytes_deleted,
            report.log_files_deleted
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(arguments: &TableArgs) -> Outcome {
    let (_, tables) = arguments.open(true).await?;
    let mut problems = 0;
    for table in tables {
        let report = table.verify().await?;
        println!(
            "{}: version {}, {} files, {} rows, {} problems",
            table.declaration().name,
            report.version,
            report.files,
            report.rows,
            report.problems.len()
        );
        for problem in &report.problems {
            println!("  {problem}");
        }
        problems += report.problems.len();
    }
    if problems == 0 {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::with_exit(FAILED, format!("{problems} problems found")))
    }
}
