//! `tidemill infer`: prints a declaration for a sample of events, to begin with.

use std::path::{Path, PathBuf};

use clap::Args;
use event::StreamName;
use event::stream::infer::Sample;

use super::failure::{Failure, USAGE};
use super::{Outcome, output};
use crate::load::replay::{Chunks, Source};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    /// NDJSON; `.gz` and `.zst` are inflated, `-` is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The stream's name [default: the file's, up to the first dot]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Look at the first N events only
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: u64,
}

pub(crate) fn run(arguments: &InferArgs) -> Outcome {
    let name = match &arguments.stream {
        Some(name) => name.clone(),
        None => name_of(&arguments.file),
    };
    let name = StreamName::parse(&name)
        .map_err(|error| Failure::with_exit(USAGE, format!("{error}; say one with --stream")))?;
    let (sample, skipped) = read(&arguments.file, arguments.events)?;
    if sample.events() == 0 {
        return Err(Failure::from(format!(
            "`{}` has no JSON objects, one a line",
            arguments.file.display()
        )));
    }
    if skipped > 0 {
        eprintln!("{skipped} lines are no JSON objects and were passed over");
    }
    output::print(sample.declaration(name).to_toml())
}

/// The sample, and how many lines are not part of it.
fn read(file: &Path, events_max: u64) -> Result<(Sample, u64), Failure> {
    let mut chunks = Chunks::open(&Source::Files(vec![file.to_owned()]), false)?;
    let (mut sample, mut skipped) = (Sample::new(), 0);
    loop {
        let chunk = chunks.next(&[], CHUNK_BYTES)?;
        for line in chunk.bytes.split(|byte| *byte == b'\n') {
            if sample.events() == events_max {
                return Ok((sample, skipped));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(event) => sample.add(&event),
                Err(_) => skipped += 1,
            }
        }
        if chunk.last {
            return Ok((sample, skipped));
        }
    }
}

/// A stream's name for a file's: `Online-Retail.ndjson.gz` is `online_retail`.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    if stem.is_empty() || stem == "-" {
        return "events".to_owned();
    }
    let allowed = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    stem.chars().map(allowed).collect()
}
