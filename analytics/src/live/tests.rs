//! Every event once, in order, behind the gate, or named: whatever is appended, committed, let go of, and whoever comes
//! back, in any order.
//!
//! Method: a journal of several partitions in memory, rings so small that clients are behind them all the time, and a
//! model that is plain vectors: what was appended, and where each client is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use event::{Batch, Offset, Partition, Position, Span, StreamDeclaration, StreamName, TraceId};
use futures::future::{BoxFuture, FutureExt, ready};
use journal::{AppendError, Durability, Journal, JournalId, JournalReader, Payload, ReadError, Record};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::channel::{Pool, Source};
use super::cursor::{Cursor, Item};
use super::gate::Gate;
use super::place::{Begin, Place};
use super::shape::Shape;
use crate::parameters::Filter;

/// Clients of the model may do nothing for longer.
const TURN_TIME: Duration = Duration::from_millis(2);
const PARTITIONS: u32 = 3;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn declaration() -> Arc<StreamDeclaration> {
    let declared = "[s.fields]\nn = \"int\"".parse().expect("TOML");
    Arc::new(
        event::stream::parse_streams(&declared)
            .expect("a stream")
            .remove(0),
    )
}

/// A journal in memory, whose beginning can be let go of.
#[derive(Debug, Clone)]
struct MemoryJournal {
    logs: Arc<[Mutex<Log>]>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    start: u64,
    records: Vec<Record>,
}

impl MemoryJournal {
    fn new() -> Self {
        Self {
            logs: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            changed: watch::channel(0).0,
        }
    }

    fn log(&self, partition: Partition) -> std::sync::MutexGuard<'_, Log> {
        self.logs[partition.0 as usize].lock().expect("whole")
    }

    fn append_rows(&self, partition: Partition, first: i64, rows: u32) {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + i64::from(rows)));
        let batch = Batch {
            stream: declaration().name.clone(),
            partition,
            version: 1,
            spans: vec![Span {
                rows,
                trace_id: TraceId::from_bytes([1; 16]),
                received_at: first,
                idempotency_key: None,
                producer: None,
            }],
            rows: RecordBatch::try_from_iter([("n", column)]).expect("one column"),
        };
        let payload = match rows {
            0 => Payload::Nothing,
            _ => Payload::Record(event::record::encode(&batch).expect("a record")),
        };
        {
            let mut log = self.log(partition);
            let offset = Offset(log.records.len() as u64);
            log.records.push(Record {
                partition,
                offset,
                payload,
            });
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn positions(&self, of: impl Fn(&Log) -> u64) -> Vec<Position> {
        let each = (0..PARTITIONS).map(Partition);
        each.map(|partition| Position::new(partition, Offset(of(&self.log(partition)))))
            .collect()
    }
}

impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        JournalId("memory".to_owned())
    }

    fn stream_id(&self, _: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn partitions(&self, _: &StreamName) -> u32 {
        PARTITIONS
    }

    fn append(&self, _: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        ready(Err(AppendError::ReadOnly)).boxed()
    }

    fn end<'a>(&'a self, _: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        ready(Ok(self.positions(|log| log.records.len() as u64))).boxed()
    }

    fn start<'a>(&'a self, _: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        ready(Ok(self.positions(|log| log.start))).boxed()
    }

    fn reader<'a>(
        &'a self,
        _: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        let reader = MemoryReader {
            journal: self.clone(),
            changed: self.changed.subscribe(),
            next: from,
        };
        let start = Offset(self.log(from.partition).start);
        let opened = if from.offset < start {
            Err(ReadError::Gone { asked: from, start })
        } else {
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        };
        ready(opened).boxed()
    }

    fn retain<'a>(&'a self, _: &'a StreamName, _: &'a [Position]) -> BoxFuture<'a, Result<(), ReadError>> {
        ready(Ok(())).boxed()
    }
}

struct MemoryReader {
    journal: MemoryJournal,
    changed: watch::Receiver<u64>,
    next: Position,
}

impl JournalReader for MemoryReader {
    fn position(&self) -> Position {
        self.next
    }

    fn next(&mut self, _: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        async move {
            loop {
                self.changed.borrow_and_update();
                let found = {
                    let log = self.journal.log(self.next.partition);
                    let (at, start) = (self.next.offset, Offset(log.start));
                    if at < start {
                        return Err(ReadError::Gone {
                            asked: self.next,
                            start,
                        });
                    }
                    // A few at a time, so that more is asked for.
                    let records = log.records.iter().skip(at.0 as usize).take(3);
                    records.cloned().collect::<Vec<_>>()
                };
                if let Some(last) = found.last() {
                    self.next.offset = last.offset.next();
                    return Ok(found);
                }
                self.changed.changed().await.map_err(|_| ReadError::Closed)?;
            }
        }
        .boxed()
    }
}

#[derive(Debug)]
struct TestGate {
    passed: Mutex<Vec<Offset>>,
    changes: watch::Sender<u64>,
}

impl TestGate {
    fn at(&self, partition: Partition) -> Offset {
        self.passed.lock().expect("whole")[partition.0 as usize]
    }

    fn open(&self, partition: Partition, to: Offset) {
        self.passed.lock().expect("whole")[partition.0 as usize] = to;
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Gate for TestGate {
    fn passed(&self, _: &StreamName, partition: Partition) -> Option<Offset> {
        Some(self.at(partition))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// One client and where the model says it is.
struct Watcher {
    cursor: Cursor,
    places: Vec<Place>,
    last: usize,
    missed: u64,
}

struct World {
    journal: MemoryJournal,
    gate: Arc<TestGate>,
    source: Source,
    pool: Arc<Pool>,
    /// Of each partition the number of each row, by place.
    model: Vec<Vec<(Place, i64)>>,
    rows: i64,
}

impl World {
    fn new() -> Self {
        let journal = MemoryJournal::new();
        let gate = Arc::new(TestGate {
            passed: Mutex::new(vec![Offset(0); PARTITIONS as usize]),
            changes: watch::channel(0).0,
        });
        let stream = declaration();
        let shape = Shape::event(&stream);
        let shown: Arc<dyn Gate> = Arc::<TestGate>::clone(&gate);
        Self {
            pool: Arc::new(Pool::new(Arc::new(journal.clone()), 6 << 10, 2, TURN_TIME)),
            source: Source::new(stream, shape, Some(shown), None, None),
            journal,
            gate,
            model: vec![Vec::new(); PARTITIONS as usize],
            rows: 0,
        }
    }

    fn append(&mut self, partition: Partition, rows: u32) {
        let offset = Offset(self.journal.log(partition).records.len() as u64);
        let numbers = self.rows..self.rows + i64::from(rows);
        let placed = (0..rows).map(|row| Place { offset, row }).zip(numbers);
        self.model[partition.0 as usize].extend(placed);
        self.journal.append_rows(partition, self.rows, rows);
        self.rows += i64::from(rows);
    }

    async fn watcher(&self, begin: &Begin, places: Vec<Place>) -> Watcher {
        let channel = self.source.channel(&self.pool).await.expect("a channel");
        let cursor = Cursor::new(channel, begin, Filter::default())
            .await
            .expect("a cursor");
        Watcher {
            cursor,
            places,
            last: 0,
            missed: 0,
        }
    }

    /// The next row of a partition that a client may see.
    fn due(&self, watcher: &Watcher, number: usize) -> Option<(Place, i64)> {
        let rows = &self.model[number];
        let at = rows.partition_point(|(place, _)| *place < watcher.places[number]);
        let gate = self.gate.at(Partition(number as u32));
        rows.get(at).copied().filter(|(place, _)| place.offset < gate)
    }

    /// Takes one item, when there must be one.
    async fn step(&self, watcher: &mut Watcher) -> bool {
        if (0..watcher.places.len()).all(|number| self.due(watcher, number).is_none()) {
            return false;
        }
        let mut text = Vec::new();
        let next = tokio::time::timeout(PATIENCE, watcher.cursor.next(&mut text)).await;
        match next.expect("in time").expect("an item") {
            Item::Event(number) => {
                let (place, expected) = self.due(watcher, number).expect("nothing comes before the gate");
                let event: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                assert_eq!(event["n"], expected, "partition {number}");
                watcher.places[number] = Place::behind(place.offset, place.row);
                watcher.last = number;
            }
            Item::Missed { from, to, number } => {
                let partition = Partition(number as u32);
                let Begin::At(behind) = Begin::parse("from", &from).expect("a position") else {
                    panic!("{from} is a position");
                };
                // Behind the last row of a record is where the next one begins.
                let skipped = self.model[number]
                    .iter()
                    .filter(|(place, _)| (watcher.places[number]..behind[0].1).contains(place));
                assert_eq!((behind[0].0, skipped.count()), (partition, 0), "{from}");
                assert!(behind[0].1 >= watcher.places[number], "{from}");
                let Begin::At(places) = Begin::parse("to", &to).expect("a position") else {
                    panic!("{to} is a position");
                };
                assert!(
                    places[0].1.offset.0 <= self.journal.log(partition).start,
                    "{to} was not let go of"
                );
                assert!(places[0].1 > watcher.places[number]);
                watcher.places[number] = places[0].1;
                watcher.last = number;
                watcher.missed += 1;
            }
        }
        true
    }
}

async fn run(seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new();
    let beginning = vec![Place::default(); PARTITIONS as usize];
    let mut watchers = Vec::new();
    for _ in 0..3 {
        watchers.push(Some(world.watcher(&Begin::Start, beginning.clone()).await));
    }
    let (mut events, mut missed, mut resumed) = (0, 0, 0);
    for _ in 0..steps {
        let partition = Partition(rng.random_range(0..PARTITIONS));
        let end = world.journal.log(partition).records.len() as u64;
        match rng.random_range(0..10u32) {
            0..4 => world.append(partition, rng.random_range(0..6)),
            4..6 => {
                let passed = world.gate.at(partition).0;
                world.gate.open(partition, Offset(rng.random_range(passed..=end)));
            }
            6 => {
                let mut log = world.journal.log(partition);
                // No further than what is committed, as every destination holds its part.
                let most = world.gate.at(partition).0;
                log.start = log.start.max(rng.random_range(0..=most).saturating_sub(5));
            }
            7 => {
                // One that comes back, perhaps when nobody else is there.
                let alone = rng.random_bool(0.3);
                for slot in &mut watchers {
                    if let Some(watcher) = slot.take_if(|_| alone || rng.random_bool(0.3)) {
                        let mut id = String::new();
                        watcher.cursor.write_id(watcher.last, &mut id);
                        missed += watcher.missed;
                        drop(watcher.cursor);
                        let begin = Begin::parse("id", &id).expect("its own id");
                        *slot = Some(world.watcher(&begin, watcher.places).await);
                        resumed += 1;
                    }
                }
            }
            _ => {
                let watcher = &mut watchers[rng.random_range(0..3usize)];
                let watcher = watcher.as_mut().expect("everybody has come back");
                for _ in 0..rng.random_range(1..8) {
                    events += u64::from(world.step(watcher).await);
                }
            }
        }
    }
    for partition in (0..PARTITIONS).map(Partition) {
        let end = world.journal.log(partition).records.len() as u64;
        world.gate.open(partition, Offset(end));
    }
    for watcher in watchers.iter_mut().flatten() {
        while world.step(watcher).await {
            events += 1;
        }
        missed += watcher.missed;
    }
    println!("{events} items, {missed} gaps, {resumed} came back");
    assert!(
        events > 0 && missed > 0 && resumed > 0,
        "the schedule tests nothing"
    );
}

#[tokio::test]
async fn whoever_watches_gets_each_event_once_in_order_or_its_name() {
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        200
    } else {
        6
    };
    for seed in 0..rounds {
        run(seed, 1_500).await;
    }
}

#[tokio::test]
async fn what_nobody_watches_is_not_read() {
    let mut world = World::new();
    world.append(Partition(0), 1);
    world.gate.open(Partition(0), Offset(1));
    let places = vec![Place::default(); PARTITIONS as usize];
    let mut watcher = world.watcher(&Begin::Start, places).await;
    assert!(world.step(&mut watcher).await);
    assert!(world.source.watched().is_some());
    drop(watcher);
    assert!(world.source.watched().is_none());
    let no_reader = async {
        while world.journal.changed.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, no_reader)
        .await
        .expect("no reader is left");
}
