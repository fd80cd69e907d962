//! The file that is open between two commits: rows go in as they arrive, so a roll writes little more than the
//! footer. Messages that are no events of the stream wait beside it ([`super::rejects`]).

use std::sync::Arc;

use arrow_array::RecordBatch;
use event::unique::Seen;
use event::{Batch, Offset, Partition};
use journal::{Decoded, Payload, Record, RecordDecoder};
use lake::{Advance, FileWriter, Table, WriterOptions, WrittenFile};
use tokio::time::Instant;

use super::rejects::{OpenRejects, REJECTS_MAX, RejectsTable};
use super::threads::{Pace, Turn};
use crate::SinkError;

/// Rows of one partition that wait for a commit, and which records they are.
pub(super) struct OpenFile {
    writer: FileWriter,
    /// Of a stream that other programs may fill.
    rejects: Option<OpenRejects>,
    decoder: RecordDecoder,
    /// What is known of a stream with unique ids, after the last row.
    seen: Option<Seen>,
    /// Rows that were left out because their id is known.
    duplicates: u64,
    partition: Partition,
    from: Offset,
    to: Offset,
    /// Bytes of the records, as the journal has them.
    pub(super) record_bytes: u64,
    /// When the first row came.
    pub(super) begun: Instant,
}

/// A finished file and what it covers.
pub(super) struct ClosedFile {
    /// None when not one of the records held an event.
    pub(super) file: Option<WrittenFile>,
    pub(super) advance: Advance,
}

/// What files are begun with.
pub(super) struct Begin<'a> {
    pub(super) table: &'a Arc<Table>,
    pub(super) rejects: Option<&'a RejectsTable>,
    pub(super) options: &'a WriterOptions,
}

impl OpenFile {
    /// A new file whose first record is `from`.
    pub(super) fn begin(
        table: &Table,
        rejects: Option<OpenRejects>,
        seen: Option<Seen>,
        options: &WriterOptions,
        (partition, from): (Partition, Offset),
    ) -> Result<Self, SinkError> {
        Ok(Self {
            writer: table.writer(options)?,
            rejects,
            decoder: RecordDecoder::new(Arc::clone(table.declaration())),
            seen,
            duplicates: 0,
            partition,
            from,
            to: from,
            record_bytes: 0,
            begun: Instant::now(),
        })
    }

    /// Writes the rows of records, of some at least and of no more when it is `until`, and gives how many those are.
    /// CPU-bound. After an error the file is of no use: what it covers is read again from the journal.
    pub(super) fn write(
        &mut self,
        table: &Table,
        records: &[Record],
        until: Option<std::time::Instant>,
    ) -> Result<usize, SinkError> {
        let mut rest = records;
        while let Some(record) = rest.first() {
            let written = match &record.payload {
                Payload::Json(_) => self.write_messages(table, rest)?,
                Payload::Record(_) | Payload::Nothing => {
                    self.write_record(table, record)?;
                    1
                }
            };
            rest = &rest[written..];
            if until.is_some_and(|until| std::time::Instant::now() >= until) {
                break;
            }
        }
        // What several threads were to do shall not wait for the next look at the journal.
        self.writer.flush()?;
        Ok(records.len() - rest.len())
    }

    /// Writes the messages that records begin with, as many as go together. Gives how many those are.
    fn write_messages(&mut self, table: &Table, records: &[Record]) -> Result<usize, SinkError> {
        let messages = self.decoder.decode_messages(records);
        for record in &records[..messages.taken] {
            self.follow(record)?;
        }
        if let Some(batch) = &messages.batch {
            let offset = messages.offsets.first().copied().unwrap_or_default();
            let rows = event::schema::place_messages(batch, &messages.offsets, table.declaration());
            let rows = rows.map_err(|source| SinkError::Columns {
                partition: self.partition,
                offset,
                source,
            })?;
            self.write_kept(table, batch, offset, rows)?;
        }
        match (&mut self.rejects, messages.rejects.first()) {
            (_, None) => {}
            (Some(rejects), Some(_)) => rejects.write(messages.rejects)?,
            (None, Some(message)) => {
                return Err(SinkError::NoEvent {
                    partition: self.partition,
                    offset: message.offset,
                    message: message.reject.message.clone(),
                });
            }
        }
        Ok(messages.taken)
    }

    /// Goes on to the offset after a record, which must be the next one.
    fn follow(&mut self, record: &Record) -> Result<(), SinkError> {
        if record.offset != self.to {
            return Err(SinkError::OutOfOrder {
                found: record.offset,
                expected: self.to,
            });
        }
        self.to = record.offset.next();
        self.record_bytes += record.bytes() as u64;
        Ok(())
    }

    fn write_record(&mut self, table: &Table, record: &Record) -> Result<(), SinkError> {
        let (partition, offset) = (record.partition, record.offset);
        self.follow(record)?;
        let decoded = self.decoder.decode(record).map_err(|source| SinkError::Record {
            partition,
            offset,
            source,
        })?;
        match decoded {
            Decoded::Batch(batch) => {
                let rows = event::schema::place(&batch, offset, table.declaration());
                let rows = rows.map_err(|source| SinkError::Columns {
                    partition,
                    offset,
                    source,
                })?;
                self.write_kept(table, &batch, offset, rows)?;
            }
            Decoded::Reject(reject, _) => {
                return Err(SinkError::NoEvent {
                    partition,
                    offset,
                    message: reject.message,
                });
            }
            Decoded::Nothing => {}
        }
        Ok(())
    }

    /// Writes the rows of a batch without those whose id is known.
    fn write_kept(
        &mut self,
        table: &Table,
        batch: &Batch,
        offset: Offset,
        mut rows: RecordBatch,
    ) -> Result<(), SinkError> {
        if let Some(seen) = &mut self.seen {
            let all = rows.num_rows();
            let kept = seen.admit_rows(batch, table.declaration(), rows);
            rows = kept.map_err(|error| SinkError::Ids {
                partition: self.partition,
                offset,
                message: error.to_string(),
            })?;
            self.duplicates += (all - rows.num_rows()) as u64;
        }
        if rows.num_rows() > 0 {
            self.writer.write(&rows)?;
        }
        Ok(())
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.writer.rows()
    }

    /// Whether it has as much as a file shall have, `bytes` or too many rejects.
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        let (beside, count) = match &self.rejects {
            Some(rejects) => (rejects.bytes(), rejects.count()),
            None => (0, 0),
        };
        self.writer.bytes() + beside >= bytes || count >= REJECTS_MAX
    }

    /// Rows that were left out because their id is known.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// What is known after the last row; the next file of this partition begins with it.
    pub(super) fn take_seen(&mut self) -> Option<Seen> {
        self.seen.take()
    }

    /// The rejects, which are committed before the file.
    pub(super) fn take_rejects(&mut self) -> Option<OpenRejects> {
        self.rejects.take()
    }

    /// Everything below is in this file or was committed before it.
    pub(super) fn end(&self) -> Offset {
        self.to
    }

    /// Writes the footer and makes the file durable (I-3), if it has rows. Blocks.
    pub(super) fn finish(self) -> Result<ClosedFile, SinkError> {
        let advance = Advance {
            partition: self.partition,
            from: self.from,
            to: self.to,
        };
        let file = match self.writer.rows() {
            0 => None,
            _ => Some(self.writer.finish()?),
        };
        Ok(ClosedFile { file, advance })
    }
}

/// Encodes records into `file`, or into a new one.
///
/// A new file takes what is known from `seen`; it comes back with [`OpenFile::take_seen`].
pub(super) async fn write_records(
    pace: &mut Pace,
    begin: Begin<'_>,
    seen: &mut Option<Seen>,
    mut file: Option<OpenFile>,
    mut records: Vec<Record>,
) -> Result<Option<OpenFile>, SinkError> {
    while let Some(first) = records.first() {
        let from = (first.partition, first.offset);
        let table = Arc::clone(begin.table);
        let options = begin.options.clone();
        let rejects = begin.rejects.cloned();
        let seen = if file.is_none() { seen.take() } else { None };
        let work = move |turn: Turn| {
            let mut file = match file {
                Some(file) => file,
                None => {
                    let rejects = rejects.map(|to| OpenRejects::new(to, options.clone()));
                    OpenFile::begin(&table, rejects, seen, &options, from)?
                }
            };
            file.writer.set_threads(turn.threads);
            let written = file.write(&table, &records, turn.until)?;
            Ok((file, records.split_off(written)))
        };
        let (written, left) = pace.run(work).await?;
        (file, records) = (Some(written), left);
    }
    Ok(file)
}

/// Finishes a file.
pub(super) async fn finish(pace: &mut Pace, mut file: OpenFile) -> Result<ClosedFile, SinkError> {
    let work = move |turn: Turn| {
        file.writer.set_threads(turn.threads);
        file.finish()
    };
    pace.run(work).await
}
