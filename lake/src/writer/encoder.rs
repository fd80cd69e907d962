//! Columns → row groups of one Parquet file.
//!
//! Timestamps and integers are delta-packed without compression (zstd on top costs a quarter more time and saves
//! nothing, design.md §12), text is compressed. A dictionary pays where values repeat and doubles the time where
//! they do not, so each row group decides it anew for each text column, from its first rows ([`super::repetition`]): they
//! wait, at most [`SAMPLE_ROWS`], until enough have been seen. A dictionary of uuids is not compressed: that would cost
//! a third more time for 2 bytes of 6 an event, and nobody could look one value up without inflating all of them.
//! Uuids that do not repeat have their lengths together before them; with each length before its uuid, zstd makes 19.9
//! bytes of one in place of 18.5 (`benches/README.md`).
//!
//! The columns of rows that come together are encoded on whatever threads are free, one column on one of them, and a row
//! group's are finished there as well ([`super::threads`]).
//!
//! # Why not `ArrowWriter`
//! Its properties are fixed for the whole file. The parts that it is made of are used as it uses them; the properties
//! of a row group reach the columns through a factory that is made from a file writer that writes nowhere.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, FieldRef, SchemaRef};
use bytes::Bytes;
use event::batch::bytes_of_rows;
use event::schema::{IdText, TRACE_ID, column_in_lake};
use event::{FieldType, StreamDeclaration};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use super::ids::IdColumn;
use super::repetition::{SAMPLE_ROWS, repetition};
use super::threads::EncodingThreads;
use crate::options::WriterOptions;
use crate::storage::NewBytes;

/// Bytes of a column's dictionary, above which the rest of a row group is written plainly, or a row group of ids ends: after
/// the rows that were encoded together, of which threads may have 5 MiB of ids.
const DICTIONARY_BYTES_MAX: usize = 16 << 20;
/// Where requests have fewer rows, the texts of their trace ids are compressed instead: there are many of them.
const REQUEST_ROWS_MIN: u64 = 64;
/// Rows of a page: what is decoded to read a single event.
const PAGE_ROWS: usize = 8_192;

/// A bloom filter has room for so many times the values that are expected, and for so many at least. One for each row
/// of a row group would be a megabyte that is written to at random, and made smaller when it is finished.
const FILTER_ROOM: u64 = 2;
const FILTER_VALUES_MIN: u64 = 32_768;

/// Encodes one file.
pub(super) struct Encoder {
    schema: SchemaRef,
    options: WriterOptions,
    stream: Arc<StreamDeclaration>,
    file: SerializedFileWriter<NewBytes>,
    /// First rows of a row group that has not begun.
    sample: Vec<RecordBatch>,
    group: Option<Group>,
}

/// The row group that is being encoded.
struct Group {
    columns: Vec<Column>,
    rows: usize,
}

/// One column of it.
enum Column {
    /// Ids that came as 16 bytes and repeat.
    Ids(Box<IdColumn>),
    Any(Box<ArrowColumnWriter>),
}

impl Column {
    fn write(&mut self, field: &FieldRef, array: &ArrayRef) -> Result<()> {
        match self {
            Self::Ids(column) => {
                let ids = array.as_fixed_size_binary_opt().ok_or_else(|| {
                    let message = format!(
                        "column `{}` began with ids, now it is {}",
                        field.name(),
                        array.data_type()
                    );
                    ParquetError::ArrowError(message)
                })?;
                column.write(ids);
            }
            Self::Any(column) => {
                for leaf in compute_leaves(field, &column_in_lake(field.name(), array))? {
                    column.write(&leaf)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes that it will have in the file, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Ids(column) => column.bytes(),
            Self::Any(column) => column.get_estimated_total_bytes(),
        }
    }

    fn has_full_dictionary(&self) -> bool {
        match self {
            Self::Ids(column) => column.dictionary_bytes() > DICTIONARY_BYTES_MAX,
            // Its own writer goes on without one.
            Self::Any(_) => false,
        }
    }

    fn close(self) -> Result<ColumnChunk> {
        match self {
            Self::Ids(column) => column
                .close()
                .map(|(bytes, closed)| ColumnChunk::Ids(bytes, closed)),
            Self::Any(column) => column.close().map(ColumnChunk::Any),
        }
    }
}

/// A column of a row group that has ended.
enum ColumnChunk {
    Ids(Bytes, ColumnCloseResult),
    Any(ArrowColumnChunk),
}

impl ColumnChunk {
    fn append_to(self, group: &mut SerializedRowGroupWriter<'_, NewBytes>) -> Result<()> {
        match self {
            Self::Ids(bytes, closed) => group.append_column(&bytes, closed),
            Self::Any(chunk) => chunk.append_to_row_group(group),
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("sampled", &rows_of(&self.sample))
            .finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn begin(
        file: NewBytes,
        schema: SchemaRef,
        options: WriterOptions,
        stream: Arc<StreamDeclaration>,
    ) -> Result<Self> {
        let properties = properties(&schema, &options, &stream, &HashMap::new());
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
        let (file, _) = writer.into_serialized_writer()?;
        Ok(Self {
            schema,
            options,
            stream,
            file,
            sample: Vec::new(),
            group: None,
        })
    }

    /// Encodes rows, or lets them wait for a row group to begin.
    pub(super) fn write(&mut self, batches: Vec<RecordBatch>, threads: &EncodingThreads) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.sample);
        waiting.extend(batches);
        self.encode(waiting, false, threads)
    }

    /// Bytes that the file will have, about.
    pub(super) fn bytes(&self) -> usize {
        let waiting: usize = self.sample.iter().map(bytes_of_rows).sum();
        let group = self.group.iter().flat_map(|group| &group.columns);
        let encoded: usize = group.map(Column::bytes).sum();
        self.file.bytes_written() + encoded + waiting
    }

    /// Writes what waits and the footer.
    pub(super) fn finish(mut self, threads: &EncodingThreads) -> Result<NewBytes> {
        let waiting = std::mem::take(&mut self.sample);
        self.encode(waiting, true, threads)?;
        self.end_group(threads)?;
        self.file.into_inner()
    }

    fn begin_group(&self, sample: &[RecordBatch]) -> Result<Group> {
        let rows = self.options.row_group_rows;
        let repeating = (0..self.schema.fields().len()).filter_map(|column| {
            let distinct = repetition(sample, column, rows, DICTIONARY_BYTES_MAX)?;
            Some((column, distinct as u64))
        });
        let repeating: HashMap<usize, u64> = repeating.collect();
        let properties = properties(&self.schema, &self.options, &self.stream, &repeating);
        let root = self.file.schema_descr().root_schema_ptr();
        let nowhere = SerializedFileWriter::new(io::sink(), root, Arc::new(properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&nowhere, Arc::clone(&self.schema));
        let columns = factory.create_column_writers(self.file.flushed_row_groups().len())?;
        let columns = columns.into_iter().enumerate().map(|(number, any)| {
            self.ids(sample, number, repeating.get(&number).copied())
                .map_or_else(|| Column::Any(Box::new(any)), |ids| Column::Ids(Box::new(ids)))
        });
        Ok(Group {
            columns: columns.collect(),
            rows: 0,
        })
    }

    /// A column of ids that repeat, about so many different ones.
    fn ids(&self, sample: &[RecordBatch], number: usize, distinct: Option<u64>) -> Option<IdColumn> {
        let distinct = distinct?;
        sample.first()?.column(number).as_fixed_size_binary_opt()?;
        let name = self.schema.field(number).name();
        let rows = self.options.row_group_rows as u64;
        if name == TRACE_ID && distinct.saturating_mul(REQUEST_ROWS_MIN) > rows {
            return None;
        }
        let is_key = self.stream.key.as_ref() == Some(name);
        let descriptor = self.file.schema_descr().column(number);
        Some(IdColumn::new(
            descriptor,
            IdText::of(name),
            PAGE_ROWS,
            distinct,
            is_key,
        ))
    }

    /// Encodes rows into the row group, and into those after it when it is full. Too few to begin one with wait, unless
    /// they are the last ones.
    fn encode(
        &mut self,
        mut batches: Vec<RecordBatch>,
        are_last: bool,
        threads: &EncodingThreads,
    ) -> Result<()> {
        let rows_max = self.options.row_group_rows;
        while !batches.is_empty() {
            let begun = self.group.as_ref().map(|group| group.rows);
            if begun.is_none() && !are_last && rows_of(&batches) < SAMPLE_ROWS.min(rows_max) {
                self.sample = batches;
                return Ok(());
            }
            let rest = split_off(&mut batches, rows_max - begun.unwrap_or(0));
            let group = match self.group.take() {
                Some(group) => group,
                None => self.begin_group(&batches)?,
            };
            let group = self.group.insert(group);
            let columns = group.columns.iter_mut().zip(self.schema.fields());
            threads.each(columns.enumerate(), |(number, (column, field))| {
                let mut arrays = batches.iter().map(|rows| rows.column(number));
                arrays.try_for_each(|array| column.write(field, array))
            })?;
            group.rows += rows_of(&batches);
            // The first rows promised fewer ids than came: those of the next row group decide anew.
            let is_full = group.rows == rows_max || group.columns.iter().any(Column::has_full_dictionary);
            if is_full {
                self.end_group(threads)?;
            }
            batches = rest;
        }
        Ok(())
    }

    fn end_group(&mut self, threads: &EncodingThreads) -> Result<()> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        let mut chunks: Vec<Option<ColumnChunk>> = group.columns.iter().map(|_| None).collect();
        let columns = group.columns.into_iter().zip(&mut chunks);
        threads.each(columns, |(column, chunk)| {
            *chunk = Some(column.close()?);
            Ok::<_, ParquetError>(())
        })?;
        let mut ended = self.file.next_row_group()?;
        for chunk in chunks.into_iter().flatten() {
            chunk.append_to(&mut ended)?;
        }
        ended.close()?;
        Ok(())
    }
}

fn rows_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Leaves so many rows, and gives the others.
fn split_off(batches: &mut Vec<RecordBatch>, mut rows: usize) -> Vec<RecordBatch> {
    for number in 0..batches.len() {
        let found = batches[number].num_rows();
        if found > rows {
            let mut rest = batches.split_off(number);
            if rows > 0 {
                batches.push(rest[0].slice(0, rows));
                rest[0] = rest[0].slice(rows, found - rows);
            }
            return rest;
        }
        rows -= found;
    }
    Vec::new()
}

/// How columns are written, with a dictionary for the `repeating` ones, which have about so many different values.
fn properties(
    schema: &SchemaRef,
    options: &WriterOptions,
    stream: &StreamDeclaration,
    repeating: &HashMap<usize, u64>,
) -> WriterProperties {
    let kind = |name: &str| {
        stream
            .fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| &field.kind)
    };
    let text = if options.lz4 {
        Compression::LZ4_RAW
    } else {
        Compression::ZSTD(ZstdLevel::default())
    };
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_compression(text);
    for (number, field) in schema.fields().iter().enumerate() {
        let path = ColumnPath::from(field.name().as_str());
        match field.data_type() {
            DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                properties = properties
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_compression(path.clone(), Compression::UNCOMPRESSED);
            }
            _ if repeating.contains_key(&number) => {
                properties = properties.set_column_dictionary_enabled(path.clone(), true);
                if matches!(kind(field.name()), Some(FieldType::Uuid)) {
                    properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
                }
            }
            _ if matches!(kind(field.name()), Some(FieldType::Uuid)) => {
                properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
            }
            _ => {}
        }
        if stream.key.as_ref() == Some(field.name()) {
            properties = properties.set_column_bloom_filter_enabled(path.clone(), true);
            if let Some(distinct) = repeating.get(&number) {
                let room = distinct.saturating_mul(FILTER_ROOM).max(FILTER_VALUES_MIN);
                properties = properties.set_column_bloom_filter_max_ndv(path, room);
            }
        }
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;

    use super::*;

    #[test]
    fn batches_are_split_between_two_of_them_and_within_one() {
        let numbers = |values: std::ops::Range<i64>| {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
            RecordBatch::try_from_iter([("number", column)]).expect("one column")
        };
        let all = [numbers(0..3), numbers(3..4), numbers(4..9)];
        for (rows, first, others) in [
            (0, vec![], all.to_vec()),
            (
                1,
                vec![numbers(0..1)],
                vec![numbers(1..3), numbers(3..4), numbers(4..9)],
            ),
            (3, vec![numbers(0..3)], all[1..].to_vec()),
            (4, all[..2].to_vec(), vec![numbers(4..9)]),
            (
                8,
                vec![numbers(0..3), numbers(3..4), numbers(4..8)],
                vec![numbers(8..9)],
            ),
            (9, all.to_vec(), vec![]),
            (10, all.to_vec(), vec![]),
        ] {
            let mut batches = all.to_vec();
            let rest = split_off(&mut batches, rows);
            assert_eq!((batches, rest), (first, others), "after {rows} rows");
        }
    }
}
