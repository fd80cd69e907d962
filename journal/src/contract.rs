//! The contract of a journal as a test suite that every implementation runs.
//!
//! A [`Harness`] opens one journal again and again, as processes do. Each function is one sentence of the
//! contract; [`all`] runs them, each on a stream of its own, so they may share one journal.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use event::{Batch, Offset, Partition, Position, Span, StreamName, TraceId};
use futures::future::{BoxFuture, join_all};

use crate::{Journal, Payload, ReadError, Record};

/// Opens the journal under test.
pub trait Harness: Send + Sync {
    /// Opens the journal, again after [`Harness::kill`].
    fn open(&self) -> BoxFuture<'_, Arc<dyn Journal>>;

    /// Ends the process that has the journal open, without a word.
    fn kill(&self, journal: Arc<dyn Journal>) -> BoxFuture<'_, ()>;
}

/// Runs the whole contract.
///
/// # Panics
/// When a sentence does not hold.
pub async fn all(harness: &dyn Harness) {
    offsets_are_dense_and_in_the_order_of_appends(harness).await;
    a_reader_begins_anywhere_and_waits_for_what_comes(harness).await;
    a_group_is_appended_in_its_order(harness).await;
    concurrent_appends_are_all_there_once(harness).await;
    what_was_acknowledged_survives_a_kill(harness).await;
    positions_outside_of_the_journal_are_named(harness).await;
}

/// A batch of the rows `first..first + rows` of a stream with one integer column.
///
/// # Panics
/// Never: the columns are of one length.
#[must_use]
pub fn batch(stream: &str, first: i64, rows: u32) -> Batch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + i64::from(rows)));
    let span = Span {
        rows,
        trace_id: TraceId::from_bytes([1; 16]),
        received_at: first,
        idempotency_key: None,
        producer: None,
    };
    Batch {
        stream: StreamName::parse(stream).expect("the suite's names are allowed"),
        partition: Partition(0),
        version: 1,
        spans: vec![span],
        rows: RecordBatch::try_from_iter([("n", column)]).expect("one column"),
    }
}

/// The integers of a record.
///
/// # Panics
/// When the record is not one of [`batch`]'s.
#[must_use]
pub fn rows(record: &Record) -> Vec<i64> {
    let Payload::Record(bytes) = &record.payload else {
        panic!("the record is one of the suite's");
    };
    let batch = event::record::decode(record.partition, bytes).expect("the record is one of the suite's");
    batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Every record of a stream from an offset to the end.
///
/// # Panics
/// When the journal cannot be read.
pub async fn read_all(journal: &dyn Journal, stream: &StreamName, from: Offset) -> Vec<Record> {
    let end = end(journal, stream).await;
    let mut reader = journal
        .reader(stream, Position::new(Partition(0), from))
        .await
        .expect("the position is there");
    let mut records = Vec::new();
    while reader.position().offset < end {
        records.extend(reader.next(1_000).await.expect("readable"));
    }
    records.retain(|record| record.offset < end);
    records
}

async fn end(journal: &dyn Journal, stream: &StreamName) -> Offset {
    journal.end(stream).await.expect("the end is known")[0].offset
}

async fn offsets_are_dense_and_in_the_order_of_appends(harness: &dyn Harness) {
    let journal = harness.open().await;
    for n in 0..20 {
        let (a, b) = (batch("dense_a", n, 1), batch("dense_b", 2 * n, 2));
        let position = journal.append(vec![a]).await.expect("appends")[0];
        assert_eq!(position, Position::new(Partition(0), Offset(n as u64 + 1)));
        journal.append(vec![b]).await.expect("appends");
    }
    for (name, rows_each) in [("dense_a", 1), ("dense_b", 2)] {
        let stream = StreamName::parse(name).expect("allowed");
        let records = read_all(&*journal, &stream, Offset(0)).await;
        let offsets: Vec<_> = records.iter().map(|record| record.offset.0).collect();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
        let found: Vec<_> = records.iter().flat_map(rows).collect();
        assert_eq!(found, (0..20 * rows_each).collect::<Vec<_>>());
    }
    harness.kill(journal).await;
}

async fn a_reader_begins_anywhere_and_waits_for_what_comes(harness: &dyn Harness) {
    let journal = harness.open().await;
    let stream = StreamName::parse("waiting").expect("allowed");
    for n in 0..3 {
        journal
            .append(vec![batch("waiting", n, 1)])
            .await
            .expect("appends");
    }
    let from = Position::new(Partition(0), Offset(3));
    let mut reader = journal
        .reader(&stream, from)
        .await
        .expect("the end is a position");
    let appended = async {
        journal
            .append(vec![batch("waiting", 3, 1)])
            .await
            .expect("appends");
    };
    let (records, ()) = futures::join!(reader.next(1), appended);
    assert_eq!(rows(&records.expect("readable")[0]), [3]);
    assert_eq!(reader.position().offset, Offset(4));
    assert_eq!(read_all(&*journal, &stream, Offset(2)).await.len(), 2);
    harness.kill(journal).await;
}

async fn a_group_is_appended_in_its_order(harness: &dyn Harness) {
    let journal = harness.open().await;
    let group = vec![
        batch("group_a", 0, 1),
        batch("group_b", 0, 1),
        batch("group_a", 1, 1),
    ];
    let positions = journal.append(group).await.expect("appends");
    let offsets: Vec<_> = positions.iter().map(|position| position.offset.0).collect();
    assert_eq!(offsets, [1, 1, 2]);
    harness.kill(journal).await;
}

async fn concurrent_appends_are_all_there_once(harness: &dyn Harness) {
    let journal = harness.open().await;
    let appends = (0..200).map(|n| journal.append(vec![batch("concurrent", n, 1)]));
    let positions: Vec<_> = join_all(appends)
        .await
        .into_iter()
        .map(|done| done.expect("appends")[0])
        .collect();
    let stream = StreamName::parse("concurrent").expect("allowed");
    let records = read_all(&*journal, &stream, Offset(0)).await;
    assert_eq!(records.len(), 200);
    for (n, position) in positions.iter().enumerate() {
        let record = &records[position.offset.0 as usize - 1];
        assert_eq!(
            rows(record),
            [n as i64],
            "the position that was answered is the record's"
        );
    }
    harness.kill(journal).await;
}

async fn what_was_acknowledged_survives_a_kill(harness: &dyn Harness) {
    let stream = StreamName::parse("killed").expect("allowed");
    let mut id = None;
    for n in 0..5 {
        let journal = harness.open().await;
        let before = id.replace(journal.id());
        assert!(
            before.is_none_or(|before| before == journal.id()),
            "a journal keeps its identity"
        );
        assert_eq!(end(&*journal, &stream).await, Offset(n));
        journal
            .append(vec![batch("killed", n as i64, 1)])
            .await
            .expect("appends");
        harness.kill(journal).await;
    }
    let journal = harness.open().await;
    let found: Vec<_> = read_all(&*journal, &stream, Offset(0))
        .await
        .iter()
        .flat_map(rows)
        .collect();
    assert_eq!(found, [0, 1, 2, 3, 4]);
    harness.kill(journal).await;
}

async fn positions_outside_of_the_journal_are_named(harness: &dyn Harness) {
    let journal = harness.open().await;
    let stream = StreamName::parse("outside").expect("allowed");
    assert_eq!(
        end(&*journal, &stream).await,
        Offset(0),
        "a stream without records ends at 0"
    );
    let past = journal
        .reader(&stream, Position::new(Partition(0), Offset(1)))
        .await;
    assert!(matches!(
        past.err(),
        Some(ReadError::PastEnd { end: Offset(0), .. })
    ));
    let elsewhere = Position::new(Partition(journal.partitions(&stream)), Offset(0));
    assert!(matches!(
        journal.reader(&stream, elsewhere).await.err(),
        Some(ReadError::NoPartition { .. })
    ));
    harness.kill(journal).await;
}
