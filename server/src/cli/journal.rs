//! `tidemill journal verify|dump`: reads a journal's files, also beside a server that writes them.

use std::io::Write;

use clap::{Args, Subcommand};
use journal::embedded;

use super::{Outcome, output, settings::SettingsArgs};
use crate::serve::journal_directory;

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Reads every byte and compares every checksum; changes nothing
    Verify(SettingsArgs),
    /// Prints one line for each record
    Dump(SettingsArgs),
}

pub(crate) async fn run(arguments: JournalArgs) -> Outcome {
    // Reading takes as long as the disk needs; nothing else runs in this process.
    let done = tokio::task::spawn_blocking(move || match arguments.work {
        Work::Verify(settings) => verify(&settings),
        Work::Dump(settings) => dump(&settings),
    });
    done.await?
}

fn verify(settings: &SettingsArgs) -> Outcome {
    let verified = embedded::verify(&journal_directory(&settings.load()?))?;
    let mut text = format!(
        "{} segments, {} records, {} rows, {} bytes; every checksum is right\n",
        verified.segments, verified.records, verified.rows, verified.bytes
    );
    if verified.bytes_to_cut > 0 {
        text += &format!(
            "{} bytes at the end were never acknowledged; the next start cuts them\n",
            verified.bytes_to_cut
        );
    }
    for (stream, start, end) in &verified.streams {
        text += &format!("{stream}: offsets {start} to {end}, the end not included\n");
    }
    output::print(text)
}

fn dump(settings: &SettingsArgs) -> Outcome {
    let directory = journal_directory(&settings.load()?);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut broken = None;
    let names = "segment byte stream partition offset rows payload_bytes generation left_in_group";
    broken = broken.or(writeln!(out, "{names}").err());
    embedded::dump(&directory, |record| {
        let frame = &record.frame;
        let written = writeln!(
            out,
            "{} {} {} {} {} {} {} {} {}",
            record.segment,
            record.byte,
            frame.stream,
            frame.partition,
            frame.offset,
            record.rows,
            frame.payload_bytes,
            frame.generation,
            frame.left_in_group
        );
        broken = broken.take().or(written.err());
    })?;
    match broken {
        Some(error) => output::ended(Err(error)),
        None => output::ended(out.flush()),
    }
}
