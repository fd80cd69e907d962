//! Comparing a table's files with what its log says about them.

use std::fs::File;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::snapshot::Snapshot;

/// What [`Table::verify`](crate::Table::verify) found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The version that was looked at.
    pub version: u64,
    /// How many files.
    pub files: u64,
    /// How many events.
    pub rows: u64,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

pub(crate) fn verify(snapshot: &Snapshot) -> VerifyReport {
    let mut report = VerifyReport {
        version: snapshot.version,
        ..VerifyReport::default()
    };
    for listed in snapshot.files.iter() {
        report.files += 1;
        report.rows += listed.rows;
        let path = snapshot.directory.join(&listed.path);
        let opened = File::open(&path).map_err(|error| error.to_string());
        let read = opened.and_then(|file| {
            let bytes = file.metadata().map_err(|error| error.to_string())?.len();
            let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
            Ok((bytes, reader.metadata().file_metadata().num_rows()))
        });
        match read {
            Err(error) => report
                .problems
                .push(format!("`{}` is not readable: {error}", listed.path)),
            Ok((bytes, _)) if bytes != listed.bytes => {
                report.problems.push(format!(
                    "`{}` has {bytes} bytes, the log says {}",
                    listed.path, listed.bytes
                ));
            }
            Ok((_, rows)) if u64::try_from(rows) != Ok(listed.rows) => {
                report.problems.push(format!(
                    "`{}` has {rows} rows, the log says {}",
                    listed.path, listed.rows
                ));
            }
            Ok(_) => {}
        }
    }
    report
}
