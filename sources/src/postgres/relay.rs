//! Rows that wait → events in the journal → rows that are marked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::connection::{Connection, Server};
use super::options::OutboxOptions;
use super::plan::Plan;
use super::responses::Responses;
use crate::inlet::{Inlet, Portion};
use crate::progress::{Backlog, Shared};
use crate::schedule::Turns;
use crate::{Part, SourceError};

/// Most rows that are left out because the table does not let them be marked. Beyond it nothing is relayed any more, until
/// somebody has looked and restarted.
const STUCK_MAX: usize = 10_000;

/// Longest reason of a refusal that a row gets, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Brings the rows of one table into one stream.
pub(crate) struct Relay {
    inlet: Arc<Inlet>,
    server: Server,
    options: OutboxOptions,
    turns: Turns,
    /// Ids of rows that cannot be marked; they would come first in every batch.
    stuck: BTreeSet<String>,
}

/// A row that waits, and is locked.
struct Waiting {
    id: String,
    event: String,
}

impl Relay {
    pub(crate) fn new(inlet: Arc<Inlet>, options: OutboxOptions) -> Result<Self, SourceError> {
        let server =
            Server::parse(&options.url).map_err(|error| SourceError::Config(format!("`url` {error}")))?;
        let turns = Turns::new(options.schedule.clone());
        Ok(Self {
            inlet,
            server,
            options,
            turns,
            stuck: BTreeSet::new(),
        })
    }

    /// What brings answers into the same table, if that is wanted.
    pub(crate) fn responses(&self) -> Result<Option<Responses>, SourceError> {
        let (inlet, server) = (Arc::clone(&self.inlet), self.server.clone());
        let responses = self.options.responses.clone();
        responses
            .map(|responses| Responses::new(inlet, server, self.options.clone(), responses))
            .transpose()
    }

    async fn relay(&mut self, shared: &Shared, stopping: &watch::Receiver<bool>) -> Result<(), SourceError> {
        let connection = Connection::open(&self.server).await?;
        let plan = Plan::make(&connection, &self.options, self.inlet.stream()).await?;
        shared.waits(backlog(&connection, &plan).await?);
        shared.works();
        let mut told = stopping.clone();
        loop {
            tokio::select! {
                biased;
                _ = told.wait_for(|stop| *stop) => return Ok(()),
                () = self.turns.next() => {}
            }
            // As long as batches are full there is more, and nobody waits for the next turn.
            while !*stopping.borrow() {
                let picked = self.batch(&connection, &plan, shared).await?;
                if picked < u64::from(self.options.batch) {
                    break;
                }
            }
            shared.waits(backlog(&connection, &plan).await?);
            shared.works();
        }
    }

    /// Brings the next rows into the journal. Gives how many there were.
    async fn batch(
        &mut self,
        connection: &Connection,
        plan: &Plan,
        shared: &Shared,
    ) -> Result<u64, SourceError> {
        let begun = Instant::now();
        connection.run("begin", "BEGIN").await?;
        let waiting = self.pick(connection, plan).await?;
        if waiting.is_empty() {
            connection.run("end", "ROLLBACK").await?;
            return Ok(0);
        }
        let mut portion = self.decode(&waiting);
        let stuck = self.mark(connection, plan, &waiting, &portion).await?;
        if !stuck.is_empty() {
            let movable: Vec<_> = waiting.iter().filter(|row| !stuck.contains(&row.id)).collect();
            portion = self.inlet.decode(movable.iter().map(|row| row.event.as_bytes()));
        }
        let (accepted, refused) = (portion.accepted as u64, portion.rejects.len() as u64);
        self.inlet.append(portion).await?;
        connection.run("commit", "COMMIT").await?;
        shared.took(accepted, refused);
        metrics::histogram!("tidemill_source_batch_seconds", "source" => self.inlet.source().to_owned())
            .record(begun.elapsed());
        if refused > 0 {
            tracing::warn!(
                source = self.inlet.source(),
                stream = self.inlet.stream().name.as_str(),
                refused,
                "rows are no events of the stream; `_rejects` has them with the reasons"
            );
        }
        self.set_aside(stuck)?;
        Ok(waiting.len() as u64)
    }

    fn decode(&self, waiting: &[Waiting]) -> Portion {
        self.inlet.decode(waiting.iter().map(|row| row.event.as_bytes()))
    }

    async fn pick(&self, connection: &Connection, plan: &Plan) -> Result<Vec<Waiting>, SourceError> {
        let stuck: Vec<&str> = self.stuck.iter().map(String::as_str).collect();
        let most = i64::from(self.options.batch);
        let rows = connection
            .query("read rows that wait", &plan.pick, &[&most, &stuck])
            .await?;
        let waiting = rows.iter().map(|row| Waiting {
            id: row.get(0),
            event: row.get(1),
        });
        Ok(waiting.collect())
    }

    /// Marks the rows of a portion. Gives the ids of those that the table does not let be marked: a constraint or a
    /// trigger refuses, which is found out by halving.
    async fn mark(
        &self,
        connection: &Connection,
        plan: &Plan,
        waiting: &[Waiting],
        portion: &Portion,
    ) -> Result<BTreeSet<String>, SourceError> {
        let reasons = portion.rejects.iter().map(|(at, reject)| {
            let field = reject.field.as_deref().unwrap_or("");
            let colon = if field.is_empty() { "" } else { ": " };
            let reason = format!("{} {field}{colon}{}", reject.code.as_str(), reject.message);
            // No text of PostgreSQL can have U+0000.
            let reason = reason.replace('\0', "\u{fffd}");
            (*at, reason.chars().take(REASON_CHARS_MAX).collect::<String>())
        });
        let reasons: std::collections::BTreeMap<_, _> = reasons.collect();
        let mut marks: Vec<Mark<'_>> = Vec::with_capacity(waiting.len());
        for (at, row) in waiting.iter().enumerate() {
            marks.push(Mark {
                id: &row.id,
                refused: reasons.get(&at).map(String::as_str),
            });
        }
        let mut stuck = BTreeSet::new();
        let mut parts = vec![&marks[..]];
        while let Some(part) = parts.pop() {
            connection.run("mark rows", "SAVEPOINT part").await?;
            match mark_part(connection, plan, part).await {
                Ok(()) => connection.run("mark rows", "RELEASE SAVEPOINT part").await?,
                Err(error @ SourceError::Row { .. }) => {
                    connection.run("mark rows", "ROLLBACK TO SAVEPOINT part").await?;
                    if let [one] = part {
                        tracing::error!(
                            source = self.inlet.source(),
                            table = self.options.table,
                            id = one.id,
                            error = error.chain(),
                            "a row cannot be marked; it is left where it is, and the others go on"
                        );
                        stuck.insert(one.id.to_owned());
                    } else {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(stuck)
    }

    fn set_aside(&mut self, stuck: BTreeSet<String>) -> Result<(), SourceError> {
        if stuck.is_empty() {
            return Ok(());
        }
        self.stuck.extend(stuck);
        #[expect(clippy::cast_precision_loss, reason = "it is bounded")]
        metrics::gauge!("tidemill_source_stuck_rows", "source" => self.inlet.source().to_owned())
            .set(self.stuck.len() as f64);
        if self.stuck.len() > STUCK_MAX {
            return Err(SourceError::Config(format!(
                "{} rows of table `{}` cannot be marked, the limit is {STUCK_MAX}",
                self.stuck.len(),
                self.options.table
            )));
        }
        Ok(())
    }
}

/// What a row is to be marked with.
struct Mark<'a> {
    id: &'a str,
    /// The reason, when it is no event.
    refused: Option<&'a str>,
}

async fn mark_part(connection: &Connection, plan: &Plan, part: &[Mark<'_>]) -> Result<(), SourceError> {
    const OPERATION: &str = "mark rows";
    let sent: Vec<&str> = part
        .iter()
        .filter(|mark| mark.refused.is_none())
        .map(|mark| mark.id)
        .collect();
    let refused = part.iter().filter_map(|mark| Some((mark.id, mark.refused?)));
    let (refused, reasons): (Vec<&str>, Vec<&str>) = refused.unzip();
    let mut marked = 0;
    if !sent.is_empty() {
        marked += connection.execute(OPERATION, &plan.mark_sent, &[&sent]).await?;
    }
    if !refused.is_empty() {
        marked += connection
            .execute(OPERATION, &plan.mark_refused, &[&refused, &reasons])
            .await?;
    }
    if marked == part.len() as u64 {
        return Ok(());
    }
    // They are locked, so only a trigger can do that.
    Err(SourceError::Row {
        operation: OPERATION,
        message: format!("{marked} of {} rows were marked", part.len()),
    })
}

async fn backlog(connection: &Connection, plan: &Plan) -> Result<Backlog, SourceError> {
    let rows = connection.query("count the backlog", &plan.backlog, &[]).await?;
    let row = rows.first();
    Ok(Backlog {
        rows: row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()),
        oldest_s: row.and_then(|row| row.get(1)),
    })
}

impl Part for Relay {
    fn work<'a>(
        &'a mut self,
        shared: &'a Shared,
        stopping: &'a watch::Receiver<bool>,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        self.relay(shared, stopping).boxed()
    }
}
