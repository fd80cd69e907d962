//! The file that is open between two commits: rows go in as they arrive, so a roll writes little more than the
//! footer.

use std::sync::Arc;

use event::{Offset, Partition};
use journal::{Decoded, Record, RecordDecoder};
use lake::{Advance, FileWriter, Table, WriterOptions, WrittenFile};
use tokio::time::Instant;

use crate::SinkError;

/// Rows of one partition that wait for a commit, and which records they are.
pub(super) struct OpenFile {
    writer: FileWriter,
    decoder: RecordDecoder,
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
    pub(super) file: WrittenFile,
    pub(super) advance: Advance,
}

impl OpenFile {
    /// A new file whose first record is `from`.
    pub(super) fn begin(
        table: &Table,
        options: &WriterOptions,
        partition: Partition,
        from: Offset,
    ) -> Result<Self, SinkError> {
        Ok(Self {
            writer: table.writer(options)?,
            decoder: RecordDecoder::new(Arc::clone(table.declaration())),
            partition,
            from,
            to: from,
            record_bytes: 0,
            begun: Instant::now(),
        })
    }

    /// Writes the rows of records. CPU-bound. After an error the file is of no use: what it covers is read
    /// again from the journal.
    pub(super) fn write(&mut self, table: &Table, records: &[Record]) -> Result<(), SinkError> {
        for record in records {
            self.write_record(table, record)?;
        }
        Ok(())
    }

    fn write_record(&mut self, table: &Table, record: &Record) -> Result<(), SinkError> {
        let (partition, offset) = (record.partition, record.offset);
        if offset != self.to {
            return Err(SinkError::OutOfOrder {
                found: offset,
                expected: self.to,
            });
        }
        let decoded = self.decoder.decode(record).map_err(|source| SinkError::Record {
            partition,
            offset,
            source,
        })?;
        match decoded {
            Decoded::Batch(batch) => {
                let rows = event::schema::to_lake(&batch, offset, table.declaration());
                let rows = rows.map_err(|source| SinkError::Columns {
                    partition,
                    offset,
                    source,
                })?;
                self.writer.write(&rows)?;
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
        self.to = offset.next();
        self.record_bytes += record.bytes() as u64;
        Ok(())
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.writer.rows()
    }

    /// Bytes that the file will have, about.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Everything below is in this file or was committed before it.
    pub(super) fn end(&self) -> Offset {
        self.to
    }

    /// Writes the footer and makes the file durable (I-3). Blocks.
    pub(super) fn finish(self) -> Result<ClosedFile, SinkError> {
        let advance = Advance {
            partition: self.partition,
            from: self.from,
            to: self.to,
        };
        Ok(ClosedFile {
            file: self.writer.finish()?,
            advance,
        })
    }
}

/// Encodes records into `file`, or into a new one, on a thread for such work.
pub(super) async fn write_records(
    table: &Arc<Table>,
    options: &WriterOptions,
    file: Option<OpenFile>,
    records: Vec<Record>,
) -> Result<Option<OpenFile>, SinkError> {
    let Some(first) = records.first() else {
        return Ok(file);
    };
    let (partition, from) = (first.partition, first.offset);
    let table = Arc::clone(table);
    let options = options.clone();
    on_thread(move || {
        let mut file = match file {
            Some(file) => file,
            None => OpenFile::begin(&table, &options, partition, from)?,
        };
        file.write(&table, &records)?;
        Ok(Some(file))
    })
    .await
}

/// Finishes a file on a thread for such work.
pub(super) async fn finish(file: OpenFile) -> Result<ClosedFile, SinkError> {
    on_thread(move || file.finish()).await
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SinkError::Thread {
            message: error.to_string(),
        }),
    }
}
