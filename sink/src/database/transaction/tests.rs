//! The transaction against a database that is a `Vec` and refuses what it is told to.

use std::collections::BTreeSet;

use event::{Offset, Partition, StreamDeclaration};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::session::Refusal;
use super::*;

/// A session over memory.
#[derive(Default)]
struct Memory {
    stored: Option<StoredPosition>,
    /// Rows by number that it refuses.
    refuses: BTreeSet<usize>,
    /// Rows by number that have no form.
    unwritable: BTreeSet<usize>,
    open: Vec<usize>,
    refused: Vec<usize>,
    rows: Vec<usize>,
    loads: usize,
}

impl Session for Memory {
    fn prepare<'a>(&'a mut self, _table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async { Ok(()) }.boxed()
    }

    fn position<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        let new = StoredPosition {
            journal: journal.to_owned(),
            offset: Offset(0),
        };
        let stored = self.stored.get_or_insert(new).clone();
        async { Ok(stored) }.boxed()
    }

    fn begin<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        self.open.clear();
        let stored = self.stored.clone();
        async { Ok(stored) }.boxed()
    }

    fn load<'a>(
        &'a mut self,
        _table: &'a Arc<TargetTable>,
        _rows: &'a Arc<Rows>,
        range: Range<usize>,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        self.loads += 1;
        let loaded = if self.refuses.range(range.clone()).next().is_some() {
            Loaded::Refused(Refusal::new("1", "told so"))
        } else {
            let unwritable = self.unwritable.range(range.clone()).copied();
            let unwritable: Vec<_> = unwritable
                .map(|row| RefusedRow {
                    row,
                    refusal: Refusal::unwritable("no form"),
                })
                .collect();
            self.open
                .extend(range.filter(|row| !self.unwritable.contains(row)));
            Loaded::Rows { unwritable }
        };
        async { Ok(loaded) }.boxed()
    }

    fn refuse<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        self.refused.extend(refused.iter().map(|refused| refused.row));
        async { Ok(()) }.boxed()
    }

    fn commit<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        self.stored = Some(position.clone());
        self.rows.append(&mut self.open);
        async { Ok(()) }.boxed()
    }
}

fn table() -> Arc<TargetTable> {
    let table = TargetTable::resolve(Arc::new(StreamDeclaration::rejects()), "", None);
    Arc::new(table.expect("resolves"))
}

fn rows(from: u64, count: usize) -> Arc<Rows> {
    let column: arrow_array::ArrayRef = Arc::new(arrow_array::Int32Array::from_value(0, count));
    let batch = arrow_array::RecordBatch::try_from_iter([("n", column)]).expect("one column");
    let mut rows = Rows::new(Partition(0), Offset(from));
    rows.push(batch, Offset(from + 1));
    Arc::new(rows)
}

fn at(offset: u64) -> Option<StoredPosition> {
    Some(StoredPosition {
        journal: "j".to_owned(),
        offset: Offset(offset),
    })
}

#[tokio::test]
async fn refused_rows_are_found_whichever_they_are_and_the_others_stay_in_order() {
    for (count, refuses, unwritable) in [
        (1, vec![0], vec![]),
        (1, vec![], vec![0]),
        (100, vec![], vec![]),
        (100, vec![0, 1, 50, 99], vec![2, 98]),
        (7, vec![0, 1, 2, 3, 4, 5, 6], vec![]),
    ] {
        let mut session = Memory {
            stored: at(5),
            refuses: refuses.iter().copied().collect(),
            unwritable: unwritable.iter().copied().collect(),
            ..Memory::default()
        };
        let written = write(&mut session, &table(), &rows(5, count), "j")
            .await
            .expect("writes");
        let mut aside: Vec<_> = refuses.iter().chain(&unwritable).copied().collect();
        aside.sort_unstable();
        let kept: Vec<_> = (0..count).filter(|row| !aside.contains(row)).collect();
        assert_eq!((&session.rows, &session.refused), (&kept, &aside));
        assert_eq!(
            (written.inserted, written.refused),
            (kept.len() as u64, aside.len() as u64)
        );
        assert_eq!(session.stored, at(6));
        assert!(
            session.loads <= 1 + 2 * refuses.len() * 8,
            "{} loads",
            session.loads
        );
    }
}

#[tokio::test]
async fn who_is_not_at_the_stored_position_writes_nothing() {
    let elsewhere = StoredPosition {
        journal: "another".to_owned(),
        offset: Offset(5),
    };
    for stored in [at(4), at(6), None, Some(elsewhere)] {
        let mut session = Memory {
            stored: stored.clone(),
            ..Memory::default()
        };
        let error = write(&mut session, &table(), &rows(5, 3), "j")
            .await
            .expect_err("moved");
        assert!(matches!(error, DatabaseError::Moved { .. }), "{error}");
        assert_eq!(
            (session.loads, session.rows.len(), session.stored),
            (0, 0, stored)
        );
    }
}
