//! `tidemill generate`: seeded events of a starter stream as NDJSON, the same bytes for the same seed.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::failure::{Failure, USAGE};
use super::outbox::{EVENTS_DEFAULT, IntoArgs};
use crate::load::generate::{EVENTS_MAX, Generator, GeneratorOptions, Starter, USERS_MAX};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// running, music, activity, tracking or detection
    #[arg(value_name = "STREAM")]
    starter: Starter,
    /// How many events [default with --into: 10]
    #[arg(value_name = "N", required_unless_present = "into")]
    count: Option<u64>,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    into: IntoArgs,
}

/// What decides the bytes, besides the stream.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ChoiceArgs {
    /// How many users or devices the generated events are about
    #[arg(long, value_name = "N", default_value_t = GeneratorOptions::default().users)]
    users: u64,
    /// Everything that is drawn follows from it [default: 1; with --into another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl ChoiceArgs {
    /// The same, checked.
    pub(crate) fn options(self) -> Result<GeneratorOptions, Failure> {
        if !(1..=USERS_MAX).contains(&self.users) {
            let message = format!("--users `{}`: write 1 to {USERS_MAX}", self.users);
            return Err(Failure::with_exit(USAGE, message));
        }
        Ok(GeneratorOptions {
            users: self.users,
            seed: self.seed.unwrap_or(GeneratorOptions::default().seed),
        })
    }
}

pub(crate) async fn run(arguments: GenerateArgs) -> Outcome {
    let mut options = arguments.choice.options()?;
    let count = arguments.count.unwrap_or(EVENTS_DEFAULT);
    if count > EVENTS_MAX {
        let message = format!("`{count}` events: at most {EVENTS_MAX} can be made");
        return Err(Failure::with_exit(USAGE, message));
    }
    if arguments.into.into.is_some() {
        // Ids follow from the seed, and the table keeps those of the last time.
        let another = || uuid::Uuid::new_v4().as_u64_pair().0;
        options.seed = arguments.choice.seed.unwrap_or_else(another);
        let generator = Generator::new(arguments.starter, options);
        return arguments.into.fill(generator, count).await;
    }
    let mut generator = Generator::new(arguments.starter, options);
    match write(&mut generator, count, &mut std::io::stdout().lock()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // `| head` has what it wants.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::from(format!("write the events: {error}"))),
    }
}

fn write(generator: &mut Generator, count: u64, out: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    for _ in 0..count {
        generator.write_event(&mut buffer);
        if buffer.len() >= BUFFER_BYTES - 4_096 {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}
