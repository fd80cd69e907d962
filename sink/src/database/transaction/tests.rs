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
    /// Ids that a table with unique ids has, and how often it was asked for some.
    ids: BTreeSet<i64>,
    open_ids: BTreeSet<i64>,
    asked: usize,
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
        self.open_ids.clear();
        let stored = self.stored.clone();
        async { Ok(stored) }.boxed()
    }

    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        self.loads += 1;
        let mut open_ids = self.open_ids.clone();
        let mut repeats = false;
        if table.unique.is_some() {
            for row in range.clone() {
                let id = id_of(rows, row);
                repeats |= self.ids.contains(&id) || !open_ids.insert(id);
            }
        }
        let loaded = if repeats {
            Loaded::Refused(Refusal::new("2", "repeated"))
        } else if self.refuses.range(range.clone()).next().is_some() {
            Loaded::Refused(Refusal::new("1", "told so"))
        } else {
            let unwritable = self.unwritable.range(range.clone()).copied();
            let unwritable: Vec<_> = unwritable
                .map(|row| RefusedRow {
                    row,
                    refusal: Refusal::unwritable("no form"),
                })
                .collect();
            self.open_ids = open_ids;
            self.open
                .extend(range.filter(|row| !self.unwritable.contains(row)));
            Loaded::Rows { unwritable }
        };
        async { Ok(loaded) }.boxed()
    }

    fn present<'a>(
        &'a mut self,
        _table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, DatabaseError>> {
        self.asked += 1;
        let there = |id: i64| self.ids.contains(&id) || self.open_ids.contains(&id);
        let present = range.filter(|row| there(id_of(rows, *row))).collect();
        async { Ok(present) }.boxed()
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
        self.ids.append(&mut self.open_ids);
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

/// The table of a stream whose ids are unique.
fn unique_table() -> Arc<TargetTable> {
    let text = "[s]\nunique = \"n\"\n[s.fields]\nn = \"int\"";
    let streams = event::stream::parse_streams(&text.parse().expect("TOML")).expect("right");
    let table = TargetTable::resolve(Arc::new(streams[0].clone()), "", None);
    Arc::new(table.expect("resolves"))
}

fn ids(from: u64, ids: &[i64]) -> Arc<Rows> {
    let column: arrow_array::ArrayRef = Arc::new(arrow_array::Int64Array::from(ids.to_vec()));
    let batch = arrow_array::RecordBatch::try_from_iter([("n", column)]).expect("one column");
    let mut rows = Rows::new(Partition(0), Offset(from));
    // Two records, so that a repeat may be in another one.
    let middle = ids.len() / 2;
    rows.push(batch.slice(0, middle), Offset(from + 1));
    rows.push(batch.slice(middle, ids.len() - middle), Offset(from + 2));
    Arc::new(rows)
}

fn id_of(rows: &Rows, row: usize) -> i64 {
    use arrow_array::cast::AsArray;
    let (batch, row) = rows.row(row);
    batch
        .column(0)
        .as_primitive::<arrow_array::types::Int64Type>()
        .value(row)
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

#[tokio::test]
async fn an_id_goes_in_once_and_the_database_is_asked_only_where_ids_come_again() {
    let mut session = Memory {
        stored: at(0),
        ..Memory::default()
    };
    let table = unique_table();
    let mut repeated = false;
    // (ids, of which so many are duplicates, so often asked by then)
    let transactions: [(&[i64], u64, usize); 5] = [
        (&[1, 2, 3, 4], 0, 0),
        (&[5, 5, 6, 5, 6, 7], 3, 0),
        (&[8, 1, 9, 9, 2], 3, 1),
        (&[8, 10, 8, 10, 11], 3, 2),
        (&[12, 13], 0, 3),
    ];
    for (number, (given, duplicates, asked)) in (0..).zip(transactions) {
        let written = write_knowing(&mut session, &table, &ids(2 * number, given), "j", repeated)
            .await
            .expect("writes");
        repeated = written.repeated;
        assert_eq!(
            (written.duplicates, written.refused),
            (duplicates, 0),
            "{given:?}"
        );
        assert_eq!(written.inserted, given.len() as u64 - duplicates);
        assert_eq!(session.asked, asked, "{given:?}");
    }
    assert!(!repeated);
    assert_eq!(session.ids, (1..=13).collect());
    assert_eq!(session.stored, at(10));
}

#[tokio::test]
async fn rows_that_are_refused_for_another_reason_are_refused_beside_duplicates() {
    let mut session = Memory {
        stored: at(0),
        ids: [1, 2].into(),
        // By their numbers when duplicates are left out: 7 and 9.
        refuses: [0, 2].into(),
        ..Memory::default()
    };
    let written = write(&mut session, &unique_table(), &ids(0, &[1, 7, 2, 8, 7, 9]), "j")
        .await
        .expect("writes");
    assert_eq!((written.duplicates, written.refused, written.inserted), (3, 2, 1));
    assert_eq!(session.ids, [1, 2, 8].into());
}
