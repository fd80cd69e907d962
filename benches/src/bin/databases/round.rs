//! One round: the sink brings the whole journal into a new table, and the database's own client loads the same rows
//! into another one. Which of them goes first changes from round to round, since each leaves the server work.

use std::path::Path;
use std::time::{Duration, Instant};

use benches::Anything;
use benches::process::Process;
use benches::processors::{self, Used};
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::client::Client;

const STREAM: &str = "running";

/// How often the server is asked whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Longer than anything that is measured here should ever take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The same in every start: nothing is removed from the journal, and no compaction beside what is measured.
pub(super) const CONFIG: &str = "journal.retain = \"1h\"\nlake.compact.every = \"0s\"\n";

/// What one round took.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    /// From when the server listened until every row was committed.
    pub(super) sink_s: f64,
    /// Processor time meanwhile.
    pub(super) used: Used,
    /// From the start of the client to its end.
    pub(super) client_s: f64,
    /// Processor time of the client.
    pub(super) client_processor_s: f64,
}

impl Round {
    /// The sink's speed as a share of the client's.
    pub(super) fn ratio(&self) -> f64 {
        self.client_s / self.sink_s
    }
}

/// The rounds against one database, in a directory with a filled journal.
pub(super) struct Rounds<'a> {
    client: &'a Client,
    directory: &'a Path,
    /// Begins the names of all tables; nobody else's begin so.
    prefix: String,
    /// An empty table as the sink makes it.
    template: String,
    /// What a full table has.
    contents: String,
}

impl<'a> Rounds<'a> {
    /// Fills a table that is not measured, and writes down its rows for the client.
    pub(super) async fn prepare(
        client: &'a Client,
        directory: &'a Path,
        prefix: String,
        events: u64,
    ) -> Result<Self, Anything> {
        let mut rounds = Self {
            client,
            directory,
            template: format!("{prefix}template"),
            prefix,
            contents: String::new(),
        };
        let first = format!("{}0_", rounds.prefix);
        let table = format!("{first}{STREAM}");
        rounds.fill(&first).await?;
        let dumped = client
            .dump(&table, directory)
            .and_then(|()| client.create_like(&rounds.template, &table, directory))
            .and_then(|()| client.contents(&table, directory));
        client.forget(&first, &[&table], directory)?;
        rounds.contents = dumped?;
        if !rounds.contents.starts_with(&format!("{events} rows")) {
            return Err(format!("{events} events became {}", rounds.contents).into());
        }
        Ok(rounds)
    }

    /// Measures once.
    pub(super) async fn measure(&self, number: u32) -> Result<Round, Anything> {
        let (sink_s, used, client_s, client_processor_s);
        if number.is_multiple_of(2) {
            (client_s, client_processor_s) = self.clients_turn(number)?;
            (sink_s, used) = self.sinks_turn(number).await?;
        } else {
            (sink_s, used) = self.sinks_turn(number).await?;
            (client_s, client_processor_s) = self.clients_turn(number)?;
        }
        Ok(Round {
            sink_s,
            used,
            client_s,
            client_processor_s,
        })
    }

    /// Removes what is left.
    pub(super) fn end(self) -> Result<(), Anything> {
        self.client
            .forget(&self.prefix, &[&self.template], self.directory)
    }

    async fn sinks_turn(&self, number: u32) -> Result<(f64, Used), Anything> {
        let prefix = format!("{}{number}_", self.prefix);
        let table = format!("{prefix}{STREAM}");
        let filled = self.fill(&prefix).await;
        let checked = self.check(&table);
        self.client.forget(&prefix, &[&table], self.directory)?;
        filled.and_then(|filled| checked.map(|()| filled))
    }

    fn clients_turn(&self, number: u32) -> Result<(f64, f64), Anything> {
        let prefix = format!("{}{number}_", self.prefix);
        let table = format!("{prefix}client");
        self.client.create_like(&table, &self.template, self.directory)?;
        let (begun, before) = (Instant::now(), processors::of_children()?);
        let loaded = self.client.load(&table, self.directory);
        let (taken, after) = (begun.elapsed(), processors::of_children()?);
        let checked = self.check(&table);
        self.client.forget(&prefix, &[&table], self.directory)?;
        loaded.and(checked)?;
        Ok((taken.as_secs_f64(), after - before))
    }

    /// Starts the server with a destination of its own and stops it when all of the journal is there. Gives the
    /// seconds from when it listened, which is when its sinks begin.
    async fn fill(&self, prefix: &str) -> Result<(f64, Used), Anything> {
        let config = format!("{CONFIG}{}", self.client.destination(prefix));
        let server = Process::start(self.directory, &config)?;
        let (begun, before) = (Instant::now(), server.processors()?);
        while !is_filled(&server.readiness().await?)? {
            if begun.elapsed() > PATIENCE {
                return Err("the destination does not get all rows".into());
            }
            sleep(LOOK_EVERY).await;
        }
        let (taken, after) = (begun.elapsed(), server.processors()?);
        server.stop()?;
        Ok((taken.as_secs_f64(), before.until(&after)))
    }

    /// Whether a table has all rows, and as they should be.
    fn check(&self, table: &str) -> Result<(), Anything> {
        let found = self.client.contents(table, self.directory)?;
        if found != self.contents {
            return Err(format!("`{table}` has {found}; expected {}", self.contents).into());
        }
        Ok(())
    }
}

/// Whether the destination has all of the journal.
fn is_filled(ready: &Value) -> Result<bool, Anything> {
    let progress = ready["destinations"]["measured"].as_array();
    let progress = progress.ok_or("readiness does not tell how far the destination is")?;
    for one in progress {
        for trouble in ["failing", "stopped"] {
            if let Some(reason) = one[trouble].as_str() {
                return Err(format!("the destination is {trouble}: {reason}").into());
            }
        }
    }
    let done = |one: &Value| {
        one["lag_records"] == 0 && one["read"] == one["committed"] && one["read"].as_u64() > Some(0)
    };
    Ok(!progress.is_empty() && progress.iter().all(done))
}
