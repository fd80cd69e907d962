//! Columns → one Parquet file, encoded as they come, durable when finished.
//!
//! Timestamps and integers are delta-packed without compression (zstd on top costs a quarter more time and
//! saves nothing, design.md §12), text is compressed. A dictionary is used for a text column when the first rows
//! repeat themselves: it pays where values repeat, and doubles the time where they do not.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use event::StreamDeclaration;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::disk::SyncPoint;
use crate::durable::{Durable, DurableFile};
use crate::error::LakeError;
use crate::options::WriterOptions;
use crate::statistics::Statistics;
use crate::table::UnlistedName;

/// Bytes of a column's dictionary, above which the rest of a row group is written plainly.
const DICTIONARY_BYTES_MAX: usize = 16 << 20;
/// Rows that are looked at to decide on dictionaries.
const SAMPLE_ROWS: usize = 16_384;
/// A dictionary pays when at most this share of the sampled values is distinct.
const DISTINCT_SHARE_MAX: f64 = 0.5;

/// Encodes batches into one Parquet file as they come. CPU-bound: call it off the I/O threads.
#[derive(Debug)]
pub struct FileWriter {
    file: NewFile,
    schema: SchemaRef,
    options: WriterOptions,
    /// Begins with the first rows, which decide on dictionaries. The mutex is never contended: it only lets tasks
    /// that hold a `FileWriter` move between threads.
    writer: Option<Mutex<ArrowWriter<DurableFile>>>,
    statistics: Statistics,
    rows: u64,
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
    _unlisted: UnlistedName,
}

/// What a new file of a table is made with.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) stream: Arc<StreamDeclaration>,
    /// The table's directory.
    pub(crate) directory: PathBuf,
    pub(crate) name: String,
    pub(crate) unlisted: UnlistedName,
    pub(crate) durable: Arc<Durable>,
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
        Self {
            file,
            schema,
            options,
            writer: None,
            statistics,
            rows: 0,
        }
    }

    /// Encodes rows in the lake schema (`event::schema::lake`).
    ///
    /// # Errors
    /// [`LakeError::Store`] when the file cannot be written; the writer is of no use afterwards.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        if self.writer.is_none() {
            let file = self
                .file
                .durable
                .create(&self.file.directory.join(&self.file.name));
            let file = file.map_err(|error| self.io("create a file of", &error))?;
            let properties = self.properties(rows);
            let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties));
            self.writer = Some(Mutex::new(
                writer.map_err(|error| self.store("begin a file of", &error))?,
            ));
        }
        let written = self
            .writer
            .as_mut()
            .map_or(Ok(()), |writer| unlocked(writer).write(rows));
        written.map_err(|error| self.store("write to a file of", &error))?;
        self.statistics.add(rows);
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that the file will have, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Some(writer) = &self.writer else { return 0 };
        let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        (writer.bytes_written() + writer.in_progress_size()) as u64
    }

    /// Writes the footer and makes file and directory durable (I-3).
    ///
    /// # Errors
    /// [`LakeError::Store`] when that fails; nothing is committed then, and the rows come again from the journal.
    pub fn finish(mut self) -> Result<WrittenFile, LakeError> {
        let Some(writer) = self.writer.take() else {
            let message = "a file without rows is not written".to_owned();
            return Err(LakeError::Store {
                operation: "finish a file of",
                stream: self.file.stream.name.to_string(),
                message,
            });
        };
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut file = writer
            .into_inner()
            .map_err(|error| self.store("finish a file of", &error))?;
        file.sync(SyncPoint::DataFile)
            .map_err(|error| self.io("fsync a file of", &error))?;
        let entry = self
            .file
            .durable
            .sync_directory(&self.file.directory, SyncPoint::DataEntry);
        entry.map_err(|error| self.io("fsync the directory of", &error))?;
        Ok(WrittenFile {
            path: self.file.name,
            bytes: file.bytes(),
            rows: self.rows,
            statistics: self.statistics,
            _unlisted: self.file.unlisted,
        })
    }

    /// Gives it up: what was written is removed. No commit ever named it.
    pub(crate) fn abandon(self) {
        let path = self.file.directory.join(&self.file.name);
        drop(self.writer);
        // What is left over is vacuumed.
        self.file.durable.remove(&path).ok();
    }

    fn properties(&self, sample: &RecordBatch) -> WriterProperties {
        let text = if self.options.lz4 {
            Compression::LZ4_RAW
        } else {
            Compression::ZSTD(ZstdLevel::default())
        };
        let mut properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.options.row_group_rows))
            .set_dictionary_enabled(false)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_compression(text);
        for (field, column) in self.schema.fields().iter().zip(sample.columns()) {
            let path = ColumnPath::from(field.name().as_str());
            match field.data_type() {
                DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                    properties = properties
                        .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
                        .set_column_compression(path, Compression::UNCOMPRESSED);
                }
                DataType::Utf8 if repeats(column) => {
                    properties = properties.set_column_dictionary_enabled(path, true);
                }
                _ => {}
            }
            if self.file.stream.key.as_deref() == Some(field.name()) {
                properties =
                    properties.set_column_bloom_filter_enabled(ColumnPath::from(field.name().as_str()), true);
            }
        }
        properties.build()
    }

    /// After a failed fsync that is what matters (I-8).
    fn store(&self, operation: &'static str, error: &dyn std::error::Error) -> LakeError {
        let failed = LakeError::Store {
            operation,
            stream: self.file.stream.name.to_string(),
            message: error.to_string(),
        };
        self.file.durable.check().err().unwrap_or(failed)
    }

    fn io(&self, operation: &'static str, error: &io::Error) -> LakeError {
        self.store(operation, error)
    }
}

fn unlocked<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the values of a text column repeat themselves enough for a dictionary.
fn repeats(column: &dyn Array) -> bool {
    let Some(texts) = column.as_string_opt::<i32>() else {
        return false;
    };
    let hashes = RandomState::new();
    let sampled = texts.len().min(SAMPLE_ROWS);
    let distinct: HashSet<u64> = texts
        .iter()
        .take(sampled)
        .flatten()
        .map(|text| hashes.hash_one(text))
        .collect();
    distinct.len() as f64 <= sampled as f64 * DISTINCT_SHARE_MAX
}
