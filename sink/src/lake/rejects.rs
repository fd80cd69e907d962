//! What another program's messages were when they are no events: rows of `_rejects`, once each.
//!
//! Only a stream with `format = "json"` has such messages. Their rows wait in a file of the table of `_rejects` beside
//! the stream's own open file, and a roll commits them first, under a txn of their own ([`lake::Source`]), and then the
//! stream's file and position. After a crash in between the range is read again, and what the txn covers is left out;
//! so each one is there once, like an event (I-2). A query finds them after the roll, not in the tail.
//!
//! Such a stream needs two tables, so trouble with `_rejects` holds it up as well; no other stream.
//!
//! A message that a newer declaration accepts can be both, a reject and an event, when that crash came before the
//! change of the declaration.
//!
//! # Limits
//! Rows are encoded in portions of what one request may leave in `_rejects` (`event::reject_rows`), and a file is
//! rolled at [`REJECTS_MAX`] of them, so that little of them is ever in memory.

use std::sync::Arc;

use event::reject_rows::{self, RejectedMessage};
use event::{Offset, Partition, RejectCode};
use lake::{FileWriter, Source, Table, WriterOptions};
use tokio::runtime::Handle;

use super::threads::on_thread;
use crate::SinkError;

/// Rejects at which a file is rolled, with the rows that came along.
pub(super) const REJECTS_MAX: u64 = 1 << 16;

/// Where the rejects of one partition of a stream go, and how far they are there.
#[derive(Clone, Debug)]
pub(super) struct RejectsTable {
    table: Arc<Table>,
    source: Source,
    /// The table has every reject below.
    covered: Offset,
}

/// The rejects of an open file.
pub(super) struct OpenRejects {
    to: RejectsTable,
    options: WriterOptions,
    /// Begins with the first row.
    writer: Option<FileWriter>,
    count: u64,
    /// By the order of [`RejectCode::ALL`].
    counts: [u64; RejectCode::ALL.len()],
}

impl RejectsTable {
    /// Asks the table of `_rejects` how far it is with a partition of the stream of `of`.
    pub(super) async fn open(
        table: &Arc<Table>,
        of: &Table,
        partition: Partition,
    ) -> Result<Self, SinkError> {
        let source = Source {
            stream: of.declaration().name.clone(),
            partition,
            journal: of.journal().to_owned(),
        };
        Ok(Self {
            covered: table.source_end(&source).await?,
            table: Arc::clone(table),
            source,
        })
    }
}

impl OpenRejects {
    pub(super) fn new(to: RejectsTable, options: WriterOptions) -> Self {
        Self {
            to,
            options,
            writer: None,
            count: 0,
            counts: [0; RejectCode::ALL.len()],
        }
    }

    /// How many there are that the table does not have yet.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that their file will have, about.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, FileWriter::bytes)
    }

    /// Writes those that the table does not have yet, at most one portion. CPU-bound.
    pub(super) fn write(&mut self, mut messages: Vec<RejectedMessage>) -> Result<(), SinkError> {
        messages.retain(|message| message.offset >= self.to.covered);
        let Some(first) = messages.first() else {
            return Ok(());
        };
        let source = &self.to.source;
        let no_columns = |message: String| SinkError::Rejects {
            partition: source.partition,
            offset: first.offset,
            message,
        };
        let batch = reject_rows::of_messages(&source.stream, source.partition, &messages);
        let batch = batch.map_err(|error| no_columns(error.to_string()))?;
        let offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
        let rows = event::schema::rejected_messages_to_lake(&batch, &offsets);
        let rows = rows.map_err(|error| no_columns(error.to_string()))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(self.to.table.writer(&self.options)?),
        };
        writer.write(&rows)?;
        for message in &messages {
            self.counts[message.reject.code as usize] += 1;
        }
        self.count += messages.len() as u64;
        Ok(())
    }

    /// Commits them: the table has every reject of the partition below `end` then. Gives where they go on.
    pub(super) async fn commit(self, end: Offset) -> Result<RejectsTable, SinkError> {
        let mut to = self.to;
        let Some(writer) = self.writer else {
            return Ok(to);
        };
        let file = on_thread(&Handle::current(), move || Ok(writer.finish()?)).await?;
        to.table
            .commit_source(vec![file], &to.source, to.covered, end)
            .await?;
        to.covered = end;
        let stream = to.source.stream.as_str();
        for (code, count) in RejectCode::ALL
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
        {
            metrics::counter!(
                "tidemill_sink_rejects_total", "stream" => stream.to_owned(), "code" => code.as_str()
            )
            .increment(count);
        }
        Ok(to)
    }
}
