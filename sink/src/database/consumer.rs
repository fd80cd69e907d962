//! One partition of one stream into its table: ask the database where it stands, read on from there, write, try
//! again.
//!
//! The position is asked of the database at every (re)start and nowhere else (I-2). Whatever fails in between, the
//! rows in memory are dropped and read again. While a try waits for its turn no reader is open, so a database that
//! is away does not hold the journal back (I-5).

use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, Position};
use futures::FutureExt;
use futures::future::BoxFuture;
use journal::Journal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::error::DatabaseError;
use super::gather::Gatherer;
use super::mapping::TargetTable;
use super::options::DatabaseOptions;
use super::pool::Pool;
use super::rows::Rows;
use super::session::StoredPosition;
use super::transaction::{self, Written};
use crate::SinkError;
use crate::attempt::Consume;
use crate::backoff::Backoff;
use crate::group::{Member, Phase};
use crate::progress::{Shared, count_duplicates, end_of};

/// Brings one partition of one stream into its table.
pub(super) struct Consumer {
    pub(super) table: Arc<TargetTable>,
    pub(super) partition: Partition,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) pool: Arc<Pool>,
    pub(super) options: Arc<DatabaseOptions>,
    pub(super) progress: Arc<Shared>,
    /// What this task is told.
    pub(super) phase: watch::Receiver<Phase>,
    /// This process in the group.
    pub(super) member: Member,
}

impl Consume for Consumer {
    fn consume<'a>(&'a mut self, backoff: &'a mut Backoff) -> BoxFuture<'a, Result<(), SinkError>> {
        self.go_on(backoff).boxed()
    }

    fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    fn progress(&self) -> &Arc<Shared> {
        &self.progress
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.options.retry_first, self.options.retry_longest)
    }

    fn failed(&self, chain: &str, tries: u32, wait: Duration) {
        metrics::counter!("tidemill_destination_retries_total", &self.labels()).increment(1);
        tracing::warn!(
            destination = self.options.name,
            stream = self.stream(),
            partition = %self.partition,
            tries,
            wait_ms = wait.as_millis(),
            error = chain,
            "the destination failed, tries again"
        );
    }

    fn stopped(&self, reason: &str) {
        metrics::counter!("tidemill_destination_stops_total", &self.labels()).increment(1);
        tracing::error!(
            destination = self.options.name,
            stream = self.stream(),
            partition = %self.partition,
            reason,
            "this stream's way into the destination stopped; somebody must look"
        );
    }
}

impl Consumer {
    /// Goes on from the stored position. Returns `Ok` when it was told to stop and all is written.
    async fn go_on(&mut self, backoff: &mut Backoff) -> Result<(), SinkError> {
        let journal = self.journal.stream_id(&self.table.stream.name).to_string();
        let from = self.stored(&journal).await?;
        self.progress.committed(from);
        if end_of(self.journal.as_ref(), &self.table.stream.name, self.partition).await? == from {
            // Nothing waits, so nothing fails any more.
            self.progress.update(|progress| progress.failing = None);
        }
        let gatherer = Gatherer {
            stream: Arc::clone(&self.table.stream),
            partition: self.partition,
            journal: Arc::clone(&self.journal),
            options: Arc::clone(&self.options),
            progress: Arc::clone(&self.progress),
            phase: self.phase.clone(),
        };
        let (out, rows) = mpsc::channel(1);
        let (gathered, written) = (gatherer.run(from, out), self.write_all(rows, &journal, backoff));
        futures::future::try_join(gathered, written)
            .await
            .map(|((), ())| ())
    }

    /// Prepares the table and asks where it stands.
    async fn stored(&self, journal: &str) -> Result<Offset, DatabaseError> {
        let mut lease = self.pool.take().await?;
        let asked = async {
            lease.session.prepare(&self.table).await?;
            lease.session.position(&self.table, self.partition, journal).await
        };
        let limit = self.options.transaction_timeout;
        let StoredPosition {
            journal: stored,
            offset,
        } = timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(late("prepare the table", limit)))?;
        lease.give_back();
        if stored != journal {
            return Err(DatabaseError::OtherJournal {
                table: self.table.name.clone(),
                offset,
                stored,
                journal: journal.to_owned(),
            });
        }
        Ok(offset)
    }

    async fn write_all(
        &self,
        mut waiting: mpsc::Receiver<Arc<Rows>>,
        journal: &str,
        backoff: &mut Backoff,
    ) -> Result<(), SinkError> {
        let mut repeated = false;
        while let Some(rows) = waiting.recv().await {
            let begun = Instant::now();
            let mut lease = self.pool.take().await?;
            let limit = self.options.transaction_timeout;
            let writing =
                transaction::write_knowing(lease.session.as_mut(), &self.table, &rows, journal, repeated);
            let written = timeout(limit, writing)
                .await
                .unwrap_or_else(|_| Err(late("write a transaction", limit)))?;
            lease.give_back();
            repeated = written.repeated;
            backoff.reset();
            let position = Position::new(self.partition, rows.to());
            self.member.committed(&self.table.stream.name, position);
            self.progress.update(|progress| {
                progress.committed = rows.to();
                progress.failing = None;
                progress.duplicates += written.duplicates;
                if progress.read == rows.to() {
                    progress.rows_open = 0;
                }
            });
            self.count(written, begun);
        }
        Ok(())
    }

    fn count(&self, written: Written, begun: Instant) {
        let Written {
            inserted,
            refused,
            duplicates,
            repeated: _,
        } = written;
        let labels = self.labels();
        metrics::counter!("tidemill_destination_commits_total", &labels).increment(1);
        metrics::counter!("tidemill_destination_rows_total", &labels).increment(inserted);
        metrics::counter!("tidemill_destination_refused_total", &labels).increment(refused);
        if self.table.unique.is_some() {
            count_duplicates(self.stream(), &self.options.name, duplicates);
        }
        metrics::histogram!("tidemill_destination_commit_seconds", "destination" => self.options.name.clone())
            .record(begun.elapsed());
        if refused > 0 {
            tracing::warn!(
                destination = self.options.name,
                stream = self.stream(),
                partition = %self.partition,
                table = self.table.name,
                refused,
                inserted,
                "the database refused rows; they are in `tidemill_refused`"
            );
        }
    }

    fn stream(&self) -> &str {
        self.table.stream.name.as_str()
    }

    fn labels(&self) -> [(&'static str, String); 2] {
        [
            ("destination", self.options.name.clone()),
            ("stream", self.stream().to_owned()),
        ]
    }
}

fn late(operation: &'static str, waited: Duration) -> DatabaseError {
    DatabaseError::Timeout {
        operation,
        waited_ms: waited.as_millis(),
    }
}
