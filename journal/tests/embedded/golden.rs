//! Files that earlier versions wrote, which every later one reads.

use std::path::Path;

use event::{Offset, Partition, Position, StreamName};
use journal::Journal;
use journal::contract::{batch, read_all, rows};
use journal::embedded::{EmbeddedJournal, EmbeddedOptions, verify};

use crate::Folder;

fn golden(format: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format)
}

/// Writes the golden files; only when a new format is introduced, beside the old ones.
#[tokio::test]
#[ignore = "writes the golden files of the present format"]
async fn write_the_golden_journal() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut options = EmbeddedOptions::new(folder.path().join("journal"));
    (options.segment_bytes, options.disk_reserve_bytes) = (4 << 10, 0);
    for begin in [0, 6] {
        let journal = EmbeddedJournal::open(options.clone()).expect("opens");
        for n in begin..begin + 6 {
            let group = vec![batch("running", 10 * n, 10), batch("music", n, 1)];
            journal.append(group).await.expect("appends");
            for stream in ["running", "music"] {
                // So that files are written again.
                let stored = [Position::new(Partition(0), Offset((n as u64).min(8)))];
                let stream = StreamName::parse(stream).expect("allowed");
                journal.retain(&stream, &stored).await.expect("retains");
            }
        }
        // Before the end cuts what a file has of an earlier segment.
        for entry in std::fs::read_dir(&options.directory).expect("listed") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("a name");
            if begin == 6 && (name == "durable" || path.extension().is_some_and(|ending| ending == "segment"))
            {
                std::fs::copy(&path, golden("v2").join(name)).expect("copied");
            }
        }
        journal.close().await;
    }
}

/// What an earlier version wrote stays readable, byte for byte the same files.
#[tokio::test]
async fn golden_files_are_read() {
    for (format, start) in [("v1", 0), ("v2", 8)] {
        let folder = Folder::new(1 << 20);
        std::fs::create_dir_all(folder.options().directory).expect("created");
        for entry in std::fs::read_dir(golden(format)).expect("the golden files are committed") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, folder.options().directory.join(name)).expect("copied");
        }
        let verified = verify(&folder.options().directory).expect("whole");
        let (records, rows_) = (2 * (12 - start), 11 * (12 - start));
        assert_eq!(
            (verified.records, verified.rows),
            (records, rows_),
            "{verified:?}"
        );
        let journal = folder.journal();
        for (stream, rows_each) in [("running", 10), ("music", 1)] {
            let stream = StreamName::parse(stream).expect("allowed");
            assert_eq!(
                journal.start(&stream).await.expect("known")[0].offset,
                Offset(start)
            );
            let records = read_all(&*journal, &stream, Offset(start)).await;
            assert_eq!(records.len() as u64, 12 - start);
            let found: Vec<_> = records.iter().flat_map(rows).collect();
            let expected = rows_each * start as i64..rows_each * 12;
            assert_eq!(found, expected.collect::<Vec<_>>(), "{rows_each} rows each");
        }
    }
}
