//! `tidemill token`: makes entries of the file of tokens, and lists them.
//!
//! The token itself is printed once, to the standard output and nothing else with it, so that a script can take it.
//! What is kept is its hash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use event::StreamName;
use event::units::parse_duration;

use super::failure::{Failure, USAGE};
use super::{Outcome, output};
use crate::access::{self, Digest, Grants, Scope, Streams, Token, TokenName, Tokens, file};

/// The longest life of a token that a duration can say.
const LIFE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token: prints it once, and adds its entry to a file
    New(NewArgs),
    /// Lists the tokens of a file: their names and what they may do
    List(ListArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// Its name, which logs and metrics show
    name: String,
    /// What it may do: write events, read (REST and SQL), admin (metrics, reasons of readiness)
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    scope: Vec<ScopeWord>,
    /// With which streams [default: all]
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    streams: Vec<String>,
    /// When it ends: a time as 2027-01-01T00:00:00Z, or how long it lives, as 90d [default: never]
    #[arg(long, value_name = "TIME|DURATION")]
    expires: Option<String>,
    /// Add the entry to this file; without it the entry is printed to the error output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The file of tokens
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeWord {
    Write,
    Read,
    Admin,
}

impl ScopeWord {
    fn scope(self) -> Scope {
        match self {
            Self::Write => Scope::Write,
            Self::Read => Scope::Read,
            Self::Admin => Scope::Admin,
        }
    }
}

pub(crate) fn run(arguments: &TokenArgs) -> Outcome {
    match &arguments.command {
        TokenCommand::New(arguments) => new(arguments),
        TokenCommand::List(arguments) => list(arguments),
    }
}

fn new(arguments: &NewArgs) -> Outcome {
    let usage = |message: String| Failure::with_exit(USAGE, message);
    let name = TokenName::parse(&arguments.name).map_err(usage)?;
    let grants = arguments.grants().map_err(usage)?;
    let expires = arguments.expires.as_deref().map(end).transpose().map_err(usage)?;
    let text = access::new_token()?;
    let hash = Digest::of_token(text.as_bytes()).ok_or("a new token has not the form of one")?;
    let token = Token::new(name, hash, grants, expires);
    match &arguments.file {
        Some(path) => append(path, &token)?,
        None => eprintln!(
            "# the entry for the file that `tokens_file` names:\n{}",
            file::entry(&token)
        ),
    }
    output::print(format_args!("{text}\n"))
}

fn list(arguments: &ListArgs) -> Outcome {
    let tokens = read(&arguments.file)?;
    let mut text = String::new();
    for token in tokens.iter() {
        text.push_str(token.name.as_str());
        for scope in Scope::EVERY {
            match token.grants.of(scope) {
                Streams::No => {}
                Streams::All => text.push_str(&format!("  {scope}: all")),
                Streams::Named(names) => {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    text.push_str(&format!("  {scope}: {}", names.join(",")));
                }
            }
        }
        if let Some(expires) = token.expires {
            let over = if token.expired(SystemTime::now()) {
                "expired"
            } else {
                "expires"
            };
            text.push_str(&format!("  {over}: {}", file::written(expires)));
        }
        text.push('\n');
    }
    output::print(text)
}

impl NewArgs {
    fn grants(&self) -> Result<Grants, String> {
        let mut streams = Streams::All;
        if !self.streams.is_empty() {
            let names = self.streams.iter().map(|name| StreamName::parse(name));
            let names: Result<Vec<_>, _> = names.collect();
            let names = names.map_err(|error| format!("--streams: {error}"))?;
            streams = Streams::Named(names.iter().map(ToString::to_string).collect());
        }
        let mut grants = Grants::default();
        for word in &self.scope {
            *grants.of_mut(word.scope()) = streams.clone();
        }
        Ok(grants)
    }
}

/// A time, or how long from now on.
fn end(text: &str) -> Result<SystemTime, String> {
    if let Some(moment) = file::parse_moment(text) {
        return Ok(moment);
    }
    let life = parse_duration(text).map_err(|_| {
        format!("--expires `{text}` is no time as 2027-01-01T00:00:00Z and no duration as 90d")
    })?;
    if life.is_zero() || life > LIFE_MAX {
        return Err(format!(
            "--expires `{text}` is not between a second and 100 years"
        ));
    }
    Ok(SystemTime::now() + life)
}

/// The tokens of a file.
fn read(path: &Path) -> Result<Tokens, Failure> {
    let failed = |message: String| Failure::from(format!("tokens in `{}`: {message}", path.display()));
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(access::FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    file::parse(&text).map_err(failed)
}

/// Adds an entry to a file that is good, or begins one that only its owner can read.
fn append(path: &Path, token: &Token) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from(format!("write `{}`: {error}", path.display()));
    if path.exists() {
        let known = read(path)?;
        if known.iter().any(|known| known.name == token.name) {
            return Err(Failure::from(format!(
                "`{}` has a token `{}` already: take its entry out, or choose another name",
                path.display(),
                token.name
            )));
        }
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    // In one write, so that a server that looks now reads all of it or nothing.
    let entry = format!("\n{}", file::entry(token));
    file.write_all(entry.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)
}
