//! Direct reading of the lake's Parquet files, with footers and page indexes kept.
//!
//! A file of this machine is read page by page as its rows are asked for, on the thread that asks; a few rows are taken
//! out of their pages (`pages`). Of an object in a bucket the pages that a question needs of one row group are fetched
//! together.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use lake::{FileLocation, ObjectFile};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderBuilder, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy};

use crate::QueryError;
use crate::cache::Cache;
use crate::pages::Pages;

/// Bytes of footers that are kept: with its page index that of a large file has some hundreds of kilobytes.
const FOOTER_BYTES_MAX: usize = 128 << 20;

/// Most bytes that are read as one; a bloom filter is never larger than this and its header.
const FILTER_BYTES_MAX: usize = 129 << 20;

/// Opens files.
pub(crate) struct Files {
    footers: Cache<String, ArrowReaderMetadata>,
    pages: Pages,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            footers: Cache::new(FOOTER_BYTES_MAX),
            pages: Pages::default(),
        }
    }

    /// Reads rows [from, from + take) of a file of so many bytes; only `columns`. Columns that the file does not have
    /// are left out.
    pub(crate) async fn read(
        &self,
        location: &FileLocation,
        bytes: u64,
        wanted: Wanted<'_>,
    ) -> Result<Rows, QueryError> {
        match location {
            FileLocation::Local(path) => {
                let file = open(path)?;
                let footer = match self.footers.get(&location.to_string()) {
                    Some(footer) => footer,
                    None => self.load(location, &file)?,
                };
                if let Some(take) = wanted.take {
                    let name = path.to_string_lossy();
                    let rows = (wanted.from, take);
                    if let Some(rows) = self.pages.read(&name, &file, &footer, rows, wanted.columns) {
                        return Ok(stream::iter([Ok(rows)]).boxed());
                    }
                }
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer);
                let rows = wanted.of(builder).build()?;
                Ok(stream::iter(rows.map(|rows| rows.map_err(ParquetError::from))).boxed())
            }
            FileLocation::Bucket { store, path } => {
                let footer = self.footer(location, bytes).await?;
                let object = ObjectFile::new(store, path.clone(), bytes);
                let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(object, footer);
                Ok(wanted.of(builder).build()?.boxed())
            }
        }
    }

    /// Goes through the rows of a row group of a file of this machine, as [`Pages::with_texts`] does.
    pub(crate) fn with_texts(
        &self,
        (path, file): (&Path, &File),
        footer: &ArrowReaderMetadata,
        place: (usize, usize),
        texts: &[String],
        see: impl FnMut(bool, usize) -> Option<()>,
    ) -> Option<()> {
        self.pages
            .with_texts(&path.to_string_lossy(), file, footer, place, texts, see)
    }

    /// The same, as [`Pages::with_passing_texts`] does.
    pub(crate) fn with_passing_texts(
        &self,
        (path, file): (&Path, &File),
        footer: &ArrowReaderMetadata,
        place: (usize, usize),
        judge: impl FnOnce(&ArrayRef) -> Option<(Vec<bool>, bool)>,
        see: impl FnMut(bool, usize) -> Option<()>,
    ) -> Option<()> {
        self.pages
            .with_passing_texts(&path.to_string_lossy(), file, footer, place, judge, see)
    }

    /// Whether the texts of a column of a row group are in memory.
    pub(crate) fn keeps_texts(&self, path: &Path, place: (usize, usize)) -> bool {
        self.pages.keeps_texts(&path.to_string_lossy(), place)
    }

    /// The parts of a file, from row `from` on, that can hold a row that passes: (first row, rows), in order.
    /// Says so by the bounds of the column `time` in each page, or in each row group of a file without a page
    /// index; `passes` gets them, or nothing where they are not known.
    pub(crate) async fn stretches(
        &self,
        location: &FileLocation,
        bytes: u64,
        from: u64,
        time: &str,
        passes: impl Fn(Option<i64>, Option<i64>) -> bool,
    ) -> Result<Vec<(u64, u64)>, QueryError> {
        let footer = self.footer(location, bytes).await?;
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        for (rows, min, max) in bounds(&footer, time)? {
            let first = at.max(from);
            at += rows;
            if first >= at || !passes(min, max) {
                continue;
            }
            match stretches.last_mut() {
                Some((start, count)) if *start + *count == first => *count += at - first,
                _ => stretches.push((first, at - first)),
            }
        }
        Ok(stretches)
    }

    /// The pages of a column of moments with the highest in each; row groups of a file without a page index.
    pub(crate) async fn pages(
        &self,
        location: &FileLocation,
        bytes: u64,
        column: &str,
    ) -> Result<Vec<Page>, QueryError> {
        let footer = self.footer(location, bytes).await?;
        let mut first = 0;
        let mut pages = Vec::new();
        for (rows, _, max) in bounds(&footer, column)? {
            pages.push(Page { first, rows, max });
            first += rows;
        }
        Ok(pages)
    }

    /// Rows and bounds of a column of moments, as [`Bounds`] has them.
    pub(crate) async fn bounds(
        &self,
        location: &FileLocation,
        bytes: u64,
        column: &str,
    ) -> Result<Bounds, QueryError> {
        bounds(&self.footer(location, bytes).await?, column)
    }

    /// Some bytes of a file of so many.
    pub(crate) async fn bytes(
        &self,
        location: &FileLocation,
        file_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, QueryError> {
        match location {
            FileLocation::Local(path) => {
                let length = usize::try_from(range.end.saturating_sub(range.start));
                let mut bytes = vec![0; length.unwrap_or(usize::MAX).min(FILTER_BYTES_MAX)];
                open(path)?.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes.into())
            }
            FileLocation::Bucket { store, path } => {
                let mut object = ObjectFile::new(store, path.clone(), file_bytes);
                Ok(object.get_bytes(range).await?)
            }
        }
    }

    /// The footer of a file of so many bytes.
    pub(crate) async fn footer(
        &self,
        location: &FileLocation,
        bytes: u64,
    ) -> Result<ArrowReaderMetadata, QueryError> {
        if let Some(footer) = self.footers.get(&location.to_string()) {
            return Ok(footer);
        }
        match location {
            FileLocation::Local(path) => self.load(location, &open(path)?),
            FileLocation::Bucket { store, path } => {
                let mut object = ObjectFile::new(store, path.clone(), bytes);
                let footer = ArrowReaderMetadata::load_async(&mut object, with_pages()).await?;
                Ok(self.keep(location, footer))
            }
        }
    }

    /// The footer of a file of this machine; nothing of others, or when it cannot be read.
    pub(crate) fn local_footer(&self, location: &FileLocation) -> Option<ArrowReaderMetadata> {
        let FileLocation::Local(path) = location else {
            return None;
        };
        let kept = self.footers.get(&location.to_string());
        kept.or_else(|| self.load(location, &open(path).ok()?).ok())
    }

    fn load(&self, location: &FileLocation, file: &File) -> Result<ArrowReaderMetadata, QueryError> {
        Ok(self.keep(location, ArrowReaderMetadata::load(file, with_pages())?))
    }

    fn keep(&self, location: &FileLocation, footer: ArrowReaderMetadata) -> ArrowReaderMetadata {
        let bytes = footer.metadata().memory_size();
        self.footers.keep(location.to_string(), footer.clone(), bytes);
        footer
    }
}

/// Some rows of a file that follow each other.
pub(crate) struct Page {
    /// The first.
    pub(crate) first: u64,
    /// How many.
    pub(crate) rows: u64,
    /// No moment in them is higher, where that is known.
    pub(crate) max: Option<i64>,
}

/// Rows of a file, one batch after the other.
pub(crate) type Rows = BoxStream<'static, Result<RecordBatch, ParquetError>>;

/// What is wanted of a file.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The first row.
    pub(crate) from: u64,
    /// How many; the rest when absent.
    pub(crate) take: Option<usize>,
    /// Their columns.
    pub(crate) columns: &'a [String],
}

impl Wanted<'_> {
    /// Lets a reader read nothing else.
    fn of<T>(self, mut builder: ArrowReaderBuilder<T>) -> ArrowReaderBuilder<T> {
        let (mut groups, mut skip) = (Vec::new(), self.from);
        for (number, group) in builder.metadata().row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            if groups.is_empty() && skip >= rows {
                skip -= rows;
            } else {
                groups.push(number);
            }
        }
        if groups.is_empty() {
            skip = 0;
        }
        let names = self.columns.iter().map(String::as_str);
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        builder = builder
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(self.take.unwrap_or(8_192).clamp(1, 8_192))
            .with_offset(usize::try_from(skip).unwrap_or(usize::MAX));
        match self.take {
            Some(take) => builder.with_limit(take),
            None => builder,
        }
    }
}

fn with_pages() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional)
}

/// Where a column of a row group has its bloom filter, if it has one of a sensible size.
pub(crate) fn bloom_filter_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let offset = u64::try_from(column.bloom_filter_offset()?).ok()?;
    let length = u64::try_from(column.bloom_filter_length()?).ok()?;
    (length <= FILTER_BYTES_MAX as u64).then(|| offset..offset.saturating_add(length))
}

/// Opens a file of this machine.
pub(crate) fn open(path: &Path) -> Result<File, QueryError> {
    File::open(path).map_err(|error| QueryError::Storage(format!("open `{}`: {error}", path.display())))
}

/// Rows and bounds of a time column, page by page or, without a page index, row group by row group.
pub(crate) type Bounds = Vec<(u64, Option<i64>, Option<i64>)>;

fn bounds(footer: &ArrowReaderMetadata, time: &str) -> Result<Bounds, QueryError> {
    let metadata = footer.metadata();
    let groups = metadata.row_groups();
    let unknown = || {
        let rows = groups
            .iter()
            .map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
        rows.map(|rows| (rows, None, None)).collect()
    };
    let Ok(converter) = StatisticsConverter::try_new(time, footer.schema(), footer.parquet_schema()) else {
        return Ok(unknown());
    };
    if converter.parquet_column_index().is_none() {
        return Ok(unknown());
    }
    let (counts, mins, maxes) = match (metadata.column_index(), metadata.offset_index()) {
        (Some(columns), Some(offsets)) => {
            let all: Vec<usize> = (0..groups.len()).collect();
            let Some(counts) = converter.data_page_row_counts(offsets, groups, &all)? else {
                return Ok(unknown());
            };
            let mins = converter.data_page_mins(columns, offsets, &all)?;
            (counts, mins, converter.data_page_maxes(columns, offsets, &all)?)
        }
        _ => {
            let Some(counts) = converter.row_group_row_counts(groups)? else {
                return Ok(unknown());
            };
            let mins = converter.row_group_mins(groups)?;
            (counts, mins, converter.row_group_maxes(groups)?)
        }
    };
    let times = |values: &ArrayRef| values.as_primitive_opt::<TimestampMicrosecondType>().cloned();
    let (Some(mins), Some(maxes)) = (times(&mins), times(&maxes)) else {
        return Ok(unknown());
    };
    if mins.len() != counts.len() || maxes.len() != counts.len() {
        return Ok(unknown());
    }
    let known = |values: &TimestampMicrosecondArray, at: usize| values.is_valid(at).then(|| values.value(at));
    let pages = counts.values().iter().enumerate();
    Ok(pages
        .map(|(at, rows)| (*rows, known(&mins, at), known(&maxes, at)))
        .collect())
}
