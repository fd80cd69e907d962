//! The rows of a Parquet file, one batch after the other, for compaction and verification.
//!
//! Of an object the column chunks of one row group are fetched at a time: so much memory it takes.

use std::fs::File;
use std::path::Path as FilePath;

use arrow_array::RecordBatch;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderBuilder, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::Result;
use tokio::runtime::Handle;

use crate::bucket::Bucket;
use crate::object::ObjectFile;
use crate::runtime;

/// An opened file.
pub(crate) struct Opened {
    /// Rows that its footer tells of.
    pub(crate) rows: i64,
    /// Its rows.
    pub(crate) reader: Rows,
}

/// The rows.
pub(crate) enum Rows {
    /// Of a file.
    Local(Box<ParquetRecordBatchReader>),
    /// Of an object.
    Bucket {
        stream: BoxStream<'static, Result<RecordBatch>>,
        handle: Handle,
    },
}

impl Iterator for Rows {
    type Item = std::result::Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Local(reader) => reader.next().map(|rows| rows.map_err(|error| error.to_string())),
            Self::Bucket { stream, handle } => {
                let next = handle.block_on(stream.next());
                next.map(|rows| rows.map_err(|error| error.to_string()))
            }
        }
    }
}

pub(super) fn open_file(
    path: &FilePath,
    rows: usize,
    columns: Option<&[&str]>,
) -> std::result::Result<Opened, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let counted = builder.metadata().file_metadata().num_rows();
    let reader = of_columns(builder.with_batch_size(rows), columns).build();
    Ok(Opened {
        rows: counted,
        reader: Rows::Local(Box::new(reader.map_err(|error| error.to_string())?)),
    })
}

pub(super) fn open_object(
    bucket: &Bucket,
    path: Path,
    bytes: u64,
    rows: usize,
    columns: Option<&[&str]>,
) -> std::result::Result<Opened, String> {
    let handle = runtime::handle().map_err(|error| error.to_string())?;
    let object = ObjectFile::new(&bucket.store, path, bytes);
    let builder = handle.block_on(ParquetRecordBatchStreamBuilder::new(object));
    let builder = builder.map_err(|error| error.to_string())?;
    let counted = builder.metadata().file_metadata().num_rows();
    let stream = of_columns(builder.with_batch_size(rows), columns).build();
    Ok(Opened {
        rows: counted,
        reader: Rows::Bucket {
            stream: stream.map_err(|error| error.to_string())?.boxed(),
            handle,
        },
    })
}

fn of_columns<T>(builder: ArrowReaderBuilder<T>, columns: Option<&[&str]>) -> ArrowReaderBuilder<T> {
    let Some(columns) = columns else {
        return builder;
    };
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder.with_projection(mask)
}
