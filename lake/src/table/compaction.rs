//! Compaction: small neighbours become one file, and nothing that a reader can ask for changes.
//!
//! Rows keep their order, so no index changes; the merged file carries the place of its first row in its name (see
//! `files`), because Delta gives a rewritten file a fresh `baseRowId`. For other readers each row's stable id and
//! commit version go into the columns that the table names for them.
//!
//! # Which files
//! A run of small neighbours is merged when its largest file is at most twice as large as the others together. So
//! every merge makes a row's file half as large again at least, and a large file is not rewritten for each little one.
//!
//! # Beside appends
//! Reading and writing happen outside of the commit lock. A commit that comes in between is no obstacle: the change
//! is tried again on top of it, as long as the merged files are still there, next to each other and in their order. So
//! when two processes merge the same files, the second one gives its merge up.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use delta_kernel::transaction::UpdateTableOperation;

use super::commit::Change;
use super::{Current, Inner};
use crate::error::{CommitError, LakeError};
use crate::files::{Place, merged_name};
use crate::options::{CompactOptions, WriterOptions};
use crate::snapshot::DataFile;
use crate::writer::{FileWriter, WrittenFile};

/// Most files of one merge: what a commit names, and what is lost when it is cancelled.
const FILES_MAX: usize = 512;
/// Rows that are read at once.
const BATCH_ROWS: usize = 8_192;
/// Where a table's properties name the columns of stable row ids and commit versions.
const ROW_ID: &str = "delta.rowTracking.materializedRowIdColumnName";
const COMMIT_VERSION: &str = "delta.rowTracking.materializedRowCommitVersionColumnName";

/// Stops a merge when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file that can take the place of others.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) file: WrittenFile,
    /// In index order.
    pub(super) sources: Vec<String>,
}

impl Inner {
    /// Merges the first files that shall be merged; `None` when there are none, or when it was cancelled.
    pub(super) fn merge(
        &self,
        options: &CompactOptions,
        writer: &WriterOptions,
        cancelled: &AtomicBool,
    ) -> Result<Option<Merged>, LakeError> {
        let Some(current) = self.refresh()? else {
            return Ok(None);
        };
        let Some(range) = plan(&current.ours.files, options) else {
            return Ok(None);
        };
        let columns = Columns::of(self, &current)?;
        let file = self.new_file(merged_name(current.places[range.start].order));
        let schema = Arc::clone(&columns.schema);
        let mut merged = FileWriter::new(file, schema, Arc::clone(&current.ours.schema), writer.clone());
        let sources: Vec<_> = range.collect();
        for source in &sources {
            let (file, place) = (&current.ours.files[*source], &current.places[*source]);
            if !self.copy(file, *place, &columns, &mut merged, cancelled)? {
                drop(merged);
                return Ok(None);
            }
        }
        let names = sources
            .iter()
            .map(|source| current.ours.files[*source].path.clone());
        Ok(Some(Merged {
            sources: names.collect(),
            file: merged.finish()?,
        }))
    }

    /// Copies a file's rows; `false` when it was cancelled.
    fn copy(
        &self,
        file: &DataFile,
        place: Place,
        columns: &Columns,
        merged: &mut FileWriter,
        cancelled: &AtomicBool,
    ) -> Result<bool, LakeError> {
        let failed = |error: &dyn std::fmt::Display| self.failed("read a file of", error);
        let opened = self.storage.open(&file.path, file.bytes, BATCH_ROWS, None);
        let mut row = 0;
        for rows in opened.map_err(|error| failed(&error))?.reader {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let rows = rows.map_err(|error| failed(&error))?;
            let widened = columns.widen(&rows, place, row);
            merged.write(&widened.map_err(|message| failed(&message))?)?;
            row += rows.num_rows() as u64;
        }
        if row == file.rows {
            return Ok(true);
        }
        // Merging it would make the loss final.
        Err(LakeError::Damaged {
            stream: self.stream.name.to_string(),
            message: format!("file `{}` has {row} rows, the log says {}", file.path, file.rows),
        })
    }

    /// Lets a merged file take its sources' place; `false` when they are not there any more as they were.
    pub(super) fn replace(&self, merged: &Merged) -> Result<bool, CommitError> {
        let settled = self.settle(|current| {
            let there = are_neighbours(&current.ours.files, &merged.sources);
            Ok(there.then(|| Change {
                changes_data: false,
                removes: merged.sources.iter().cloned().collect(),
                ..Change::new(UpdateTableOperation::Optimize, std::slice::from_ref(&merged.file))
            }))
        })?;
        Ok(settled
            .ours
            .files
            .iter()
            .any(|file| file.path == merged.file.path))
    }
}

/// Whether these files are listed, one right after the other.
fn are_neighbours(files: &[DataFile], paths: &[String]) -> bool {
    let Some(first) = files.iter().position(|file| Some(&file.path) == paths.first()) else {
        return false;
    };
    let listed = files[first..].iter().map(|file| &file.path);
    listed.take(paths.len()).eq(paths)
}

/// The first run of neighbours that is worth a merge.
fn plan(files: &[DataFile], options: &CompactOptions) -> Option<Range<usize>> {
    (0..files.len()).find_map(|start| {
        let (mut sum, mut largest, mut end) = (0_u64, 0, None);
        for (index, file) in files.iter().enumerate().skip(start).take(FILES_MAX) {
            sum += file.bytes;
            if file.bytes >= options.small_bytes || sum > options.target_bytes {
                break;
            }
            largest = largest.max(file.bytes);
            if index > start && largest <= 2 * (sum - largest) {
                end = Some(index + 1);
            }
        }
        end.map(|end| start..end)
    })
}

/// The columns of a merged file: the table's, each row's stable id, and the version that added it.
struct Columns {
    table: SchemaRef,
    schema: SchemaRef,
}

impl Columns {
    fn of(table: &Inner, current: &Current) -> Result<Self, LakeError> {
        let mut fields = current.ours.schema.fields().to_vec();
        for key in [ROW_ID, COMMIT_VERSION] {
            let name = current.delta.metadata_configuration().get(key);
            let name = name.ok_or_else(|| table.failed("compact", &format!("it has no property `{key}`")))?;
            fields.push(Arc::new(Field::new(name, DataType::Int64, true)));
        }
        Ok(Self {
            table: Arc::clone(&current.ours.schema),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// Rows of a file, from its row `first` on, with all columns. A column that an older file lacks is null.
    fn widen(&self, rows: &RecordBatch, place: Place, first: u64) -> Result<RecordBatch, String> {
        let count = rows.num_rows();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for field in self.table.fields() {
            columns.push(match rows.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => new_null_array(field.data_type(), count),
            });
        }
        let first = place.base_row_id + i64::try_from(first).map_err(|error| error.to_string())?;
        let fresh = Int64Array::from_iter_values((first..).take(count));
        let version = Int64Array::from_value(place.commit_version, count);
        for (field, default) in self.schema.fields()[self.table.fields().len()..]
            .iter()
            .zip([fresh, version])
        {
            columns.push(match rows.column_by_name(field.name()) {
                Some(stored) => kept_or(stored, &default)?,
                None => Arc::new(default),
            });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| error.to_string())
    }
}

/// What a file carries itself, and the default where it does not.
fn kept_or(stored: &ArrayRef, default: &Int64Array) -> Result<ArrayRef, String> {
    let stored = stored
        .as_primitive_opt::<Int64Type>()
        .ok_or("row ids are no numbers")?;
    if stored.null_count() == 0 {
        return Ok(Arc::new(stored.clone()));
    }
    let merged = stored
        .iter()
        .zip(default.values())
        .map(|(kept, default)| kept.unwrap_or(*default));
    Ok(Arc::new(Int64Array::from_iter_values(merged)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sizes: &[u64]) -> Option<Range<usize>> {
        let file = |bytes: &u64| DataFile {
            path: String::new(),
            bytes: *bytes,
            rows: 1,
            first_index: 0,
            time_min: None,
            time_max: None,
            received_max: None,
        };
        let files: Vec<_> = sizes.iter().map(file).collect();
        let options = CompactOptions {
            small_bytes: 64,
            target_bytes: 128,
        };
        plan(&files, &options)
    }

    #[test]
    fn small_neighbours_are_merged_up_to_the_target() {
        assert_eq!(planned(&[10, 10]), Some(0..2));
        assert_eq!(planned(&[100, 10, 10, 100]), Some(1..3));
        assert_eq!(planned(&[50, 50, 50]), Some(0..2));
    }

    #[test]
    fn sources_are_there_when_they_are_next_to_each_other_in_their_order() {
        let file = |path: &str| DataFile {
            path: path.to_owned(),
            bytes: 1,
            rows: 1,
            first_index: 0,
            time_min: None,
            time_max: None,
            received_max: None,
        };
        let files: Vec<_> = ["a", "b", "c", "d"].into_iter().map(file).collect();
        let there = |paths: &[&str]| {
            are_neighbours(&files, &paths.iter().map(|&path| path.into()).collect::<Vec<_>>())
        };
        assert!(there(&["a", "b"]) && there(&["c", "d"]) && there(&["b"]));
        assert!(!there(&["a", "c"]) && !there(&["b", "a"]) && !there(&["d", "e"]) && !there(&[]));
    }

    #[test]
    fn a_large_file_is_not_rewritten_for_a_little_one() {
        assert_eq!(planned(&[60, 1]), None);
        assert_eq!(planned(&[60, 1, 1]), Some(1..3));
        assert_eq!(planned(&[100, 100]), None);
        assert_eq!(planned(&[]), None);
    }
}
