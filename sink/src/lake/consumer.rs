//! One stream's loop: read what is durable, write it into the open file, roll, commit, try again.
//!
//! The position is read from the table at every (re)start and nowhere else (I-2). Whatever fails between two
//! commits, the open file is dropped and its records are read again; a commit of unknown outcome needs no care
//! here either, because the next start asks the table where it stands.
//!
//! The same is true of the ids of a stream with `unique`: what is known is read from the table's own rows at every
//! (re)start, travels in the open file and comes back when that is committed; so it is always what the stored position
//! and the rows before it say ([`event::unique`]).

use std::sync::Arc;
use std::time::Duration;

use event::unique::Seen;
use event::{Partition, Position, RecordFormat, StreamName};
use futures::FutureExt;
use futures::future::BoxFuture;
use journal::{Journal, JournalReader, Record};
use lake::Table;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::LakeSinkOptions;
use super::budget::Held;
use super::open_file::{self, Begin, OpenFile};
use super::rejects::RejectsTable;
use super::threads::Pace;
use crate::SinkError;
use crate::attempt::Consume;
use crate::backoff::Backoff;
use crate::group::{Member, Phase};
use crate::progress::{Shared, count_duplicates, end_of};

/// How long records gather before the next look at the journal, when the last one brought less than half a read. A
/// look for every group of the journal, thousands a second, costs more than what it brings; questions see the tail
/// meanwhile, so nobody waits for the sink. What one look brings keeps a processor busy, so it shall not be much either.
const GATHER: Duration = Duration::from_millis(5);

/// What the lake is called as a destination among others.
const DESTINATION: &str = "lake";

/// Brings one partition of one stream into its table.
pub(super) struct Consumer {
    pub(super) partition: Partition,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) table: Arc<Table>,
    /// The table of `_rejects`.
    pub(super) rejects: Option<Arc<Table>>,
    /// How far that is with this partition, if other programs may fill it; found out at every (re)start.
    pub(super) covered: Option<RejectsTable>,
    /// What is known of a stream with unique ids, between two files; found out at every (re)start.
    pub(super) seen: Option<Seen>,
    pub(super) options: Arc<LakeSinkOptions>,
    /// Where its work runs. It is behind when the last look at the journal brought at least half of what one look may.
    pub(super) pace: Pace,
    /// What it holds of the tail budget.
    pub(super) held: Held,
    pub(super) progress: Arc<Shared>,
    /// What this task is told.
    pub(super) phase: watch::Receiver<Phase>,
    /// This process in the group.
    pub(super) member: Member,
}

/// Why a consumer woke up.
enum Wake {
    Records(Vec<Record>),
    Roll(&'static str),
    Release,
    Stop,
}

impl Consume for Consumer {
    fn consume<'a>(&'a mut self, backoff: &'a mut Backoff) -> BoxFuture<'a, Result<(), SinkError>> {
        let going = async move {
            let ended = self.go_on(backoff).await;
            // The open file is gone; what was in it and is not committed is still in the journal.
            self.held.set(0);
            ended
        };
        going.boxed()
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
        let stream = self.stream().as_str();
        metrics::counter!("tidemill_sink_retries_total", "stream" => stream.to_owned()).increment(1);
        let wait_ms = wait.as_millis();
        tracing::warn!(
            stream,
            tries,
            wait_ms,
            error = chain,
            "lake sink failed, tries again"
        );
    }

    fn stopped(&self, reason: &str) {
        let stream = self.stream().as_str();
        metrics::counter!("tidemill_sink_stops_total", "stream" => stream.to_owned()).increment(1);
        metrics::gauge!("tidemill_sink_stopped", "stream" => stream.to_owned()).set(1.0);
        tracing::error!(
            stream, partition = %self.partition, reason,
            "the lake sink of this stream stopped; it never jumps, so somebody must look"
        );
    }
}

impl Consumer {
    /// Reads from the stored position on. Returns `Ok` when it was told to stop and all is committed.
    async fn go_on(&mut self, backoff: &mut Backoff) -> Result<(), SinkError> {
        let snapshot = self.table.snapshot().await?;
        let stored = snapshot.position(self.partition);
        let from = Position::new(self.partition, stored.offset);
        self.covered = self.find_rejects().await?;
        self.seen = self.table.seen(&snapshot, from).await?;
        drop(snapshot);
        let mut reader = self.journal.reader(self.stream(), from).await?;
        self.progress.committed(from.offset);
        if end_of(&*self.journal, self.stream(), self.partition).await? == from.offset {
            // Nothing waits, so nothing fails any more.
            self.progress.update(|progress| progress.failing = None);
        }
        // The journal may not know yet what the table has, after a crash between commit and `retain`.
        self.retain(from).await;
        self.member.committed(self.stream(), from);
        let mut file = None;
        let mut next_look = Instant::now();
        loop {
            match self.wake(reader.as_mut(), file.as_ref(), next_look).await? {
                Wake::Records(records) => {
                    let read: usize = records.iter().map(Record::bytes).sum();
                    // Some readers stop before a record that would be too much, so most of a read is a whole one.
                    let behind = read >= self.options.read_bytes / 2;
                    self.pace.set_behind(behind);
                    if !behind {
                        next_look = Instant::now() + GATHER;
                    }
                    file = self.take(file, records, backoff).await?;
                }
                Wake::Roll(reason) => file = self.roll(file, reason, backoff).await?,
                Wake::Release => {
                    self.pace.set_behind(true);
                    self.roll(file, "released", backoff).await?;
                    return Ok(());
                }
                Wake::Stop => return self.drain(reader.as_mut(), file, backoff).await,
            }
        }
    }

    /// Where rejects of this partition go, if there can be any.
    async fn find_rejects(&self) -> Result<Option<RejectsTable>, SinkError> {
        match (&self.rejects, self.table.declaration().format) {
            (Some(table), RecordFormat::Json) => {
                let found = RejectsTable::open(table, &self.table, self.partition).await?;
                Ok(Some(found))
            }
            (None, RecordFormat::Json) | (_, RecordFormat::Record) => Ok(None),
        }
    }

    /// Waits for whatever is next to do. A stop goes first, then rolls: records could come for ever.
    async fn wake(
        &mut self,
        reader: &mut dyn JournalReader,
        file: Option<&OpenFile>,
        next_look: Instant,
    ) -> Result<Wake, SinkError> {
        let due = file.map(|file| file.begun + self.options.roll_every);
        let aged = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let read_bytes = self.options.read_bytes;
        let gathered = async {
            sleep_until(next_look).await;
            reader.next(read_bytes).await
        };
        tokio::select! {
            biased;
            told = self.phase.wait_for(|phase| *phase != Phase::Running) => match told.as_deref() {
                Ok(Phase::Stopping) => Ok(Wake::Stop),
                // Whoever starts the tasks is gone: what is open is another one's soon.
                Ok(_) | Err(_) => Ok(Wake::Release),
            },
            () = aged => Ok(Wake::Roll("age")),
            () = self.held.asked_to_roll() => Ok(Wake::Roll("tail_budget")),
            records = gathered => Ok(Wake::Records(records?)),
        }
    }

    /// Writes records into the open file, and rolls it when it is full.
    async fn take(
        &mut self,
        file: Option<OpenFile>,
        records: Vec<Record>,
        backoff: &mut Backoff,
    ) -> Result<Option<OpenFile>, SinkError> {
        let begin = Begin {
            table: &self.table,
            rejects: self.covered.as_ref(),
            options: &self.options.writer,
        };
        let file = open_file::write_records(&mut self.pace, begin, &mut self.seen, file, records).await?;
        let Some(open) = &file else {
            return Ok(None);
        };
        self.held.set(open.record_bytes);
        self.progress.update(|progress| {
            progress.read = open.end();
            progress.rows_open = open.rows();
        });
        if open.is_full(self.options.roll_bytes) {
            return self.roll(file, "size", backoff).await;
        }
        Ok(file)
    }

    /// Commits the rejects, then finishes the open file and commits it together with its position (I-2).
    async fn roll(
        &mut self,
        file: Option<OpenFile>,
        reason: &'static str,
        backoff: &mut Backoff,
    ) -> Result<Option<OpenFile>, SinkError> {
        let Some(mut file) = file else {
            return Ok(None);
        };
        let begun = Instant::now();
        let (rows, duplicates) = (file.rows(), file.duplicates());
        let seen = file.take_seen();
        if let Some(rejects) = file.take_rejects() {
            self.covered = Some(rejects.commit(file.end()).await?);
        }
        let closed = open_file::finish(&mut self.pace, file).await?;
        let end = closed.advance.to;
        let bytes = closed.file.as_ref().map_or(0, |file| file.bytes);
        let files = closed.file.into_iter().collect();
        self.table.commit(files, &[closed.advance]).await?;
        self.seen = seen;
        backoff.reset();
        self.progress.committed(end);
        self.progress.update(|progress| {
            progress.failing = None;
            progress.duplicates += duplicates;
        });
        self.held.set(0);
        self.retain(Position::new(self.partition, end)).await;
        self.member
            .committed(self.stream(), Position::new(self.partition, end));

        let took = begun.elapsed();
        let stream = self.stream().as_str().to_owned();
        metrics::counter!("tidemill_sink_commits_total", "stream" => stream.clone(), "reason" => reason)
            .increment(1);
        metrics::counter!("tidemill_sink_rows_total", "stream" => stream.clone()).increment(rows);
        self.measure_ids(duplicates);
        metrics::counter!("tidemill_sink_file_bytes_total", "stream" => stream.clone()).increment(bytes);
        metrics::histogram!("tidemill_sink_commit_seconds").record(took);
        tracing::debug!(
            stream,
            rows,
            bytes,
            reason,
            took_ms = took.as_millis(),
            "committed a file"
        );
        Ok(None)
    }

    /// Reads what the journal still has, for a bounded time, and commits it: after an ordered shutdown the lake
    /// is complete by itself. What is left after that time waits in the journal.
    async fn drain(
        &mut self,
        reader: &mut dyn JournalReader,
        mut file: Option<OpenFile>,
        backoff: &mut Backoff,
    ) -> Result<(), SinkError> {
        self.pace.set_behind(true);
        let deadline = Instant::now() + self.options.drain;
        let end = end_of(self.journal.as_ref(), self.stream(), self.partition).await?;
        while reader.position().offset < end {
            let Ok(records) = timeout_at(deadline, reader.next(self.options.read_bytes)).await else {
                let left = end.0.saturating_sub(reader.position().offset.0);
                tracing::warn!(
                    stream = self.stream().as_str(),
                    records = left,
                    "records stay in the journal"
                );
                break;
            };
            file = self.take(file, records?, backoff).await?;
        }
        self.roll(file, "shutdown", backoff).await?;
        Ok(())
    }

    /// What a stream with unique ids left out, and what it holds to find that out.
    fn measure_ids(&self, duplicates: u64) {
        let Some(seen) = &self.seen else { return };
        let stream = self.stream().as_str();
        count_duplicates(stream, DESTINATION, duplicates);
        let labels = [
            ("stream", stream.to_owned()),
            ("partition", self.partition.to_string()),
        ];
        #[expect(
            clippy::cast_precision_loss,
            reason = "gauges are doubles; 2^53 ids are exact"
        )]
        metrics::gauge!("tidemill_unique_ids", &labels).set(seen.len() as f64);
    }

    fn stream(&self) -> &StreamName {
        &self.table.declaration().name
    }

    /// Lets the journal remove what the table has. A failure only keeps segments for longer.
    async fn retain(&self, stored: Position) {
        if let Err(error) = self.journal.retain(self.stream(), &[stored]).await {
            let stream = self.stream().as_str();
            tracing::warn!(stream, %error, "the journal could not remove what is stored");
        }
    }
}
