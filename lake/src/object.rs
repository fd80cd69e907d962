//! A Parquet file in a bucket, as Parquet's own readers ask for it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// Bytes that are fetched from the end at first: most footers, and the page indexes before them, come with it.
const FOOTER_BYTES: usize = 64 << 10;

/// A Parquet file in a bucket.
#[derive(Clone, Debug)]
pub struct ObjectFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl ObjectFile {
    /// An object of so many bytes.
    #[must_use]
    pub fn new(store: &Arc<dyn ObjectStore>, path: Path, bytes: u64) -> Self {
        Self {
            store: Arc::clone(store),
            path,
            bytes,
        }
    }
}

impl AsyncFileReader for ObjectFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        let read = async move { self.store.get_range(&self.path, range).await.map_err(external) };
        read.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let read = async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) };
        read.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let read = async move {
            let bytes = self.bytes;
            let metadata = ParquetMetaDataReader::new()
                .with_prefetch_hint(Some(FOOTER_BYTES))
                .with_arrow_reader_options(options)
                .load_and_finish(self, bytes)
                .await?;
            Ok(Arc::new(metadata))
        };
        read.boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
