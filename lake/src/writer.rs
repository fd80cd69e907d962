//! Columns → one Parquet file, encoded as they come, durable when finished.

mod encoder;
mod gathered;
pub(crate) mod ids;
mod repetition;
pub(crate) mod threads;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use event::StreamDeclaration;

use crate::error::LakeError;
use crate::options::WriterOptions;
use crate::statistics::Statistics;
use crate::storage::Storage;
use crate::table::UnlistedName;
use encoder::Encoder;
use gathered::Gathered;
use threads::EncodingThreads;

/// Encodes batches into one Parquet file as they come. CPU-bound: call it off the I/O threads. What is written is
/// removed when it is dropped before it is finished.
#[derive(Debug)]
pub struct FileWriter {
    file: NewFile,
    schema: SchemaRef,
    options: WriterOptions,
    /// Begins with the first rows that are encoded. The mutex is never contended: it only lets tasks that hold a
    /// `FileWriter` move between threads.
    encoder: Option<Mutex<Encoder>>,
    gathered: Gathered,
    statistics: Statistics,
    threads: EncodingThreads,
    rows: u64,
    unfinished: Unfinished,
}

/// Removes a file that is given up before it is finished: no commit has ever named it, and until the next vacuum
/// it could be what fills the disk.
#[derive(Debug)]
struct Unfinished {
    storage: Storage,
    name: String,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What is left over, or was never begun, is vacuum's. An object is not there before it is finished.
        if !self.finished && matches!(self.storage, Storage::Local { .. }) {
            self.storage.remove(&self.name).ok();
        }
    }
}

/// A durable file that no commit lists yet. Dropping it leaves the file to vacuum.
#[derive(Debug)]
pub struct WrittenFile {
    /// Relative to the table's directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// How many events.
    pub rows: u64,
    pub(crate) statistics: Statistics,
    finished: Finished,
    _unlisted: UnlistedName,
}

/// When a file was finished, by two clocks: one of them stands still while the machine sleeps, the other one can be
/// set.
#[derive(Debug)]
struct Finished {
    instant: Instant,
    moment: SystemTime,
}

impl WrittenFile {
    /// For how long it has been waiting for its commit.
    pub(crate) fn age(&self) -> Duration {
        let by_moment = self.finished.moment.elapsed().unwrap_or_default();
        self.finished.instant.elapsed().max(by_moment)
    }
}

/// What a new file of a table is made with.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) stream: Arc<StreamDeclaration>,
    pub(crate) name: String,
    pub(crate) unlisted: UnlistedName,
    /// The table's files.
    pub(crate) storage: Storage,
}

impl FileWriter {
    /// A file with the columns of `schema`, of which the table has the first ones.
    pub(crate) fn new(
        file: NewFile,
        schema: SchemaRef,
        table_schema: SchemaRef,
        options: WriterOptions,
    ) -> Self {
        let statistics = Statistics::new(table_schema);
        let unfinished = Unfinished {
            storage: file.storage.clone(),
            name: file.name.clone(),
            finished: false,
        };
        Self {
            file,
            schema,
            options,
            encoder: None,
            gathered: Gathered::default(),
            statistics,
            threads: EncodingThreads::default(),
            rows: 0,
            unfinished,
        }
    }

    /// From now on columns are encoded on these threads as well as on the one that calls; at first on that one alone.
    pub fn set_threads(&mut self, threads: EncodingThreads) {
        self.threads = threads;
    }

    /// Encodes rows in the lake schema (`event::schema::lake`), whose ids may still be 16 bytes
    /// (`event::schema::placed`); a few of them together with those that follow, more of them where there are several
    /// threads.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the file cannot be written; the writer is of no use afterwards.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        self.rows += rows.num_rows() as u64;
        let gathered = self.gathered.push(rows);
        gathered.map_err(|error| self.store("put rows together for", &error))?;
        let enough = match self.threads.are_several() {
            true => self.gathered.are_enough_for_threads(),
            false => self.gathered.are_enough(),
        };
        if enough { self.encode() } else { Ok(()) }
    }

    /// Encodes the rows that wait for others to keep several threads busy; only a few may wait still.
    ///
    /// # Errors
    /// As of [`FileWriter::write`].
    pub fn flush(&mut self) -> Result<(), LakeError> {
        match self.gathered.are_enough() {
            true => self.encode(),
            false => Ok(()),
        }
    }

    fn encode(&mut self) -> Result<(), LakeError> {
        let gathered = self.gathered.take();
        let gathered = gathered.map_err(|error| self.store("put rows together for", &error))?;
        if gathered.is_empty() {
            return Ok(());
        }
        if self.encoder.is_none() {
            let file = self.file.storage.create(&self.file.name);
            let file = file.map_err(|error| self.io("create a file of", &error))?;
            let (options, stream) = (self.options.clone(), Arc::clone(&self.file.stream));
            let begun = Encoder::begin(file, Arc::clone(&self.schema), options, stream);
            let begun = begun.map_err(|error| self.store("begin a file of", &error))?;
            self.encoder = Some(Mutex::new(begun));
        }
        self.statistics.add(&gathered, &self.threads);
        let written = self
            .encoder
            .as_mut()
            .map_or(Ok(()), |encoder| unlocked(encoder).write(gathered, &self.threads));
        written.map_err(|error| self.store("write to a file of", &error))
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that the file will have, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let encoded = self.encoder.as_ref().map_or(0, |encoder| {
            encoder.lock().unwrap_or_else(PoisonError::into_inner).bytes()
        });
        (encoded + self.gathered.bytes()) as u64
    }

    /// Writes the footer and makes file and directory durable (I-3).
    ///
    /// # Errors
    /// [`LakeError::Store`] when that fails; nothing is committed then, and the rows come again from the journal.
    pub fn finish(mut self) -> Result<WrittenFile, LakeError> {
        self.encode()?;
        let Some(encoder) = self.encoder.take() else {
            let message = "a file without rows is not written".to_owned();
            return Err(LakeError::Store {
                operation: "finish a file of",
                stream: self.file.stream.name.to_string(),
                message,
            });
        };
        let encoder = encoder.into_inner().unwrap_or_else(PoisonError::into_inner);
        let file = encoder
            .finish(&self.threads)
            .map_err(|error| self.store("finish a file of", &error))?;
        let bytes = file
            .finish()
            .map_err(|error| self.io("make durable a file of", &error))?;
        self.unfinished.finished = true;
        Ok(WrittenFile {
            path: self.file.name,
            bytes,
            rows: self.rows,
            statistics: self.statistics,
            finished: Finished {
                instant: Instant::now(),
                moment: SystemTime::now(),
            },
            _unlisted: self.file.unlisted,
        })
    }

    /// After a failed fsync that is what matters (I-8).
    fn store(&self, operation: &'static str, error: &dyn std::error::Error) -> LakeError {
        let failed = LakeError::Store {
            operation,
            stream: self.file.stream.name.to_string(),
            message: error.to_string(),
        };
        self.file.storage.check().err().unwrap_or(failed)
    }

    fn io(&self, operation: &'static str, error: &io::Error) -> LakeError {
        self.store(operation, error)
    }
}

fn unlocked<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}
