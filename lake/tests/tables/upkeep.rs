//! Retention, vacuum, log expiry, adoption, verification.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, Position, StreamDeclaration};
use lake::{Advance, CommitError, Lake, LakeError, LakeOptions, LocalDisk, Located, Table};

use crate::fixture::{
    FIRST_TIME, append, compact, declaration, events, lake, rows_below, table, table_on, write,
};

const NONE: Vec<String> = Vec::new();

fn files_in(directory: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(extension)).collect();
    names.sort();
    names
}

async fn with_retention(root: &Path, keep: Duration) -> Arc<Table> {
    let stream = StreamDeclaration {
        retention: Some(keep),
        ..declaration()
    };
    table_on(root, stream, Arc::new(LocalDisk)).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_oldest_files_and_shifts_no_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = with_retention(directory.path(), Duration::from_secs(1_000)).await;
    for offset in 0..6 {
        append(&table, 0, offset, offset + 1).await.expect("appended");
    }
    let before = table.snapshot().await.expect("a snapshot");
    let all = events(&before);
    assert_eq!(table.expire(FIRST_TIME).await.expect("nothing to do"), 0);

    // Events of offset n have times from n thousand seconds on.
    let now = FIRST_TIME + 4_000_000_000;
    assert_eq!(table.expire(now).await.expect("expired"), rows_below(3));
    let after = table.snapshot().await.expect("a snapshot");
    assert_eq!(
        (after.removed, after.end_index()),
        (rows_below(3), before.end_index())
    );
    assert_eq!(events(&after)[..], all[rows_below(3) as usize..]);
    assert_eq!(after.locate(0), Located::Removed);
    assert_eq!(after.locate(after.removed), Located::At { file: 0, row: 0 });
    assert_eq!(after.positions, before.positions);
    assert_eq!(table.expire(now).await.expect("nothing to do"), 0);

    compact(&table).await.expect("compacted");
    let merged = table.snapshot().await.expect("a snapshot");
    assert_eq!(events(&merged)[..], all[rows_below(3) as usize..]);
    assert_eq!(
        table.expire(i64::MAX).await.expect("expired"),
        before.end_index() - merged.removed
    );
    append(&table, 0, 6, 7).await.expect("appended");
    let last = table.snapshot().await.expect("a snapshot");
    assert_eq!((last.removed, last.files.len()), (before.end_index(), 1));
    assert_eq!(last.files[0].first_index, before.end_index());
    drop(table);
    let opened = with_retention(directory.path(), Duration::from_secs(1_000)).await;
    assert_eq!(opened.snapshot().await.expect("a snapshot").files, last.files);
    assert_eq!(opened.verify().await.expect("verified").problems, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_deletes_what_is_not_listed_and_nothing_that_waits_for_a_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    for offset in 0..4 {
        append(&table, 0, offset, offset + 1).await.expect("appended");
    }
    compact(&table).await.expect("compacted");
    let waiting = write(&table, 0, 4, 5).expect("written");
    drop(write(&table, 0, 4, 6).expect("written, and given up"));
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert_eq!(
        files_in(snapshot.directory.local().expect("a directory"), ".parquet").len(),
        7
    );

    let report = table.vacuum().await.expect("vacuumed");
    assert_eq!((report.files_deleted, report.log_files_deleted), (5, 0));
    let mut kept = vec![snapshot.files[0].path.clone(), waiting.path.clone()];
    kept.sort();
    assert_eq!(
        files_in(snapshot.directory.local().expect("a directory"), ".parquet"),
        kept
    );

    let advance = Advance {
        partition: Partition(0),
        from: Offset(4),
        to: Offset(5),
    };
    let committed = table.commit(vec![waiting], &[advance]).await.expect("committed");
    assert_eq!(committed.end_index(), rows_below(5));
    assert_eq!(table.verify().await.expect("verified").problems, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_keeps_what_was_removed_a_moment_ago() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = LakeOptions {
        root: directory.path().to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: "journal".to_owned(),
        read_only: false,
        shared: false,
        keep_removed: Duration::from_secs(900),
    };
    let lake = Lake::open(options).await.expect("opens");
    let table = lake.table(Arc::new(declaration())).await.expect("opens");
    for offset in 0..4 {
        append(&table, 0, offset, offset + 1).await.expect("appended");
    }
    let before = table.snapshot().await.expect("a snapshot");
    // Files as old as those of a quiet stream are: only the commit that removes them is young.
    let old = std::time::SystemTime::now() - Duration::from_secs(86_400);
    for file in before.files.iter() {
        let file = std::fs::File::options()
            .write(true)
            .open(before.directory.local().expect("a directory").join(&file.path));
        file.expect("opens").set_modified(old).expect("can be set");
    }
    compact(&table).await.expect("compacted");
    assert_eq!(table.vacuum().await.expect("vacuumed").files_deleted, 0);
    // Whoever reads the version before can go on.
    assert_eq!(events(&before).len() as u64, rows_below(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_entries_below_a_checkpoint_expire_and_late_followers_still_arrive() {
    let directory = tempfile::tempdir().expect("a directory");
    let writing = table(directory.path()).await;
    append(&writing, 0, 0, 1).await.expect("appended");
    let late = Lake::open(LakeOptions {
        root: directory.path().to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: String::new(),
        read_only: true,
        shared: false,
        keep_removed: Duration::ZERO,
    });
    let late = late
        .await
        .expect("opens")
        .table(Arc::new(declaration()))
        .await
        .expect("opens");
    assert_eq!(late.snapshot().await.expect("a snapshot").version, 1);
    for offset in 1..50 {
        append(&writing, 0, offset, offset + 1).await.expect("appended");
    }
    append(&writing, 4, 0, 1).await.expect("appended");
    let newest = writing.snapshot().await.expect("a snapshot");
    let report = writing.vacuum().await.expect("vacuumed");
    assert!(report.log_files_deleted > 40, "{report:?}");
    assert!(
        files_in(
            &newest.directory.local().expect("a directory").join("_delta_log"),
            ".json"
        )
        .len()
            < 5
    );

    let found = late.snapshot().await.expect("a snapshot");
    assert_eq!((found.version, &found.files), (newest.version, &newest.files));
    assert_eq!(found.positions, newest.positions);
    append(&writing, 0, 50, 51).await.expect("the log goes on");
    assert_eq!(
        late.snapshot().await.expect("a snapshot").version,
        newest.version + 1
    );
    drop(writing);
    let opened = table(directory.path()).await;
    assert_eq!(
        opened.snapshot().await.expect("a snapshot").version,
        newest.version + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_has_its_position_whichever_are_absent() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    append(&table, 5, 0, 2).await.expect("appended");
    append(&table, 2, 0, 1).await.expect("appended");
    drop(table);
    let table = crate::fixture::table(directory.path()).await;
    let snapshot = table.snapshot().await.expect("a snapshot");
    let at = |partition, offset| Position::new(Partition(partition), Offset(offset));
    assert_eq!(snapshot.positions, [at(2, 1), at(5, 2)]);
    assert!(matches!(
        append(&table, 5, 1, 3).await,
        Err(CommitError::Moved {
            stored: Offset(2),
            ..
        })
    ));
    assert!(matches!(
        append(&table, 5, 3, 4).await,
        Err(CommitError::NotContiguous {
            stored: Offset(2),
            ..
        })
    ));
    append(&table, 5, 2, 3).await.expect("appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_journal_goes_on_only_after_an_explicit_adoption() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    append(&table, 0, 0, 5).await.expect("appended");
    append(&table, 1, 0, 2).await.expect("appended");
    let before = table.snapshot().await.expect("a snapshot");
    drop(table);
    let options = LakeOptions {
        root: directory.path().to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: "another".to_owned(),
        read_only: false,
        shared: false,
        keep_removed: Duration::ZERO,
    };
    let lake = Lake::open(options).await.expect("opens");
    let stream = Arc::new(declaration());
    let refused = lake
        .table(Arc::clone(&stream))
        .await
        .expect_err("another journal");
    assert!(matches!(refused, LakeError::OtherJournal { .. }), "{refused}");

    let start = Position::new(Partition(0), Offset(3));
    for _ in 0..2 {
        lake.adopt(Arc::clone(&stream), &[start]).await.expect("adopted");
    }
    let table = lake.table(stream).await.expect("opens");
    let adopted = table.snapshot().await.expect("a snapshot");
    assert_eq!(adopted.positions, [start, Position::new(Partition(1), Offset(0))]);
    assert_eq!(adopted.files, before.files);
    append(&table, 0, 3, 6).await.expect("appended");
    compact(&table).await.expect("compacted");
    let after = table.snapshot().await.expect("a snapshot");
    assert_eq!(events(&after)[..before.end_index() as usize], events(&before)[..]);
    let problems = table.verify().await.expect("verified").problems;
    // Partition 1 has a new beginning and no event since.
    assert_eq!(problems, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_finds_each_kind_of_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    for offset in 0..3 {
        append(&table, 0, offset, offset + 1).await.expect("appended");
    }
    assert_eq!(table.verify().await.expect("verified").problems, NONE);
    let snapshot = table.snapshot().await.expect("a snapshot");
    let path = |file: usize| {
        snapshot
            .directory
            .local()
            .expect("a directory")
            .join(&snapshot.files[file].path)
    };
    let whole = std::fs::read(path(1)).expect("readable");

    std::fs::write(path(1), &whole[..whole.len() - 1]).expect("writable");
    let problems = table.verify().await.expect("verified").problems;
    assert!(
        problems.len() == 1 && problems[0].contains("bytes, the log says"),
        "{problems:?}"
    );

    let mut damaged = whole.clone();
    let end = damaged.len();
    damaged[end - 40..].fill(0);
    std::fs::write(path(1), damaged).expect("writable");
    let problems = table.verify().await.expect("verified").problems;
    assert!(
        problems.len() == 1 && problems[0].contains("is not readable"),
        "{problems:?}"
    );

    std::fs::remove_file(path(1)).expect("removable");
    let problems = table.verify().await.expect("verified").problems;
    assert!(
        problems.len() == 1 && problems[0].contains("is not readable"),
        "{problems:?}"
    );
    std::fs::write(path(1), whole).expect("writable");
    assert_eq!(table.verify().await.expect("verified").problems, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_of_a_lake_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = lake(directory.path(), Arc::new(LocalDisk)).await.expect("opens");
    let second = lake(directory.path(), Arc::new(LocalDisk))
        .await
        .expect_err("in use");
    assert!(matches!(second, LakeError::Locked { .. }), "{second}");
    drop(first);
    lake(directory.path(), Arc::new(LocalDisk))
        .await
        .expect("free again");
}
