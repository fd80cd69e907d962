//! Direct reading of the lake's Parquet files, with footers and page indexes kept.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;

use crate::QueryError;

/// Footers that are kept: at some tens of kilobytes with their page index, some tens of megabytes.
const FOOTERS_MAX: usize = 1_024;

#[derive(Default)]
struct Footers {
    by_path: HashMap<PathBuf, ArrowReaderMetadata>,
    order: VecDeque<PathBuf>,
}

/// Opens files. They never change, so a footer holds for ever.
pub(crate) struct Files {
    footers: Mutex<Footers>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            footers: Mutex::default(),
        }
    }

    /// Reads rows [from, from + take) of a file; only `columns`, all when `None`. Columns that the file does not
    /// have are left out.
    pub(crate) fn read(
        &self,
        path: &Path,
        from: u64,
        take: Option<usize>,
        columns: Option<&[String]>,
    ) -> Result<ParquetRecordBatchReader, QueryError> {
        let file = File::open(path)
            .map_err(|error| QueryError::Storage(format!("open `{}`: {error}", path.display())))?;
        let footer = self.footer(path, &file)?;
        let (mut groups, mut skip) = (Vec::new(), from);
        for (number, group) in footer.metadata().row_groups().iter().enumerate() {
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
        let mask = match columns {
            Some(columns) => {
                ProjectionMask::columns(footer.parquet_schema(), columns.iter().map(String::as_str))
            }
            None => ProjectionMask::all(),
        };
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(take.unwrap_or(8_192).clamp(1, 8_192))
            .with_offset(usize::try_from(skip).unwrap_or(usize::MAX));
        if let Some(take) = take {
            builder = builder.with_limit(take);
        }
        Ok(builder.build()?)
    }

    fn footer(&self, path: &Path, file: &File) -> Result<ArrowReaderMetadata, QueryError> {
        {
            let footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(footer) = footers.by_path.get(path) {
                return Ok(footer.clone());
            }
        }
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load(file, options)?;
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if footers.by_path.insert(path.to_owned(), footer.clone()).is_none() {
            footers.order.push_back(path.to_owned());
        }
        if footers.order.len() > FOOTERS_MAX
            && let Some(oldest) = footers.order.pop_front()
        {
            footers.by_path.remove(&oldest);
        }
        Ok(footer)
    }
}
