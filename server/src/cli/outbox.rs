//! `tidemill generate … --into postgres`: events as an application would write them, into the table that a relay reads.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use event::{FieldType, StreamDeclaration};
use serde_json::Value;
use sources::outbox::{OutboxWriter, table_sql};

use super::Outcome;
use super::failure::{Failure, USAGE};
use super::output;
use crate::config::outbox_url_of_environment;
use crate::load::generate::Generator;

/// How many events there are when no number is given.
pub(super) const EVENTS_DEFAULT: u64 = 10;

/// Where generated events go instead of the standard output.
#[derive(Debug, Args)]
pub(crate) struct IntoArgs {
    /// Write the events into an outbox table, each in a transaction of its own, and print each one when it is there
    #[arg(long, value_name = "KIND")]
    pub(super) into: Option<Kind>,
    /// The database [default: made of POSTGRES_USER, _PASSWORD, _HOST, _PORT and _DB, or POSTGRES_URL]
    #[arg(long, value_name = "URL", requires = "into")]
    url: Option<String>,
    /// A file with the URL of the database
    #[arg(long, value_name = "FILE", requires = "into", conflicts_with = "url")]
    url_file: Option<std::path::PathBuf>,
    /// The table
    #[arg(long, value_name = "NAME", default_value = "events", requires = "into")]
    table: String,
    /// Make the table first when it is missing
    #[arg(long, requires = "into")]
    create: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    Postgres,
}

impl IntoArgs {
    /// Writes `count` events of a generator.
    pub(super) async fn fill(&self, mut generator: Generator, count: u64) -> Outcome {
        let stream = declaration(generator.starter().name())?;
        let writer = OutboxWriter::open(&self.database()?, &self.table).await?;
        if self.create {
            writer
                .create(&table_sql(&self.table, &stream, id_of(&stream)))
                .await?;
        }
        let mut line = Vec::new();
        for _ in 0..count {
            line.clear();
            generator.write_event(&mut line);
            let mut event: Value = serde_json::from_slice(&line)?;
            // It is made now, whenever the generator's own time is: the table says when.
            if let (Some(members), Some(time)) = (event.as_object_mut(), made_by_table(&stream)) {
                members.shift_remove(time);
            }
            writer.insert(&event).await?;
            output::print(format_args!("{event}\n"))?;
        }
        eprintln!("{count} events written into table `{}`", self.table);
        Ok(ExitCode::SUCCESS)
    }

    fn database(&self) -> Result<String, Failure> {
        if let Some(file) = &self.url_file {
            let url = std::fs::read_to_string(file)
                .map_err(|error| Failure::with_exit(USAGE, format!("read `{}`: {error}", file.display())))?;
            return Ok(url.trim_end().to_owned());
        }
        Ok(self.url.clone().unwrap_or_else(outbox_url_of_environment))
    }
}

fn declaration(name: &str) -> Result<StreamDeclaration, Failure> {
    let mut starters = StreamDeclaration::starters().into_iter();
    let found = starters.find(|stream| stream.name.as_str() == name);
    found.ok_or_else(|| Failure::with_exit(USAGE, format!("no starter stream is called `{name}`")))
}

/// The field that identifies an event; no column when there is none.
fn id_of(stream: &StreamDeclaration) -> &str {
    stream.field("event_id").map_or("", |field| &field.name)
}

/// The field whose column has the moment of the insert by itself.
fn made_by_table(stream: &StreamDeclaration) -> Option<&str> {
    let field = stream.field(stream.time.as_deref()?)?;
    matches!(field.kind, FieldType::Timestamp { unit: None }).then_some(field.name.as_str())
}
