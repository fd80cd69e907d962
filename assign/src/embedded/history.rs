//! The rows of one stream from a place on, wherever they are: in the journal, or in the archive once the journal has let
//! go of them.
//!
//! No reader is held between two portions, so events that wait for people never keep the journal from removing what
//! is stored elsewhere (I-5).

use std::sync::Arc;

use event::json::EventWriter;
use event::{Batch, Offset, Partition, Position, StreamDeclaration};
use journal::{Decoded, Journal, JournalReader, ReadError, Record, RecordDecoder};

use super::Place;
use super::archive::{Archive, ArchiveRows, Row};

/// Bytes of records that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Why rows cannot be read now.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The archive cannot be read, or does not have what the journal has let go of.
    #[error("{0}")]
    Archive(String),
    /// A record is not readable.
    #[error("record {offset}: {message}")]
    Record { offset: u64, message: String },
}

/// Reads a stream forward.
pub(super) struct History {
    journal: Arc<dyn Journal>,
    archive: Option<Arc<dyn Archive>>,
    stream: Arc<StreamDeclaration>,
    decoder: RecordDecoder,
    next: Place,
    old: Option<ArchiveRows>,
}

impl History {
    /// The rows from `next` on.
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        archive: Option<Arc<dyn Archive>>,
        stream: Arc<StreamDeclaration>,
        next: Place,
    ) -> Self {
        Self {
            journal,
            archive,
            decoder: RecordDecoder::new(Arc::clone(&stream)),
            stream,
            next,
            old: None,
        }
    }

    /// Where the next portion begins.
    pub(super) fn next_place(&self) -> Place {
        self.next
    }

    /// The next portion; waits for events at the journal's end. May be empty.
    ///
    /// # Cancellation
    /// Nothing is lost: the place moves only when rows are given out.
    pub(super) async fn next(&mut self) -> Result<Vec<Row>, HistoryError> {
        if let Some(old) = &mut self.old {
            let end = old.end;
            match old.rows.recv().await {
                Some(Ok(rows)) => return Ok(self.take(rows, None)),
                Some(Err(message)) => {
                    self.old = None;
                    return Err(HistoryError::Archive(message));
                }
                None => {
                    // Whoever reads up to some end must not wait beyond it.
                    self.old = None;
                    self.next = self.next.max(Place {
                        offset: end.0,
                        row: 0,
                    });
                    return Ok(Vec::new());
                }
            }
        }
        let from = Position::new(Partition(0), Offset(self.next.offset));
        let reader = self.journal.reader(&self.stream.name, from).await;
        match reader {
            Ok(mut reader) => self.read(reader.as_mut()).await,
            Err(ReadError::Gone { asked, start }) => {
                let archive = self.archive.as_ref();
                let gone = || HistoryError::Journal(ReadError::Gone { asked, start });
                let archive = archive.ok_or_else(gone)?;
                let rows = archive.rows(&self.stream.name, from.offset).await;
                self.old = Some(rows.map_err(HistoryError::Archive)?.ok_or_else(gone)?);
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&mut self, reader: &mut dyn JournalReader) -> Result<Vec<Row>, HistoryError> {
        let records = reader.next(READ_BYTES).await?;
        let mut rows = Vec::new();
        let mut end = None;
        for record in &records {
            rows.extend(self.rows_of(record)?);
            end = Some(Place {
                offset: record.offset.0 + 1,
                row: 0,
            });
        }
        Ok(self.take(rows, end))
    }

    /// Gives out what was not given out before.
    fn take(&mut self, mut rows: Vec<Row>, end: Option<Place>) -> Vec<Row> {
        rows.retain(|row| row.place >= self.next);
        let last = rows.last().map(|row| Place {
            offset: row.place.offset,
            row: row.place.row + 1,
        });
        self.next = end.or(last).unwrap_or(self.next).max(self.next);
        rows
    }

    fn rows_of(&mut self, record: &Record) -> Result<Vec<Row>, HistoryError> {
        let failed = |message: String| HistoryError::Record {
            offset: record.offset.0,
            message,
        };
        match self.decoder.decode(record) {
            Ok(Decoded::Batch(batch)) => {
                rows(&self.stream, &batch, record.offset).map_err(|error| failed(error.to_string()))
            }
            Ok(Decoded::Reject(..) | Decoded::Nothing) => Ok(Vec::new()),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn rows(
    stream: &StreamDeclaration,
    batch: &Batch,
    offset: Offset,
) -> Result<Vec<Row>, Box<dyn std::error::Error + Send + Sync>> {
    let writer = EventWriter::new(stream, &batch.rows);
    let mut rows = Vec::with_capacity(batch.len());
    for number in 0..batch.len() {
        let mut json = Vec::new();
        writer.write(number, &mut json)?;
        let place = Place {
            offset: offset.0,
            row: u32::try_from(number)?,
        };
        rows.push(Row { place, json });
    }
    Ok(rows)
}
