//! Rows that other streams' records bring to a table, beside its own journal's.

use std::path::Path;
use std::sync::Arc;

use event::reject_rows::{self, RejectedMessage};
use event::schema::ROW_OF_OTHERS;
use event::{Offset, Partition, Reject, RejectCode, Span, StreamDeclaration, StreamName, TraceId};
use lake::{Advance, CommitError, LocalDisk, Source, Table, WriterOptions, WrittenFile};

use crate::fixture::{compact, events, lake};

fn source(stream: &str, partition: u32) -> Source {
    Source {
        stream: StreamName::parse(stream).expect("a name"),
        partition: Partition(partition),
        journal: "topic".to_owned(),
    }
}

async fn rejects(root: &Path) -> Arc<Table> {
    let lake = lake(root, Arc::new(LocalDisk)).await.expect("opens");
    let stream = Arc::new(StreamDeclaration::rejects());
    lake.table(stream).await.expect("opens")
}

fn reject() -> Reject {
    Reject {
        line: 1,
        code: RejectCode::InvalidJson,
        field: None,
        message: "no JSON".to_owned(),
        raw: b"no json".to_vec(),
    }
}

fn span() -> Span {
    Span {
        rows: 1,
        trace_id: TraceId::from_bytes([1; 16]),
        received_at: 1_700_000_000_000_000,
        idempotency_key: None,
        producer: None,
    }
}

/// A file of a source's messages at these offsets.
fn file(table: &Table, source: &Source, offsets: &[u64]) -> WrittenFile {
    let offsets: Vec<_> = offsets.iter().map(|offset| Offset(*offset)).collect();
    let message = |offset: &Offset| RejectedMessage {
        offset: *offset,
        reject: reject(),
        span: span(),
    };
    let messages: Vec<_> = offsets.iter().map(message).collect();
    let batch = reject_rows::of_messages(&source.stream, source.partition, &messages).expect("columns");
    let rows = event::schema::rejected_messages_to_lake(&batch, &offsets).expect("rows");
    let mut writer = table.writer(&WriterOptions::default()).expect("a file");
    writer.write(&rows).expect("writes");
    writer.finish().expect("finishes")
}

/// Appends one record of the table's own journal, as a request leaves it, with two rows.
async fn append_own(table: &Table, offset: u64) -> Result<(), CommitError> {
    let stream = StreamName::parse("a").expect("a name");
    let batch = reject_rows::batch(&stream, &[reject(), reject()], &span()).expect("columns");
    let rows = event::schema::to_lake(&batch, Offset(offset), table.declaration()).expect("rows");
    let mut writer = table.writer(&WriterOptions::default())?;
    writer.write(&rows)?;
    let advance = Advance {
        partition: Partition(0),
        from: Offset(offset),
        to: Offset(offset + 1),
    };
    table.commit(vec![writer.finish()?], &[advance]).await.map(drop)
}

async fn bring(
    table: &Table,
    source: &Source,
    offsets: &[u64],
    from: u64,
    to: u64,
) -> Result<(), CommitError> {
    let files = vec![file(table, source, offsets)];
    let committed = table.commit_source(files, source, Offset(from), Offset(to)).await;
    committed.map(drop)
}

async fn problems(table: &Table) -> Vec<String> {
    table.verify().await.expect("verify").problems
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_goes_on_from_where_it_was_and_survives_a_restart() {
    let root = tempfile::tempdir().expect("a directory");
    let (first, second) = (source("a", 0), source("a", 1));
    {
        let table = rejects(root.path()).await;
        bring(&table, &first, &[3, 9], 0, 12).await.expect("commits");
        bring(&table, &second, &[3], 0, 4).await.expect("commits");
        let moved = bring(&table, &first, &[3, 9, 13], 0, 14)
            .await
            .expect_err("moved");
        assert!(
            matches!(
                moved,
                CommitError::Moved {
                    stored: Offset(12),
                    ..
                }
            ),
            "{moved}"
        );
        let gap = bring(&table, &first, &[15], 13, 16).await.expect_err("a gap");
        assert!(
            matches!(
                gap,
                CommitError::NotContiguous {
                    stored: Offset(12),
                    ..
                }
            ),
            "{gap}"
        );
    }
    let table = rejects(root.path()).await;
    assert_eq!(table.source_end(&first).await.expect("known"), Offset(12));
    assert_eq!(table.source_end(&second).await.expect("known"), Offset(4));
    assert_eq!(table.source_end(&source("b", 0)).await.expect("known"), Offset(0));
    // Another topic under the same name begins anew.
    let anew = Source {
        journal: "topic 2".to_owned(),
        ..first.clone()
    };
    bring(&table, &anew, &[0, 1], 0, 2).await.expect("commits");
    assert_eq!(problems(&table).await, [""; 0]);
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.end_index(), 5);
    assert!(
        snapshot.positions.is_empty(),
        "its own positions stay where they are"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_streams_stand_between_its_own_and_are_merged_with_them() {
    let root = tempfile::tempdir().expect("a directory");
    let table = rejects(root.path()).await;
    let sources = [source("a", 0), source("b", 0)];
    for round in 0..10_u64 {
        let (table, source) = (&table, &sources[(round % 2) as usize]);
        let from = round / 2 * 10;
        let offsets = [from, from + 3];
        let brought = bring(table, source, &offsets, from, from + 10);
        let own = append_own(table, round);
        let (brought, own) = tokio::join!(brought, own);
        brought.expect("commits");
        own.expect("commits");
    }
    assert_eq!(problems(&table).await, [""; 0]);
    let before = events(&table.snapshot().await.expect("a snapshot"));
    assert!(compact(&table).await.expect("merges") > 0);
    assert_eq!(problems(&table).await, [""; 0]);
    assert_eq!(events(&table.snapshot().await.expect("a snapshot")), before);
    assert_eq!(before.len(), 40);
    let others = before.iter().filter(|(_, (_, _, row))| *row == ROW_OF_OTHERS);
    assert_eq!(others.count(), 20);
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.end_index(), 40);
    assert_eq!(snapshot.position(Partition(0)).offset, Offset(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_there_twice_is_found() {
    let root = tempfile::tempdir().expect("a directory");
    let table = rejects(root.path()).await;
    let source = source("a", 0);
    bring(&table, &source, &[3, 9], 0, 10).await.expect("commits");
    // What it says of offset 9 is against the rule of whoever commits.
    bring(&table, &source, &[9, 11], 10, 12).await.expect("commits");
    let problems = problems(&table).await;
    assert!(
        problems.len() == 1 && problems[0].contains("offset 9"),
        "{problems:?}"
    );
}
