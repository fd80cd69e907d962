//! The files of a version, as the log lists them, in index order.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StructArray};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;

use crate::error::LakeError;
use crate::snapshot::DataFile;
use crate::table::Inner;

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

/// A file and where it stands in the order of the table.
struct Ordered {
    base_row_id: i64,
    file: DataFile,
}

/// Lists the files of a version; the first one's index is `removed`.
pub(crate) fn read(table: &Inner, delta: &SnapshotRef, removed: u64) -> Result<Arc<[DataFile]>, LakeError> {
    let failed = |error: &dyn std::fmt::Display| table.failed("list the files of", error);
    let scan = Arc::clone(delta)
        .scan_builder()
        .build()
        .map_err(|error| failed(&error))?;
    let mut files = Vec::new();
    for metadata in scan
        .scan_metadata(table.engine())
        .map_err(|error| failed(&error))?
    {
        let listed = metadata.map_err(|error| failed(&error))?.scan_files;
        let data = listed
            .apply_selection_vector()
            .and_then(ArrowEngineData::try_from_engine_data);
        let data = data.map_err(|error| failed(&error))?;
        add(table, data.record_batch(), &mut files).map_err(|message| failed(&message))?;
    }
    files.sort_by_key(|ordered| ordered.base_row_id);
    let mut next = removed;
    let indexed = files.into_iter().map(|Ordered { mut file, .. }| {
        file.first_index = next;
        next += file.rows;
        file
    });
    Ok(indexed.collect())
}

fn add(table: &Inner, listed: &RecordBatch, files: &mut Vec<Ordered>) -> Result<(), String> {
    let column = |name: &str| {
        listed
            .column_by_name(name)
            .ok_or_else(|| format!("the kernel gives no `{name}`"))
    };
    let paths = column("path")?
        .as_string_opt::<i32>()
        .ok_or("`path` is no text")?;
    let sizes = column("size")?
        .as_primitive_opt::<Int64Type>()
        .ok_or("`size` is no number")?;
    let statistics = column("stats")?
        .as_string_opt::<i32>()
        .ok_or("`stats` is no text")?;
    let constants: &StructArray = column("fileConstantValues")?
        .as_struct_opt()
        .ok_or("no constant values")?;
    let base = constants
        .column_by_name("baseRowId")
        .and_then(|ids| ids.as_primitive_opt::<Int64Type>());
    let base = base.ok_or("the kernel gives no `baseRowId`")?;
    for row in 0..listed.num_rows() {
        let path = paths.value(row).to_owned();
        if base.is_null(row) || statistics.is_null(row) {
            return Err(format!("file `{path}` has no base row id or no statistics"));
        }
        let found: FileStatistics = serde_json::from_str(statistics.value(row))
            .map_err(|error| format!("statistics of `{path}`: {error}"))?;
        let time = table.stream.time_column();
        let bound = |values: &serde_json::Map<String, serde_json::Value>| micros(values.get(time)?.as_str()?);
        let file = DataFile {
            bytes: u64::try_from(sizes.value(row)).unwrap_or_default(),
            rows: found.num_records,
            first_index: 0,
            time_min: bound(&found.min_values),
            // What was written with milliseconds may have been cut by another writer.
            time_max: bound(&found.max_values).map(|micros| micros.saturating_add(999)),
            path,
        };
        files.push(Ordered {
            base_row_id: base.value(row),
            file,
        });
    }
    Ok(())
}

/// A moment as Delta writes it into statistics.
fn micros(text: &str) -> Option<i64> {
    let nanoseconds = arrow_cast::parse::string_to_timestamp_nanos(text).ok()?;
    Some(nanoseconds.div_euclid(1_000))
}
