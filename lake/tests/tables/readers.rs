//! Somebody else's readers find what we wrote, before and after compaction: the Python packages `deltalake` and
//! `polars` (issue 3, point 4).

use std::path::Path;
use std::process::Command;

use arrow_array::RecordBatch;
use lake::Table;
use parquet::arrow::ArrowWriter;

use crate::fixture::{append, compact, declaration, record, rows_of, table};
use crate::python::{python, run};

/// Writes what the table must have into a file of its own.
fn write_expected(path: &Path, records: &[RecordBatch]) {
    let file = std::fs::File::create(path).expect("creatable");
    let mut writer = ArrowWriter::try_new(file, records[0].schema(), None).expect("a writer");
    for rows in records {
        writer.write(rows).expect("writable");
    }
    writer.close().expect("closed");
}

async fn compare(python: &Path, table: &Table, expected: &Path) {
    let snapshot = table.snapshot().await.expect("a snapshot");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/readers.py");
    run(Command::new(python)
        .arg(script)
        .arg(snapshot.directory.local().expect("a directory"))
        .arg(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_find_the_same_rows_before_and_after_compaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let stream = declaration();
    let table = table(directory.path()).await;
    let python = python();
    let (mut records, mut ends) = (Vec::new(), [0_u64; 2]);
    for round in 0..2_u64 {
        for commit in 0..5 {
            let partition = ((round + commit) % 2) as usize;
            let from = ends[partition];
            let to = from + 40;
            append(&table, partition as u32, from, to)
                .await
                .expect("appended");
            records
                .extend((from..to).map(|offset| record(&stream, partition as u32, offset, rows_of(offset))));
            ends[partition] = to;
        }
        let expected = directory.path().join(format!("expected-{round}.parquet"));
        write_expected(&expected, &records);
        compare(&python, &table, &expected).await;
        assert!(compact(&table).await.expect("compacted") > 0);
        compare(&python, &table, &expected).await;
        table.vacuum().await.expect("vacuumed");
    }
    compare(&python, &table, &directory.path().join("expected-1.parquet")).await;
}
