//! From the journal into the rows of the next transaction, while the last one is being written.
//!
//! One [`Rows`] is filled as long as the writer is busy with the one before, so that there are never more than two
//! in memory for a stream, and many small records become one transaction when the database is slow.

use std::sync::Arc;

use event::{Offset, Partition, Position, StreamDeclaration};
use journal::{Decoded, Journal, JournalReader, Payload, ReadError, Record, RecordDecoder};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::options::DatabaseOptions;
use super::refill::{Bounds, Refill};
use super::rows::Rows;
use crate::SinkError;
use crate::group::Phase;
use crate::progress::{Shared, end_of};

/// Most bytes of records that one read takes: what one call to the decoding thread works on.
const READ_BYTES: usize = 4 << 20;

/// Reads one partition of one stream forward.
pub(super) struct Gatherer {
    pub(super) stream: Arc<StreamDeclaration>,
    pub(super) partition: Partition,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) options: Arc<DatabaseOptions>,
    pub(super) progress: Arc<Shared>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// When to end.
#[derive(Clone, Copy)]
enum Until {
    /// Not yet.
    Told,
    /// At this offset or this moment: what the journal had when the stop was asked for.
    Drained(Offset, Instant),
}

/// How reading the lake ended.
enum Refilled {
    /// The journal goes on here.
    To(Offset),
    /// It is to end, or nobody takes the rows any more.
    Ended,
}

/// What woke the gatherer.
enum Wake {
    Release,
    Stop,
    Due,
    Records(Vec<Record>),
}

impl Gatherer {
    /// Fills one [`Rows`] after the other from `from` on. Ends when it was told to stop and what the journal had
    /// then is read, or when nobody takes the rows any more.
    pub(super) async fn run(
        mut self,
        mut from: Offset,
        out: mpsc::Sender<Arc<Rows>>,
    ) -> Result<(), SinkError> {
        loop {
            let gone = match self.read_journal(&mut from, &out).await {
                Err(SinkError::Read(gone @ ReadError::Gone { .. })) => gone,
                done => return done,
            };
            match self.read_lake(from, &out).await? {
                Some(Refilled::To(end)) => from = end,
                Some(Refilled::Ended) => return Ok(()),
                // It never jumps.
                None => return Err(gone.into()),
            }
        }
    }

    /// Reads the journal from `from` on, which moves with what was given away.
    async fn read_journal(
        &mut self,
        from: &mut Offset,
        out: &mpsc::Sender<Arc<Rows>>,
    ) -> Result<(), SinkError> {
        let position = Position::new(self.partition, *from);
        let mut reader = self.journal.reader(&self.stream.name, position).await?;
        let mut until = Until::Told;
        loop {
            // A place first, then rows: so only one is filled while another one waits.
            let Ok(place) = out.reserve().await else {
                return Ok(());
            };
            let (rows, ended) = self.fill(reader.as_mut(), &mut until).await?;
            if rows.to() > rows.from() {
                *from = rows.to();
                place.send(Arc::new(rows));
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Reads the lake, which has what the journal has no more. `None` when it does not have it either.
    async fn read_lake(
        &mut self,
        from: Offset,
        out: &mpsc::Sender<Arc<Rows>>,
    ) -> Result<Option<Refilled>, SinkError> {
        let same = |table: &&Arc<lake::Table>| table.declaration().name == self.stream.name;
        let Some(table) = self.options.refill.iter().find(same) else {
            return Ok(None);
        };
        let bounds = Bounds {
            rows: self.options.batch_rows,
            bytes: self.options.batch_bytes,
        };
        let position = Position::new(self.partition, from);
        let Some(mut refill) = Refill::begin(table, position, bounds).await? else {
            return Ok(None);
        };
        metrics::counter!("tidemill_destination_refills_total", "destination" => self.options.name.clone())
            .increment(1);
        tracing::info!(
            destination = self.options.name,
            stream = self.stream.name.as_str(),
            partition = %self.partition,
            %from,
            to = %refill.end,
            "reads the lake, the journal does not have these records any more"
        );
        let mut phase = self.phase.clone();
        loop {
            let Ok(place) = out.reserve().await else {
                return Ok(Some(Refilled::Ended));
            };
            tokio::select! {
                biased;
                // There may be hours of it: whoever is told to stop goes on after the next start.
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return Ok(Some(Refilled::Ended)),
                rows = refill.rows.recv() => match rows {
                    Some(rows) => place.send(Arc::new(rows?)),
                    None => return Ok(Some(Refilled::To(refill.end))),
                }
            }
        }
    }

    /// Reads until a transaction is worth it, or old enough. Says too whether that is all.
    async fn fill(
        &mut self,
        reader: &mut dyn JournalReader,
        until: &mut Until,
    ) -> Result<(Rows, bool), SinkError> {
        let mut rows = Rows::new(self.partition, reader.position().offset);
        let mut due = None;
        while rows.len() < self.options.batch_rows && rows.bytes() < self.options.batch_bytes {
            if let Until::Drained(end, deadline) = *until
                && (rows.to() >= end || Instant::now() >= deadline)
            {
                return Ok((rows, true));
            }
            match self.wake(reader, *until, due).await? {
                // What was gathered is written all the same: the next one begins behind it.
                Wake::Release => return Ok((rows, true)),
                Wake::Stop => {
                    let end = end_of(self.journal.as_ref(), &self.stream.name, self.partition).await?;
                    *until = Until::Drained(end, Instant::now() + self.options.drain);
                }
                Wake::Due => return Ok((rows, false)),
                Wake::Records(records) => {
                    rows = self.take(rows, records).await?;
                    due.get_or_insert_with(|| Instant::now() + self.options.commit_every);
                }
            }
        }
        Ok((rows, false))
    }

    async fn wake(
        &mut self,
        reader: &mut dyn JournalReader,
        until: Until,
        due: Option<Instant>,
    ) -> Result<Wake, SinkError> {
        let due = match (until, due) {
            (Until::Drained(_, deadline), _) => Some(deadline),
            (Until::Told, due) => due,
        };
        let aged = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let told = matches!(until, Until::Told);
        tokio::select! {
            biased;
            phase = self.phase.wait_for(|phase| *phase != Phase::Running), if told => match phase.as_deref() {
                Ok(Phase::Stopping) => Ok(Wake::Stop),
                Ok(_) | Err(_) => Ok(Wake::Release),
            },
            () = aged => Ok(Wake::Due),
            records = reader.next(READ_BYTES.min(self.options.batch_bytes)) => Ok(Wake::Records(records?)),
        }
    }

    /// Decodes records into rows, on a thread for such work.
    async fn take(&self, mut rows: Rows, records: Vec<Record>) -> Result<Rows, SinkError> {
        let stream = Arc::clone(&self.stream);
        let decoded = tokio::task::spawn_blocking(move || {
            let mut decoder = RecordDecoder::new(Arc::clone(&stream));
            let mut rest = &records[..];
            while let Some(record) = rest.first() {
                let taken = match &record.payload {
                    Payload::Json(_) => push_messages(&mut rows, &mut decoder, &stream, rest)?,
                    Payload::Record(_) | Payload::Nothing => {
                        push(&mut rows, &mut decoder, &stream, record)?;
                        1
                    }
                };
                rest = &rest[taken..];
            }
            Ok::<_, SinkError>(rows)
        });
        let rows = decoded.await.map_err(|error| SinkError::Thread {
            message: error.to_string(),
        })??;
        self.progress.update(|progress| {
            progress.read = rows.to();
            progress.rows_open = rows.len() as u64;
        });
        Ok(rows)
    }
}

/// Takes the messages that records begin with, as many as go together. Gives how many those are.
fn push_messages(
    rows: &mut Rows,
    decoder: &mut RecordDecoder,
    stream: &StreamDeclaration,
    records: &[Record],
) -> Result<usize, SinkError> {
    let messages = decoder.decode_messages(records);
    let mut to = rows.to();
    for record in &records[..messages.taken] {
        in_order(record, to)?;
        to = record.offset.next();
    }
    // A message that is no event is kept by the lake.
    rows.skip(to);
    if let Some(batch) = &messages.batch {
        let columns = event::schema::messages_to_lake(batch, &messages.offsets, stream);
        let columns = columns.map_err(|source| SinkError::Columns {
            partition: batch.partition,
            offset: messages.offsets.first().copied().unwrap_or_default(),
            source,
        })?;
        rows.push(columns, to);
    }
    Ok(messages.taken)
}

fn in_order(record: &Record, due: Offset) -> Result<(), SinkError> {
    if record.offset != due {
        return Err(SinkError::OutOfOrder {
            found: record.offset,
            expected: due,
        });
    }
    Ok(())
}

fn push(
    rows: &mut Rows,
    decoder: &mut RecordDecoder,
    stream: &StreamDeclaration,
    record: &Record,
) -> Result<(), SinkError> {
    let (partition, offset) = (record.partition, record.offset);
    in_order(record, rows.to())?;
    let decoded = decoder.decode(record).map_err(|source| SinkError::Record {
        partition,
        offset,
        source,
    })?;
    match decoded {
        Decoded::Batch(batch) => {
            let columns = event::schema::to_lake(&batch, offset, stream);
            let columns = columns.map_err(|source| SinkError::Columns {
                partition,
                offset,
                source,
            })?;
            rows.push(columns, offset.next());
        }
        // A message that is no event is kept by the lake.
        Decoded::Reject(..) | Decoded::Nothing => rows.skip(offset.next()),
    }
    Ok(())
}
