//! Files as the engine's scan asks for them: with the footers that are kept for everybody, and from this machine without
//! a detour.
//!
//! The engine's own reader of files keeps footers too, but not their page indexes: it would read and decode those again
//! each time that it opens a file, which is several times in a question whose threads take turns. And it would have
//! another thread copy the bytes of a local file out of the page cache, and wait for it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use lake::{FileLocation, ObjectFile};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::files::Files;

/// Opens the files of scans, each of which says by an extension where it is (`FileLocation`).
pub(crate) struct FileReaders(pub(crate) Arc<Files>);

impl fmt::Debug for FileReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReaders").finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for FileReaders {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let location = file.extensions.get::<FileLocation>().cloned();
        let location = location.ok_or_else(|| internal_datafusion_err!("a file of a scan has no place"))?;
        Ok(Box::new(ScannedFile {
            files: Arc::clone(&self.0),
            location,
            bytes: file.object_meta.size,
            opened: None,
        }))
    }
}

/// One file of a scan.
struct ScannedFile {
    files: Arc<Files>,
    location: FileLocation,
    bytes: u64,
    /// A file of this machine, once something of it was read.
    opened: Option<File>,
}

impl ScannedFile {
    async fn read(&mut self, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Vec<Bytes>> {
        match &self.location {
            FileLocation::Local(path) => {
                let mut file = match self.opened.take() {
                    Some(file) => file,
                    None => File::open(path)?,
                };
                let read = ranges.into_iter().map(|range| part(&mut file, range)).collect();
                self.opened = Some(file);
                read
            }
            FileLocation::Bucket { store, path } => {
                let mut object = ObjectFile::new(store, path.clone(), self.bytes);
                object.get_byte_ranges(ranges).await
            }
        }
    }
}

/// Some bytes of a file, into memory that nobody has written to before.
fn part(file: &mut File, range: Range<u64>) -> parquet::errors::Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let mut bytes = Vec::with_capacity(usize::try_from(length)?);
    file.seek(SeekFrom::Start(range.start))?;
    let count = file.take(length).read_to_end(&mut bytes)?;
    if count as u64 == length {
        Ok(bytes.into())
    } else {
        let message = format!("it ends {count} bytes after byte {}, not {length}", range.start);
        Err(ParquetError::EOF(message))
    }
}

impl AsyncFileReader for ScannedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let read = async move {
            let mut read = self.read(vec![range]).await?;
            read.pop()
                .ok_or_else(|| ParquetError::EOF("nothing was read".to_owned()))
        };
        read.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.read(ranges).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let read = async move {
            let footer = self.files.footer(&self.location, self.bytes).await;
            let footer = footer.map_err(|error| ParquetError::External(Box::new(error)))?;
            Ok(Arc::clone(footer.metadata()))
        };
        read.boxed()
    }
}
