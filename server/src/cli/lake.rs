//! `tidemill lake compact|vacuum|verify|adopt`: work on the tables of a data directory.
//!
//! What changes tables takes the lake's lock, so it is refused while a server with the sink's role runs (that one
//! keeps its tables in shape itself). Verification reads beside a running server.

use std::process::ExitCode;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use lake::Table;

use super::failure::{FAILED, Failure};
use super::{Outcome, output, settings::SettingsArgs};
use crate::config::Config;
use crate::serve::{adopt_tables, open_tables};

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
    /// Reads every file and checks that it is what the tables' logs say; changes nothing
    Verify(TableArgs),
    /// Lets this data directory's journal go on filling tables that another journal filled
    Adopt(TableArgs),
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
        Work::Adopt(tables) => adopt(&tables).await,
    }
}

async fn compact(arguments: &TableArgs) -> Outcome {
    let (config, tables) = arguments.open(false).await?;
    let (options, writer) = (&config.lake.sink.compact, &config.lake.sink.writer);
    let (mut removed, mut added, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let progress = Progress::new(tables.len());
    for table in &tables {
        let (mut files, mut merged, mut moved) = (0, 0, 0);
        loop {
            let report = table.compact(options, writer).await?;
            if report.files_removed == 0 {
                break;
            }
            files += report.files_removed;
            merged += report.files_added;
            moved += report.rows;
            progress.say(table, &format!("{files} files became {merged}"));
        }
        progress.next(table);
        removed.push(files);
        added.push(merged);
        rows.push(moved);
    }
    progress.end();
    print(
        &tables,
        [("files_before", removed), ("files_after", added), ("rows", rows)],
    )
}

async fn vacuum(arguments: &TableArgs) -> Outcome {
    let (_, tables) = arguments.open(false).await?;
    let (mut files, mut bytes, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    let progress = Progress::new(tables.len());
    for table in &tables {
        let report = table.vacuum().await?;
        progress.next(table);
        files.push(report.files_deleted);
        bytes.push(report.bytes_deleted);
        entries.push(report.log_files_deleted);
    }
    progress.end();
    print(
        &tables,
        [
            ("files_deleted", files),
            ("bytes_deleted", bytes),
            ("log_entries_deleted", entries),
        ],
    )
}

async fn verify(arguments: &TableArgs) -> Outcome {
    let (_, tables) = arguments.open(true).await?;
    let (mut versions, mut files, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rows, mut counts, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let progress = Progress::new(tables.len());
    for table in &tables {
        progress.say(table, "reading every file");
        let report = table.verify().await?;
        progress.next(table);
        versions.push(report.version);
        files.push(report.files);
        bytes.push(report.bytes);
        rows.push(report.rows);
        counts.push(report.problems.len() as u64);
        let name = &table.declaration().name;
        problems.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
    }
    progress.end();
    let columns = [
        ("version", versions),
        ("files", files),
        ("bytes", bytes),
        ("rows", rows),
        ("problems", counts),
    ];
    print(&tables, columns)?;
    for problem in &problems {
        output::print(format_args!("{problem}\n"))?;
    }
    if problems.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        let message = format!("{} problems found", problems.len());
        Err(Failure::with_exit(FAILED, message))
    }
}

async fn adopt(arguments: &TableArgs) -> Outcome {
    let config = arguments.settings.load()?;
    let adopted = adopt_tables(&config, &arguments.stream).await?;
    for stream in &adopted {
        output::print(format_args!(
            "{stream}: is filled from this data directory's journal from now on\n"
        ))?;
    }
    if adopted.is_empty() {
        let message = format!("there is no such stream in `{}`", config.data_dir.display());
        return Err(Failure::from(message));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bar over tables on a terminal, a line for each otherwise.
struct Progress(ProgressBar);

impl Progress {
    fn new(tables: usize) -> Self {
        let bar = ProgressBar::new(tables as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} tables {msg} {elapsed}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn say(&self, table: &Table, what: &str) {
        let message = format!("{}: {what}", table.declaration().name);
        if self.0.is_hidden() {
            eprintln!("{message}");
        }
        self.0.set_message(message);
    }

    fn next(&self, table: &Table) {
        self.0.inc(1);
        self.0.set_message(table.declaration().name.to_string());
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Prints a table with a line for each of ours.
fn print<const N: usize>(tables: &[Arc<Table>], columns: [(&str, Vec<u64>); N]) -> Outcome {
    let names = tables
        .iter()
        .map(|table| Some(table.declaration().name.as_str().to_owned()));
    let names: ArrayRef = Arc::new(StringArray::from_iter(names));
    let columns = columns.map(|(name, values)| (name, Arc::new(UInt64Array::from(values)) as ArrayRef));
    let rows = RecordBatch::try_from_iter([("stream", names)].into_iter().chain(columns))?;
    let shown = arrow_cast::pretty::pretty_format_batches(&[rows])?;
    output::print(format_args!("{shown}\n"))
}
