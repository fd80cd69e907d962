//! The lake sink over a journal that is a `Vec`, and a real lake in a directory.
//!
//! Method: append seeded batches, let the sink run, end it in order or abruptly, start it again, and compare the
//! table's rows and position with what was appended (I-2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use event::{
    Batch, FieldDeclaration, FieldType, Offset, Partition, Position, Span, StreamDeclaration, StreamName,
    TraceId,
};
use futures::future::BoxFuture;
use journal::{AppendError, Durability, Journal, JournalId, JournalReader, Payload, ReadError, Record};
use lake::{Lake, LakeOptions, Table};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{LakeSink, LakeSinkOptions};
use tokio::runtime::Handle;
use tokio::sync::watch;

const SEED: u64 = 20_240_910;

/// What a stream's journal holds.
#[derive(Debug, Default)]
struct Kept {
    /// The offset of the first record that is still there.
    start: u64,
    records: Vec<bytes::Bytes>,
    rows: u64,
    /// What the sink said is stored.
    stored: u64,
}

/// A journal of one partition in memory.
#[derive(Debug)]
struct MemoryJournal {
    streams: Arc<Mutex<std::collections::HashMap<StreamName, Kept>>>,
    grown: watch::Sender<u64>,
    /// How many of the next reads fail as a disk would.
    failures: Arc<AtomicU64>,
}

impl MemoryJournal {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            streams: Arc::default(),
            grown: watch::channel(0).0,
            failures: Arc::default(),
        })
    }

    fn append_rows(&self, stream: &StreamDeclaration, rows: u32) {
        let numbers = Int64Array::from_iter_values(0..i64::from(rows));
        let batch = Batch {
            stream: stream.name.clone(),
            partition: Partition(0),
            version: stream.version,
            spans: vec![Span {
                rows,
                trace_id: TraceId::from_bytes([7; 16]),
                received_at: 1_700_000_000_000_000,
                idempotency_key: None,
                producer: None,
            }],
            rows: RecordBatch::try_new(event::schema::wire(stream), vec![Arc::new(numbers)]).expect("fits"),
        };
        let record = event::record::encode(&batch).expect("encodes");
        let mut streams = self.streams.lock().expect("not poisoned");
        let kept = streams.entry(stream.name.clone()).or_default();
        kept.records.push(record);
        kept.rows += u64::from(rows);
        drop(streams);
        self.grown.send_modify(|grown| *grown += 1);
    }

    fn with<T>(&self, stream: &StreamName, ask: impl FnOnce(&mut Kept) -> T) -> T {
        ask(self
            .streams
            .lock()
            .expect("not poisoned")
            .entry(stream.clone())
            .or_default())
    }

    fn rows(&self, stream: &StreamName) -> u64 {
        self.with(stream, |kept| kept.rows)
    }

    fn at(offset: u64) -> Vec<Position> {
        vec![Position::new(Partition(0), Offset(offset))]
    }
}

impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        JournalId("memory".to_owned())
    }
    fn stream_id(&self, _stream: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }
    fn partitions(&self, _stream: &StreamName) -> u32 {
        1
    }
    fn append(&self, _group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        Box::pin(async { Err(AppendError::ReadOnly) })
    }
    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let end = self.with(stream, |kept| kept.start + kept.records.len() as u64);
        Box::pin(async move { Ok(Self::at(end)) })
    }
    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        let start = self.with(stream, |kept| kept.start);
        Box::pin(async move { Ok(Self::at(start)) })
    }
    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        let start = self.with(stream, |kept| kept.start);
        let reader = Reader {
            streams: Arc::clone(&self.streams),
            stream: stream.clone(),
            next: from.offset.0,
            grown: self.grown.subscribe(),
            failures: Arc::clone(&self.failures),
        };
        Box::pin(async move {
            if from.offset.0 < start {
                return Err(ReadError::Gone {
                    asked: from,
                    start: Offset(start),
                });
            }
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        })
    }
    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        self.with(stream, |kept| kept.stored = stored[0].offset.0);
        Box::pin(async { Ok(()) })
    }
}

struct Reader {
    streams: Arc<Mutex<std::collections::HashMap<StreamName, Kept>>>,
    stream: StreamName,
    next: u64,
    grown: watch::Receiver<u64>,
    failures: Arc<AtomicU64>,
}

impl JournalReader for Reader {
    fn position(&self) -> Position {
        Position::new(Partition(0), Offset(self.next))
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            let fails = |left: u64| left.checked_sub(1);
            if self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails)
                .is_ok()
            {
                let source = std::io::Error::other("the disk is away");
                return Err(ReadError::Io {
                    operation: "read",
                    path: "memory".into(),
                    source,
                });
            }
            loop {
                self.grown.borrow_and_update();
                let records = self.take(bytes_max);
                if !records.is_empty() {
                    self.next += records.len() as u64;
                    return Ok(records);
                }
                if self.grown.changed().await.is_err() {
                    return Err(ReadError::Closed);
                }
            }
        })
    }
}

impl Reader {
    fn take(&self, bytes_max: usize) -> Vec<Record> {
        let streams = self.streams.lock().expect("not poisoned");
        let Some(kept) = streams.get(&self.stream) else {
            return Vec::new();
        };
        let skip = usize::try_from(self.next - kept.start).expect("small");
        let mut bytes = 0;
        let mut records = Vec::new();
        for (index, payload) in kept.records.iter().enumerate().skip(skip) {
            bytes += payload.len();
            if !records.is_empty() && bytes > bytes_max {
                break;
            }
            records.push(Record {
                partition: Partition(0),
                offset: Offset(kept.start + index as u64),
                payload: Payload::Record(payload.clone()),
            });
        }
        records
    }
}

fn declaration(name: &str) -> Arc<StreamDeclaration> {
    Arc::new(StreamDeclaration {
        name: StreamName::parse(name).expect("a name"),
        fields: vec![FieldDeclaration {
            name: "n".to_owned(),
            kind: FieldType::Int {
                min: i64::MIN,
                max: i64::MAX,
            },
            optional: false,
            description: String::new(),
            path: vec!["n".to_owned()],
        }],
        ..StreamDeclaration::rejects()
    })
}

async fn tables(directory: &std::path::Path, streams: &[Arc<StreamDeclaration>]) -> Vec<Arc<Table>> {
    let lake = Lake::open(LakeOptions {
        root: directory.to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: "memory".to_owned(),
        read_only: false,
        shared: false,
        keep_removed: Duration::from_secs(600),
    })
    .await
    .expect("open the lake");
    let mut tables = Vec::new();
    for stream in streams {
        tables.push(lake.table(Arc::clone(stream)).await.expect("open the table"));
    }
    tables
}

fn options(roll_every: Duration) -> LakeSinkOptions {
    LakeSinkOptions {
        roll_every,
        read_bytes: 4_096,
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(20),
        compact_every: Duration::from_millis(40),
        ..LakeSinkOptions::default()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "waited too long until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_commits_everything_and_tells_the_journal() {
    let directory = tempfile::tempdir().expect("a directory");
    let stream = declaration("a");
    let tables = tables(directory.path(), std::slice::from_ref(&stream)).await;
    let journal = MemoryJournal::new();
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
    let sink = LakeSink::start(
        &Handle::current(),
        shared,
        tables.clone(),
        options(Duration::from_secs(600)),
    );
    for rows in 1..=100 {
        journal.append_rows(&stream, rows);
    }
    sink.shutdown().await;
    let snapshot = tables[0].snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.end_index(), 5_050);
    assert_eq!(snapshot.position(Partition(0)).offset, Offset(100));
    assert_eq!(journal.with(&stream.name, |kept| kept.stored), 100);
    assert_eq!(snapshot.files.len(), 1, "rolled without a reason");
}

/// Each round runs on a runtime of its own, whose end drops every task wherever it is, and then waits for the
/// threads that were encoding or committing, as a process that ends must.
#[test]
fn after_abrupt_ends_each_row_is_there_once() {
    println!("seed {SEED}");
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        200
    } else {
        8
    };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let directory = tempfile::tempdir().expect("a directory");
    let stream = declaration("a");
    let journal = MemoryJournal::new();
    for _ in 0..rounds {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let tables = tables(directory.path(), std::slice::from_ref(&stream)).await;
            let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
            let roll_every = Duration::from_millis(random.random_range(1..30));
            let mut options = options(roll_every);
            if random.random() {
                // Every look brings several records, and no patience is left after the first of them.
                (options.read_bytes, options.patience) = (8 << 20, Duration::ZERO);
            }
            let sink = LakeSink::start(runtime.handle(), shared, tables.clone(), options);
            let committed = async || {
                let progress = sink.progress().read().await;
                progress.first().map_or(Offset(0), |one| one.committed)
            };
            let before = committed().await;
            for _ in 0..random.random_range(1..40) {
                journal.append_rows(&stream, random.random_range(1..500));
                tokio::task::yield_now().await;
            }
            if random.random() {
                until("something is committed", async || committed().await > before).await;
            }
        });
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let tables = tables(directory.path(), std::slice::from_ref(&stream)).await;
        let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
        let sink = LakeSink::start(
            runtime.handle(),
            shared,
            tables.clone(),
            options(Duration::from_millis(5)),
        );
        sink.shutdown().await;
        let snapshot = tables[0].snapshot().await.expect("a snapshot");
        assert_eq!(snapshot.end_index(), journal.rows(&stream.name), "seed {SEED}");
        let problems = tables[0].verify().await.expect("verify").problems;
        assert!(problems.is_empty(), "{problems:?}, seed {SEED}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_back_is_read_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let stream = declaration("a");
    let tables = tables(directory.path(), std::slice::from_ref(&stream)).await;
    let journal = MemoryJournal::new();
    journal.failures.store(5, Ordering::SeqCst);
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
    let sink = LakeSink::start(
        &Handle::current(),
        shared,
        tables.clone(),
        options(Duration::from_millis(5)),
    );
    journal.append_rows(&stream, 10);
    until("the rows are committed", async || {
        tables[0].snapshot().await.expect("a snapshot").end_index() == 10
    })
    .await;
    assert!(sink.progress().read().await[0].stopped.is_none());
    sink.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_stops_one_stream_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let streams = [declaration("a"), declaration("b")];
    let tables = tables(directory.path(), &streams).await;
    let journal = MemoryJournal::new();
    journal.with(&streams[0].name, |kept| kept.start = 3);
    for stream in &streams {
        journal.append_rows(stream, 10);
    }
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
    let sink = LakeSink::start(
        &Handle::current(),
        shared,
        tables.clone(),
        options(Duration::from_millis(5)),
    );
    let progress = sink.progress();
    until("the one stopped and the other is committed", async || {
        let all = progress.read().await;
        all[0].stopped.is_some() && all[1].committed == Offset(1)
    })
    .await;
    let reason = progress.read().await[0].stopped.clone().expect("stopped");
    assert!(reason.contains("gone"), "{reason}");
    assert_eq!(tables[0].snapshot().await.expect("a snapshot").end_index(), 0);
    sink.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_together_hold_no_more_than_the_tail_budget() {
    let directory = tempfile::tempdir().expect("a directory");
    let stream = declaration("a");
    let tables = tables(directory.path(), std::slice::from_ref(&stream)).await;
    let journal = MemoryJournal::new();
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
    let options = LakeSinkOptions {
        tail_bytes: 20_000,
        ..options(Duration::from_secs(600))
    };
    let sink = LakeSink::start(&Handle::current(), shared, tables.clone(), options);
    for _ in 0..200 {
        journal.append_rows(&stream, 100);
    }
    until("files were committed without age or size", async || {
        tables[0].snapshot().await.expect("a snapshot").end_index() > 10_000
    })
    .await;
    sink.shutdown().await;
    assert_eq!(
        tables[0].snapshot().await.expect("a snapshot").end_index(),
        20_000
    );
}
