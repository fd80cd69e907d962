//! Compaction changes files, and nothing that anybody can ask for.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use event::{FieldDeclaration, FieldType, Offset, Partition};
use lake::{LocalDisk, Snapshot};

use crate::fixture::{append, compact, declaration, events, read_file, rows_below, table, table_on};

/// Stable row id by (partition, offset, row), from the file or from its base row id, as Delta says.
fn row_ids(snapshot: &Snapshot) -> HashMap<(i32, i64, i32), i64> {
    let mut bases = HashMap::new();
    let log = snapshot
        .directory
        .local()
        .expect("a directory")
        .join("_delta_log");
    for version in 0..=snapshot.version {
        let commit = std::fs::read_to_string(log.join(format!("{version:020}.json"))).expect("a commit");
        for line in commit.lines() {
            let action: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if let Some(path) = action["add"]["path"].as_str() {
                bases.insert(
                    path.to_owned(),
                    action["add"]["baseRowId"].as_i64().expect("a base"),
                );
            }
        }
    }
    let all = events(snapshot);
    let mut ids = HashMap::new();
    for file in snapshot.files.iter() {
        let mut row = 0;
        for rows in read_file(&snapshot.directory.local().expect("a directory").join(&file.path)) {
            let stored = rows.schema();
            let stored = stored
                .fields()
                .iter()
                .find(|field| field.name().contains("row-id"))
                .map(|field| rows[field.name().as_str()].as_primitive::<Int64Type>().clone());
            for number in 0..rows.num_rows() {
                let event = all[(file.first_index - snapshot.removed + row) as usize].1;
                let id = match &stored {
                    Some(stored) => stored.value(number),
                    None => bases[&file.path] + row as i64,
                };
                ids.insert(event, id);
                row += 1;
            }
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_rows_and_row_ids_stay_through_compactions_between_appends() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    let mut known: Vec<(u64, (i32, i64, i32))> = Vec::new();
    let mut ids = HashMap::new();
    for round in 0..4_u64 {
        for offset in round * 6..round * 6 + 6 {
            append(&table, 0, offset, offset + 1).await.expect("appended");
            if offset % 2 == 0 {
                append(&table, 3, offset / 2, offset / 2 + 1)
                    .await
                    .expect("appended");
            }
        }
        let before = table.snapshot().await.expect("a snapshot");
        let found = events(&before);
        assert_eq!(found[..known.len()], known[..], "an append changed an index");
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(at, (index, _))| at as u64 == *index)
        );
        for (event, id) in row_ids(&before) {
            assert_eq!(
                *ids.entry(event).or_insert(id),
                id,
                "row id of {event:?} before round {round}"
            );
        }
        assert!(compact(&table).await.expect("compacted") > 0);
        let after = table.snapshot().await.expect("a snapshot");
        assert!(after.files.len() < before.files.len());
        assert_eq!(events(&after), found, "compaction changed an index");
        assert_eq!(row_ids(&after), ids, "compaction changed a row id");
        assert_eq!(after.positions, before.positions);
        known = found;
    }
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );

    // Somebody who opens the table now sees the same order as those who followed it.
    let followed = table.snapshot().await.expect("a snapshot");
    drop(table);
    let opened = table_on(directory.path(), declaration(), Arc::new(LocalDisk)).await;
    let opened = opened.expect("opens").snapshot().await.expect("a snapshot");
    assert_eq!(
        (&opened.files, &opened.positions),
        (&followed.files, &followed.positions)
    );
    assert_eq!(opened.position(Partition(3)).offset, Offset(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_compaction_moves_rows_and_changes_no_data() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    append(&table, 0, 0, 3).await.expect("appended");
    append(&table, 0, 3, 5).await.expect("appended");
    assert_eq!(compact(&table).await.expect("compacted"), 2);
    let snapshot = table.snapshot().await.expect("a snapshot");
    let commit = snapshot
        .directory
        .local()
        .expect("a directory")
        .join(format!("_delta_log/{:020}.json", snapshot.version));
    let commit = std::fs::read_to_string(commit).expect("a commit");
    let actions: Vec<serde_json::Value> = commit
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for kind in ["add", "remove"] {
        let of_kind: Vec<_> = actions.iter().filter_map(|action| action.get(kind)).collect();
        assert_eq!(of_kind.len(), if kind == "add" { 1 } else { 2 });
        assert!(of_kind.iter().all(|action| action["dataChange"] == false));
    }
    assert_eq!(
        compact(&table).await.expect("compacted"),
        0,
        "one file was merged with itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_go_on_while_files_are_merged() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    let merging = Arc::clone(&table);
    let merging = tokio::task::JoinSet::from_iter([async move {
        for _ in 0..20 {
            compact(&merging).await.expect("compacted");
        }
    }]);
    for offset in 0..60 {
        append(&table, 0, offset, offset + 1)
            .await
            .expect("compaction is in nobody's way");
    }
    merging.join_all().await;
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.end_index(), rows_below(60));
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_before_a_new_column_are_merged_with_later_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = table(directory.path()).await;
    append(&first, 0, 0, 2).await.expect("appended");
    drop(first);
    let mut later = declaration();
    later.fields.push(FieldDeclaration {
        name: "later".to_owned(),
        kind: FieldType::String { max_bytes: 64 },
        optional: true,
        description: String::new(),
        path: vec!["later".to_owned()],
    });
    let table = table_on(directory.path(), later, Arc::new(LocalDisk))
        .await
        .expect("opens");
    append(&table, 0, 2, 4).await.expect("appended");
    assert_eq!(compact(&table).await.expect("compacted"), 2);
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert_eq!(events(&snapshot).len() as u64, rows_below(4));
    let rows = read_file(
        &snapshot
            .directory
            .local()
            .expect("a directory")
            .join(&snapshot.files[0].path),
    );
    assert!(rows[0]["later"].is_null(0));
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_nobody_waits_for_is_given_up_and_can_be_made_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(directory.path()).await;
    for offset in 0..40 {
        append(&table, 0, offset, offset + 1).await.expect("appended");
    }
    let before = table.snapshot().await.expect("a snapshot");
    {
        let mut merging = std::pin::pin!(compact(&table));
        // Polled once: it has begun.
        assert!(futures::poll!(merging.as_mut()).is_pending());
    }
    compact(&table).await.expect("compacted");
    let after = table.snapshot().await.expect("a snapshot");
    assert_eq!(events(&after), events(&before));
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
}
