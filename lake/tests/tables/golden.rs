//! A table that an earlier version of the program wrote stays readable: `lake/tests/golden` is never written again.
//!
//! It has files of two partitions, a merged file, a column that came later, and events that retention removed. When
//! the format gains something, another golden table is added beside it
//! (`cargo test --release --workspace --test tables golden -- --ignored` writes one into `TIDEMILL_GOLDEN`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use event::{FieldDeclaration, FieldType, Offset, Partition, Position, StreamDeclaration};
use lake::{Lake, LakeOptions, LocalDisk};

use crate::fixture::{
    FIRST_TIME, append, compact, declaration, events, record, rows_below, rows_of, table_on,
};

fn earlier() -> StreamDeclaration {
    StreamDeclaration {
        retention: Some(Duration::from_secs(1)),
        ..declaration()
    }
}

fn later() -> StreamDeclaration {
    let mut stream = earlier();
    stream.fields.push(FieldDeclaration {
        name: "later".to_owned(),
        kind: FieldType::String { max_bytes: 64 },
        optional: true,
        description: String::new(),
        path: vec!["later".to_owned()],
    });
    stream
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creatable");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it writes a golden table"]
async fn write_a_golden_table() {
    let root = PathBuf::from(std::env::var_os("TIDEMILL_GOLDEN").expect("where to write"));
    let table = table_on(&root, earlier(), Arc::new(LocalDisk))
        .await
        .expect("opens");
    append(&table, 0, 0, 2).await.expect("appended");
    append(&table, 1, 0, 3).await.expect("appended");
    append(&table, 0, 2, 4).await.expect("appended");
    append(&table, 0, 4, 6).await.expect("appended");
    assert!(table.expire(FIRST_TIME + 1_500_000_000).await.expect("expired") > 0);
    compact(&table).await.expect("compacted");
    table.vacuum().await.expect("vacuumed");
    drop(table);
    let table = table_on(&root, later(), Arc::new(LocalDisk))
        .await
        .expect("opens");
    append(&table, 1, 3, 5).await.expect("appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_table_reads_as_ever_and_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1");
    copy(&golden, directory.path());

    let options = LakeOptions {
        root: golden.into(),
        store: lake::StoreSettings::default(),
        journal: String::new(),
        read_only: true,
        shared: false,
        keep_removed: Duration::ZERO,
    };
    let reading = Lake::open(options).await.expect("opens");
    let reading = reading.table(Arc::new(later())).await.expect("opens");
    let snapshot = reading.snapshot().await.expect("a snapshot");
    let at = |partition, offset| Position::new(Partition(partition), Offset(offset));
    assert_eq!(snapshot.positions, [at(0, 6), at(1, 5)]);
    assert_eq!(snapshot.removed, rows_below(2));
    // What is left, in the order of its commits.
    let records = [
        (1, 0),
        (1, 1),
        (1, 2),
        (0, 2),
        (0, 3),
        (0, 4),
        (0, 5),
        (1, 3),
        (1, 4),
    ];
    let rows = records.iter().flat_map(|(partition, offset): &(i32, i64)| {
        (0..rows_of(*offset as u64)).map(|row| (*partition, *offset, row))
    });
    let expected: Vec<_> = (snapshot.removed..).zip(rows).collect();
    assert_eq!(events(&snapshot), expected);
    assert_eq!(
        reading.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );

    let table = table_on(directory.path(), later(), Arc::new(LocalDisk))
        .await
        .expect("opens");
    append(&table, 0, 6, 8).await.expect("appended");
    compact(&table).await.expect("compacted");
    let after = table.snapshot().await.expect("a snapshot");
    assert_eq!(events(&after)[..expected.len()], expected[..]);
    assert_eq!(
        record(&later(), 0, 0, 1).num_columns(),
        after.schema.fields().len()
    );
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
}
