//! The files of a version, as the log lists them, in index order.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StructArray};
use delta_kernel::FilteredEngineData;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use event::schema::RECEIVED_AT;

use crate::error::LakeError;
use crate::log::Add;
use crate::snapshot::DataFile;
use crate::table::Inner;

/// What the name of a merged file begins with; its smallest stable row id follows, in 20 digits.
const MERGED: &str = "merged-";

/// By what a file has its place in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Sorts the files of a table.
    pub(crate) order: i64,
    /// Delta's row id of the first row, where the file does not carry row ids itself.
    pub(crate) base_row_id: i64,
    /// The version that added the rows, where the file does not carry it itself.
    pub(crate) commit_version: i64,
}

/// A file and its place.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) place: Place,
    pub(crate) file: DataFile,
}

/// What decides the order of files, and nothing else does: the smallest stable row id of a merged file, which its
/// name carries because Delta gives a rewritten file a fresh `baseRowId`, and the `baseRowId` of any other.
fn order(path: &str, base_row_id: i64) -> i64 {
    let merged = path.strip_prefix(MERGED).and_then(|rest| rest.get(..20));
    merged
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(base_row_id)
}

/// A new name for the file that takes the place of those from `order` on.
pub(crate) fn merged_name(order: i64) -> String {
    format!("{MERGED}{order:020}-{}.parquet", uuid::Uuid::new_v4())
}

/// Puts files into index order and numbers them; the first one's index is `removed`.
pub(crate) fn arrange(mut listed: Vec<Listed>, removed: u64) -> (Arc<[DataFile]>, Arc<[Place]>) {
    listed.sort_by_key(|listed| listed.place.order);
    let mut next = removed;
    let (mut files, mut places) = (Vec::with_capacity(listed.len()), Vec::with_capacity(listed.len()));
    for Listed { place, mut file } in listed {
        file.first_index = next;
        next += file.rows;
        files.push(file);
        places.push(place);
    }
    (files.into(), places.into())
}

/// What a commit's statistics say about a file.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileStatistics {
    num_records: u64,
    #[serde(default)]
    min_values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    max_values: serde_json::Map<String, serde_json::Value>,
}

impl Listed {
    /// A file as a commit names it; `time` is the stream's time column.
    pub(crate) fn new(add: Add, time: &str) -> Result<Self, String> {
        let path = add.path;
        let (Some(base_row_id), Some(statistics)) = (add.base_row_id, add.stats) else {
            return Err(format!("file `{path}` has no base row id or no statistics"));
        };
        let found: FileStatistics =
            serde_json::from_str(&statistics).map_err(|error| format!("statistics of `{path}`: {error}"))?;
        let bound = |values: &serde_json::Map<String, serde_json::Value>, column: &str| {
            micros(values.get(column)?.as_str()?)
        };
        // What was written with milliseconds may have been cut by another writer.
        let upper = |column: &str| bound(&found.max_values, column).map(|micros| micros.saturating_add(999));
        Ok(Self {
            place: Place {
                order: order(&path, base_row_id),
                base_row_id,
                commit_version: add.default_row_commit_version.unwrap_or_default(),
            },
            file: DataFile {
                bytes: add.size,
                rows: found.num_records,
                first_index: 0,
                time_min: bound(&found.min_values, time),
                time_max: upper(time),
                received_max: upper(RECEIVED_AT),
                path,
            },
        })
    }
}

/// A moment as Delta writes it into statistics.
fn micros(text: &str) -> Option<i64> {
    let nanoseconds = arrow_cast::parse::string_to_timestamp_nanos(text).ok()?;
    Some(nanoseconds.div_euclid(1_000))
}

/// Lists all files of a version, from its checkpoint on.
pub(crate) fn read(table: &Inner, delta: &SnapshotRef) -> Result<Vec<Listed>, LakeError> {
    let mut files = Vec::new();
    scan(table, delta, |listed| {
        add(table, listed.record_batch(), &mut files)?;
        Ok(None)
    })?;
    Ok(files)
}

/// The kernel's own rows of some files of a version, as it wants them when they are removed.
pub(crate) fn rows_of(
    table: &Inner,
    delta: &SnapshotRef,
    paths: &HashSet<String>,
) -> Result<Vec<FilteredEngineData>, LakeError> {
    scan(table, delta, |listed| {
        let names = texts(listed.record_batch(), "path")?;
        let chosen: Vec<_> = names
            .iter()
            .map(|path| path.is_some_and(|path| paths.contains(path)))
            .collect();
        Ok(chosen.contains(&true).then_some(chosen))
    })
}

/// Reads a version's list of files; gives back what `choose` chooses of it.
fn scan(
    table: &Inner,
    delta: &SnapshotRef,
    mut choose: impl FnMut(&ArrowEngineData) -> Result<Option<Vec<bool>>, String>,
) -> Result<Vec<FilteredEngineData>, LakeError> {
    let failed = |error: &dyn std::fmt::Display| table.failed("list the files of", error);
    let scan = Arc::clone(delta).scan_builder().build();
    let scan = scan.map_err(|error| failed(&error))?;
    let mut chosen = Vec::new();
    for metadata in scan
        .scan_metadata(table.engine())
        .map_err(|error| failed(&error))?
    {
        let listed = metadata.map_err(|error| failed(&error))?.scan_files;
        let data = listed
            .apply_selection_vector()
            .and_then(ArrowEngineData::try_from_engine_data);
        let data = data.map_err(|error| failed(&error))?;
        if let Some(rows) = choose(&data).map_err(|message| failed(&message))? {
            chosen.push(FilteredEngineData::try_new(data, rows).map_err(|error| failed(&error))?);
        }
    }
    Ok(chosen)
}

fn texts<'a>(listed: &'a RecordBatch, name: &str) -> Result<&'a arrow_array::StringArray, String> {
    let column = listed.column_by_name(name);
    column
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| format!("the kernel gives no `{name}`"))
}

fn add(table: &Inner, listed: &RecordBatch, files: &mut Vec<Listed>) -> Result<(), String> {
    let (paths, statistics) = (texts(listed, "path")?, texts(listed, "stats")?);
    let sizes = listed
        .column_by_name("size")
        .and_then(|sizes| sizes.as_primitive_opt::<Int64Type>())
        .ok_or("the kernel gives no `size`")?;
    let constants: &StructArray = listed
        .column_by_name("fileConstantValues")
        .and_then(|constants| constants.as_struct_opt())
        .ok_or("the kernel gives no constant values")?;
    let constant = |name: &str| {
        constants
            .column_by_name(name)
            .and_then(|ids| ids.as_primitive_opt::<Int64Type>())
            .ok_or_else(|| format!("the kernel gives no `{name}`"))
    };
    let (bases, versions) = (constant("baseRowId")?, constant("defaultRowCommitVersion")?);
    for row in 0..listed.num_rows() {
        let add = Add {
            path: paths.value(row).to_owned(),
            size: u64::try_from(sizes.value(row)).unwrap_or_default(),
            stats: statistics.is_valid(row).then(|| statistics.value(row).to_owned()),
            base_row_id: bases.is_valid(row).then(|| bases.value(row)),
            default_row_commit_version: versions.is_valid(row).then(|| versions.value(row)),
        };
        files.push(Listed::new(add, table.stream.time_column())?);
    }
    Ok(())
}
