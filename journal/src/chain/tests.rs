//! What two writers that know of each other only what they have read leave behind, read from every place.
//!
//! Method: a log in memory, in which each record names what its writer had last seen to be valid. A model walks the log
//! from its beginning; a reader that begins anywhere must find the same records valid.

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use event::stream::rollup::FOLLOWS;
use event::{Span, StreamName, TraceId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const SEED: u64 = 20_261_121;

/// A journal of one stream in memory, whose oldest records may be gone.
#[derive(Debug, Default)]
struct Log {
    records: Vec<Record>,
    start: u64,
}

struct LogReader {
    records: Vec<Record>,
    at: u64,
    end: u64,
}

impl JournalReader for LogReader {
    fn position(&self) -> Position {
        Position::new(Partition(0), Offset(self.at))
    }

    fn next(&mut self, _: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        assert!(self.at < self.end, "nobody may wait for what never comes");
        // At most three at a time, so that a filter has to go on where it was.
        let take = (self.end - self.at).min(3);
        let given = self.records[self.at as usize..][..take as usize].to_vec();
        self.at += take;
        std::future::ready(Ok(given)).boxed()
    }
}

impl Journal for Log {
    fn id(&self) -> JournalId {
        JournalId("log".to_owned())
    }

    fn stream_id(&self, _: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn partitions(&self, _: &StreamName) -> u32 {
        1
    }

    fn append(&self, _: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        std::future::ready(Err(AppendError::ReadOnly)).boxed()
    }

    fn end<'a>(&'a self, _: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let end = Position::new(Partition(0), Offset(self.records.len() as u64));
        std::future::ready(Ok(vec![end])).boxed()
    }

    fn start<'a>(&'a self, _: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let start = Position::new(Partition(0), Offset(self.start));
        std::future::ready(Ok(vec![start])).boxed()
    }

    fn reader<'a>(
        &'a self,
        _: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        let reader = LogReader {
            records: self.records.clone(),
            at: from.offset.0,
            end: self.records.len() as u64,
        };
        let found = if from.offset.0 < self.start {
            let start = Offset(self.start);
            Err(ReadError::Gone { asked: from, start })
        } else {
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        };
        std::future::ready(found).boxed()
    }

    fn retain<'a>(&'a self, _: &'a StreamName, _: &'a [Position]) -> BoxFuture<'a, Result<(), ReadError>> {
        std::future::ready(Ok(())).boxed()
    }
}

fn stream() -> StreamName {
    StreamName::parse("totals").expect("allowed")
}

fn record(offset: u64, follows: Option<u64>) -> Record {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![follows.map(|before| before as i64)]));
    let span = Span {
        rows: 1,
        trace_id: TraceId::from_bytes([1; 16]),
        received_at: 0,
        idempotency_key: None,
        producer: None,
    };
    let batch = Batch {
        stream: stream(),
        partition: Partition(0),
        version: 1,
        spans: vec![span],
        rows: RecordBatch::try_from_iter([(FOLLOWS, column)]).expect("one column"),
    };
    let bytes = event::record::encode(&batch).expect("encodes");
    Record {
        partition: Partition(0),
        offset: Offset(offset),
        payload: Payload::Record(bytes),
    }
}

/// A log that is being written: what each record follows, and which ones are valid.
#[derive(Clone, Debug, Default)]
struct Model {
    follows: Vec<Option<u64>>,
    valid: Vec<u64>,
    /// What each writer has seen to be the last valid one.
    seen: [Option<u64>; 2],
}

impl Model {
    fn read(&mut self, writer: usize) {
        self.seen[writer] = self.valid.last().copied();
    }

    fn append(&mut self, writer: usize) {
        let offset = self.follows.len() as u64;
        if self.valid.last().copied() == self.seen[writer] {
            self.valid.push(offset);
        }
        self.follows.push(self.seen[writer]);
    }

    fn step(&mut self, step: usize) {
        match step % 4 {
            0 | 1 => self.append(step % 2),
            _ => self.read(step % 2),
        }
    }

    /// What a reader of the journal that begins at `start` finds valid from `from` on.
    async fn found(&self, start: u64, from: u64) -> Vec<u64> {
        let offsets = (0..).zip(&self.follows);
        let log = Log {
            records: offsets
                .map(|(offset, follows)| record(offset, *follows))
                .collect(),
            start,
        };
        let journal = ChainedJournal {
            inner: Arc::new(log),
            rollups: BTreeSet::from([stream()]),
            places: Arc::default(),
        };
        let (name, end) = (stream(), self.follows.len() as u64);
        let from = Position::new(Partition(0), Offset(from));
        let mut found = Vec::new();
        let mut reader = journal.reader(&name, from).await.expect("the position is there");
        while reader.position().offset.0 < end {
            let records = reader.next(1).await.expect("readable");
            let valid = records
                .iter()
                .filter(|record| matches!(record.payload, Payload::Record(_)));
            found.extend(valid.map(|record| record.offset.0));
        }
        // What was learned on the way says the same.
        let again = journal
            .reader(&name, Position::new(Partition(0), Offset(end)))
            .await;
        assert!(again.is_ok());
        assert_eq!(
            journal.places.get(&name, Offset(end)).flatten(),
            found.last().copied().or(self.last_below(from))
        );
        found
    }

    fn last_below(&self, from: Position) -> Option<u64> {
        self.valid.iter().copied().rfind(|valid| *valid < from.offset.0)
    }

    fn valid_from(&self, from: u64) -> Vec<u64> {
        self.valid
            .iter()
            .copied()
            .filter(|valid| *valid >= from)
            .collect()
    }
}

#[tokio::test]
async fn every_interleaving_of_two_writers_reads_the_same_from_every_place() {
    const STEPS: u32 = 6;
    for schedule in 0..4_usize.pow(STEPS) {
        let mut model = Model::default();
        for step in 0..STEPS {
            model.step(schedule / 4_usize.pow(step) % 4);
        }
        for from in 0..model.follows.len() as u64 {
            let found = model.found(0, from).await;
            assert_eq!(
                found,
                model.valid_from(from),
                "schedule {schedule}, from {from}: {model:?}"
            );
        }
    }
}

#[tokio::test]
async fn long_races_read_the_same_from_every_place_even_when_the_oldest_records_are_gone() {
    println!("seed {SEED}");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for round in 0..40 {
        let mut model = Model::default();
        // From writers that hardly ever read to writers that nearly always do.
        let reads = f64::from(round) / 40.0;
        for _ in 0..40 {
            let writer = random.random_range(0..2_usize);
            if random.random_bool(reads) {
                model.read(writer);
            }
            model.append(writer);
        }
        let end = model.follows.len() as u64;
        for _ in 0..40 {
            let start = random.random_range(0..end);
            let from = random.random_range(start..end);
            let named = &model.follows[start as usize..from as usize];
            // Otherwise the journal has nothing of what the chain hangs on, as the module says.
            if start == 0 || named.iter().flatten().any(|named| *named >= start) {
                let found = model.found(start, from).await;
                assert_eq!(
                    found,
                    model.valid_from(from),
                    "round {round}, {start}, {from}: {model:?}"
                );
            }
        }
    }
}

/// As on one machine, where nobody else appends.
#[tokio::test]
async fn a_chain_of_one_writer_is_whole_wherever_the_journal_begins() {
    let mut model = Model::default();
    for _ in 0..12 {
        model.append(0);
        model.read(0);
    }
    for start in 0..12 {
        for from in start..12 {
            assert_eq!(
                model.found(start, from).await,
                model.valid_from(from),
                "{start}, {from}"
            );
        }
    }
}

#[tokio::test]
async fn other_streams_and_offsets_that_hold_nothing_pass_through() {
    let mut log = Log {
        records: vec![
            record(0, None),
            record(1, Some(0)),
            record(2, Some(0)),
            record(3, Some(1)),
        ],
        start: 0,
    };
    log.records[2].payload = Payload::Nothing;
    let journal = ChainedJournal {
        inner: Arc::new(log),
        rollups: BTreeSet::from([stream()]),
        places: Arc::default(),
    };
    let other = StreamName::parse("other").expect("allowed");
    for (name, valid) in [(stream(), 3), (other, 3)] {
        let mut reader = journal
            .reader(&name, Position::new(Partition(0), Offset(0)))
            .await
            .expect("there");
        let mut found = 0;
        while reader.position().offset.0 < 4 {
            let records = reader.next(1).await.expect("readable");
            found += records
                .iter()
                .filter(|record| matches!(record.payload, Payload::Record(_)))
                .count();
        }
        assert_eq!(found, valid, "{name}");
    }
}
