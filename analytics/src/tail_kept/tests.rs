//! What is decided, how often it is read, and when decisions go.

use arrow_array::{ArrayRef, Int64Array};
use event::stream::parse_streams;
use event::{Batch, Span, TraceId};
use futures::future::BoxFuture;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};

use super::*;

fn stream() -> Arc<StreamDeclaration> {
    let text = "[s]\nunique = \"id\"\n[s.fields]\nid = \"int\"";
    let streams = parse_streams(&text.parse().expect("TOML"));
    Arc::new(streams.expect("right").remove(0))
}

/// A lake without rows, as before the first commit.
struct Empty;

impl Tables for Empty {
    fn snapshot<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
    ) -> BoxFuture<'a, Result<Arc<Snapshot>, QueryError>> {
        Box::pin(async move { Ok(at(stream, 0)) })
    }

    fn seen<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        _: &'a Arc<Snapshot>,
        at: Position,
    ) -> BoxFuture<'a, Result<Option<Seen>, QueryError>> {
        assert_eq!(at.offset, Offset(0), "it is asked for at the beginning only");
        Box::pin(async move { Ok(Seen::new(stream)) })
    }
}

/// A version that has come to an offset.
fn at(stream: &StreamDeclaration, offset: u64) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        version: offset,
        directory: std::path::PathBuf::from("/nowhere").into(),
        schema: schema::lake(stream),
        files: Arc::new([]),
        positions: vec![Position::new(Partition(0), Offset(offset))],
        removed: 0,
    })
}

fn range(from: u64, to: u64) -> TailRange {
    TailRange {
        partition: Partition(0),
        from: Offset(from),
        to: Offset(to),
    }
}

struct World {
    _directory: tempfile::TempDir,
    stream: Arc<StreamDeclaration>,
    journal: Arc<EmbeddedJournal>,
    kept: TailKept,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = EmbeddedOptions::new(directory.path().join("journal"));
        options.disk_reserve_bytes = 0;
        let journal = EmbeddedJournal::open(options).expect("a journal");
        let shared: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(&journal);
        Self {
            _directory: directory,
            stream: stream(),
            journal,
            kept: TailKept::new(shared),
        }
    }

    /// Three rows of which the last id comes again in the next record.
    fn batch(&self, record: u64) -> Batch {
        let first = 2 * record.cast_signed();
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 3));
        Batch {
            stream: self.stream.name.clone(),
            partition: Partition(0),
            version: 1,
            spans: vec![Span {
                rows: 3,
                trace_id: TraceId::from_bytes([1; 16]),
                received_at: first,
                idempotency_key: None,
                producer: None,
            }],
            rows: RecordBatch::try_from_iter([("id", ids)]).expect("one column"),
        }
    }

    /// Appends records up to an offset.
    async fn append(&self, to: u64) {
        let end = self.journal.end(&self.stream.name).await.expect("an end")[0];
        for record in end.offset.0..to {
            let appended = self.journal.append(vec![self.batch(record)]).await;
            appended.expect("durable");
        }
    }

    async fn records(&self, from: u64, to: u64) -> Vec<Record> {
        let from = Position::new(Partition(0), Offset(from));
        let mut reader = self
            .journal
            .reader(&self.stream.name, from)
            .await
            .expect("a reader");
        let mut records = Vec::new();
        while reader.position().offset < Offset(to) {
            records.extend(reader.next(1).await.expect("records"));
        }
        records
    }

    async fn decide(&self, from: u64, to: u64, records: &[Record]) -> Result<Hold, QueryError> {
        let snapshot = at(&self.stream, from);
        let range = range(from, to);
        self.kept
            .decide(&Empty, &self.stream, &snapshot, range, records)
            .await
    }

    async fn decide_on(&self, from: u64, to: u64) -> Option<Hold> {
        let records = self.records(from, to).await;
        let decided = self.kept.decide_on(&self.stream, range(from, to), &records).await;
        decided.expect("decides")
    }

    /// The numbers of the rows that are kept of a record.
    fn numbers(&self, offset: u64) -> Result<Vec<i32>, QueryError> {
        let rows = schema::to_lake(&self.batch(offset), Offset(offset), &self.stream)?;
        let rows = self.kept.keep(&self.stream.name, Partition(0), rows)?;
        let numbers = column(&rows, schema::ROW)?.as_primitive::<Int32Type>();
        Ok(numbers.values().to_vec())
    }

    fn bounds(&self) -> (u64, u64) {
        let partition = self.kept.partition(&self.stream.name, Partition(0));
        let (first, end) = partition.decided().bounds();
        (first.0, end.0)
    }
}

#[tokio::test]
async fn records_in_hand_are_decided_as_those_that_are_read() {
    let world = World::new().await;
    world.append(10).await;
    assert!(
        world.decide_on(0, 3).await.is_none(),
        "nobody has asked yet what is known"
    );
    // In part read here, in part given.
    let given = world.records(6, 10).await;
    let held = world.decide(0, 10, &given).await.expect("decides");
    assert_eq!(world.numbers(0).expect("decided"), [0, 1, 2]);
    for offset in 1..10 {
        assert_eq!(world.numbers(offset).expect("decided"), [1, 2], "record {offset}");
    }
    assert!(matches!(world.numbers(10), Err(QueryError::Moved(_))));
    // Some of them are decided already; a gap is not gone over here.
    world.append(14).await;
    let more = world.decide_on(8, 14).await.expect("goes on");
    assert_eq!(world.numbers(13).expect("decided"), [1, 2]);
    world.append(16).await;
    assert!(world.decide_on(15, 16).await.is_none());
    drop((held, more));
}

#[tokio::test]
async fn decisions_go_when_the_lake_has_the_records_and_nobody_needs_them() {
    let world = World::new().await;
    world.append(10).await;
    let first = world.decide(0, 10, &[]).await.expect("decides");
    world.append(20).await;
    let watching = world.decide_on(4, 20).await.expect("goes on");
    let later = world.decide(15, 20, &[]).await.expect("decides");
    assert_eq!(world.bounds(), (0, 20), "the first one may still look");
    drop(first);
    drop(world.decide(15, 20, &[]).await.expect("decides"));
    assert_eq!(world.bounds(), (4, 20));
    drop(watching);
    world.append(30).await;
    drop(world.decide(15, 30, &[]).await.expect("decides"));
    assert_eq!(world.bounds(), (15, 30));
    assert!(matches!(world.numbers(14), Err(QueryError::Moved(_))));
    assert!(
        matches!(world.decide(14, 30, &[]).await, Err(QueryError::Moved(_))),
        "an older version's tail is in the lake"
    );
    assert!(world.decide_on(14, 15).await.is_none());
    drop(later);
}
