//! Which Parquet files a table of the lake has now: what other engines are given.

use std::path::Path;

use benches::Anything;
use serde_json::Value;

/// The files of the newest version, by their whole paths, in the order in which they were added.
///
/// # Errors
/// When the log cannot be read, or no longer begins at the first version.
pub(crate) fn files(table: &Path) -> Result<Vec<String>, Anything> {
    let log = table.join("_delta_log");
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(&log)? {
        let path = entry?.path();
        let version = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(version) = version.parse::<u64>()
        {
            entries.push((version, path));
        }
    }
    entries.sort();
    let mut files: Vec<String> = Vec::new();
    for (expected, (version, path)) in entries.iter().enumerate() {
        if *version != expected as u64 {
            return Err(format!("`{}` misses version `{expected}`", log.display()).into());
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let action: Value = serde_json::from_str(line)?;
            if let Some(added) = action["add"]["path"].as_str() {
                files.push(table.join(added).display().to_string());
            }
            if let Some(removed) = action["remove"]["path"].as_str() {
                let removed = table.join(removed).display().to_string();
                files.retain(|file| *file != removed);
            }
        }
    }
    Ok(files)
}
