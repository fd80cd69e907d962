//! What other programs' messages become in the lake: events in their stream's table, the others in that of `_rejects`,
//! each exactly once (I-2), whenever the sink ends.
//!
//! Method: a journal in memory with messages, a real lake in a directory. The sink is dropped at random moments, or its
//! disk refuses the stream's own commit after that of the rejects. Then rows are counted, and `verify` reads every file:
//! of a table with as many rows as there were rejects, whose offsets only rise, none is missing or doubled.

#[path = "json_rejects/journal.rs"]
mod memory;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event::reject_rows;
use event::{
    FieldDeclaration, FieldType, Offset, Partition, RecordFormat, Reject, RejectCode, Span,
    StreamDeclaration, StreamName, TraceId,
};
use journal::{Decoded, Journal, Payload, Record, RecordDecoder};
use lake::{Disk, DiskFile, Lake, LakeOptions, LocalDisk, SyncPoint, Table};
use memory::{MemoryJournal, message};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{LakeSink, LakeSinkOptions};
use tokio::runtime::Handle;

const SEED: u64 = 20_261_121;

const GOOD: &str = r#"{"n":1}"#;
/// Each is a reject of another kind.
const BAD: [Option<&str>; 5] = [
    None,
    Some("no json"),
    Some(r#"{"n":"text"}"#),
    Some("{}"),
    Some(r#"{"n":1,"m":2}"#),
];

fn json_stream(name: &str) -> Arc<StreamDeclaration> {
    Arc::new(StreamDeclaration {
        name: StreamName::parse(name).expect("a name"),
        format: RecordFormat::Json,
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

/// The tables of `_rejects`, and of the streams `a` and `b`.
async fn tables(directory: &Path, disk: Arc<dyn Disk>) -> [Arc<Table>; 3] {
    let options = LakeOptions::new(directory, "memory");
    let lake = Lake::open_on(options, disk).await.expect("open the lake");
    let streams = [
        Arc::new(StreamDeclaration::rejects()),
        json_stream("a"),
        json_stream("b"),
    ];
    let mut tables = Vec::new();
    for stream in streams {
        tables.push(lake.table(stream).await.expect("open the table"));
    }
    tables.try_into().expect("three")
}

fn options(roll_every: Duration) -> LakeSinkOptions {
    LakeSinkOptions {
        roll_every,
        read_bytes: 256,
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(10),
        compact_every: Duration::from_millis(40),
        ..LakeSinkOptions::default()
    }
}

fn start(
    runtime: &Handle,
    journal: &Arc<MemoryJournal>,
    tables: &[Arc<Table>],
    roll_every: Duration,
) -> LakeSink {
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(journal);
    LakeSink::start(runtime, shared, tables.to_vec(), options(roll_every))
}

async fn rows(table: &Table) -> u64 {
    table.snapshot().await.expect("a snapshot").end_index()
}

async fn committed(table: &Table) -> u64 {
    let snapshot = table.snapshot().await.expect("a snapshot");
    snapshot.position(Partition(0)).offset.0
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited too long until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn assert_sound(tables: &[Arc<Table>]) {
    for table in tables {
        let problems = table.verify().await.expect("verify").problems;
        assert!(problems.is_empty(), "{}: {problems:?}", table.declaration().name);
    }
}

/// What was appended.
#[derive(Debug, Default)]
struct Appended {
    /// Of each stream.
    events: [u64; 2],
    rejects: u64,
}

/// Appends messages of all kinds to a stream, or a record of rejects as an HTTP request leaves it.
fn append_some(journal: &MemoryJournal, random: &mut ChaCha8Rng, appended: &mut Appended) {
    let which = random.random_range(0..3);
    let Some(name) = ["a", "b"].get(which) else {
        return append_request_rejects(journal, random, appended);
    };
    let stream = StreamName::parse(name).expect("a name");
    for _ in 0..random.random_range(1..60) {
        match random.random_range(0..10) {
            0 => journal.append_payload(&stream, Payload::Nothing),
            kind @ 1..=3 => {
                let text = BAD[(kind + random.random_range(0..2_usize)) % BAD.len()];
                journal.append_payload(&stream, message(text));
                appended.rejects += 1;
            }
            _ => {
                journal.append_payload(&stream, message(Some(GOOD)));
                appended.events[which] += 1;
            }
        }
    }
}

fn append_request_rejects(journal: &MemoryJournal, random: &mut ChaCha8Rng, appended: &mut Appended) {
    let count = random.random_range(1..5);
    let rejects: Vec<_> = (1..=count)
        .map(|line| Reject {
            line,
            code: RejectCode::MissingField,
            field: Some("n".to_owned()),
            message: "missing".to_owned(),
            raw: b"{}".to_vec(),
        })
        .collect();
    let span = Span {
        rows: 0,
        trace_id: TraceId::from_bytes([7; 16]),
        received_at: 1_700_000_000_000_000,
        idempotency_key: None,
        producer: None,
    };
    let stream = StreamName::parse("a").expect("a name");
    let batch = reject_rows::batch(&stream, &rejects, &span).expect("columns");
    let record = event::record::encode(&batch).expect("encodes");
    journal.append_payload(&StreamName::rejects(), Payload::Record(record));
    appended.rejects += count;
}

/// Each round runs on a runtime of its own, whose end drops every task wherever it is, and then waits for the threads
/// that were encoding or committing, as a process that ends must.
#[test]
fn after_abrupt_ends_each_event_and_each_reject_is_there_once() {
    println!("seed {SEED}");
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        300
    } else {
        20
    };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let directory = tempfile::tempdir().expect("a directory");
    let journal = MemoryJournal::new();
    let mut appended = Appended::default();
    let mut between = 0;
    for _ in 0..rounds {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let tables = tables(directory.path(), Arc::new(LocalDisk)).await;
            let before = rows(&tables[0]).await;
            let roll_every = Duration::from_millis(random.random_range(1..30));
            let sink = start(runtime.handle(), &journal, &tables, roll_every);
            for _ in 0..random.random_range(1..20) {
                append_some(&journal, &mut random, &mut appended);
                tokio::task::yield_now().await;
            }
            if random.random() {
                // Just after the rejects are in, the stream's own commit is under way.
                until("something is rejected", async || rows(&tables[0]).await > before).await;
                between += 1;
            }
            drop(sink);
        });
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let tables = tables(directory.path(), Arc::new(LocalDisk)).await;
        let sink = start(runtime.handle(), &journal, &tables, Duration::from_millis(5));
        sink.shutdown().await;
        println!("{appended:?}, {between} ends right after a commit");
        let [rejects, a, b] = &tables;
        assert_eq!([rows(a).await, rows(b).await], appended.events, "seed {SEED}");
        assert_eq!(rows(rejects).await, appended.rejects, "seed {SEED}");
        for table in &tables {
            assert_eq!(committed(table).await, journal.len(&table.declaration().name));
        }
        assert_sound(&tables).await;
    });
}

/// A disk that refuses the commits of the table `a` for a while.
#[derive(Debug, Default)]
struct RefusingDisk {
    refuses: AtomicBool,
}

impl Disk for RefusingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        LocalDisk.create(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let log = to.parent().is_some_and(|parent| parent.ends_with("a/_delta_log"));
        if log && self.refuses.load(Ordering::SeqCst) {
            return Err(io::Error::other("no room for another name"));
        }
        LocalDisk.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_directory(path)
    }
    fn sync_directory(&self, path: &Path, point: SyncPoint) -> io::Result<()> {
        LocalDisk.sync_directory(path, point)
    }
}

/// The stream's range is read again and again, begins below what `_rejects` has of it and ends above.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_already_is_left_out_when_the_range_is_read_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(RefusingDisk::default());
    let tables = tables(directory.path(), Arc::<RefusingDisk>::clone(&disk)).await;
    let [rejects, a, _] = &tables;
    let journal = MemoryJournal::new();
    disk.refuses.store(true, Ordering::SeqCst);
    let sink = start(&Handle::current(), &journal, &tables, Duration::from_millis(5));
    let progress = sink.progress();
    let mut expected = 0;
    for _ in 0..5 {
        for _ in 0..20 {
            journal.append_texts(&a.declaration().name, [GOOD, "{}", GOOD, "no json"]);
        }
        expected += 40;
        until("the rejects are committed", async || {
            rows(rejects).await == expected
        })
        .await;
        until("the stream's own commit failed", async || {
            let all = progress.read().await;
            all.iter()
                .any(|one| one.stream == a.declaration().name && one.failing.is_some())
        })
        .await;
        assert_eq!(rows(a).await, 0);
    }
    disk.refuses.store(false, Ordering::SeqCst);
    until("the events are committed", async || rows(a).await == 200).await;
    sink.shutdown().await;
    assert_eq!((rows(a).await, rows(rejects).await), (200, 200));
    assert_eq!(committed(a).await, 400);
    assert_sound(&tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_an_event_move_the_position_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let tables = tables(directory.path(), Arc::new(LocalDisk)).await;
    let [rejects, a, b] = &tables;
    let journal = MemoryJournal::new();
    for text in BAD {
        journal.append_payload(&a.declaration().name, message(text));
    }
    journal.append_payload(&b.declaration().name, Payload::Nothing);
    start(&Handle::current(), &journal, &tables, Duration::from_secs(600))
        .shutdown()
        .await;
    assert_eq!([committed(a).await, committed(b).await], [5, 1]);
    assert_eq!([rows(a).await, rows(b).await, rows(rejects).await], [0, 0, 5]);
    // What comes then goes on behind it.
    journal.append_texts(&a.declaration().name, [GOOD]);
    start(&Handle::current(), &journal, &tables, Duration::from_secs(600))
        .shutdown()
        .await;
    assert_eq!(
        (committed(a).await, rows(a).await, rows(rejects).await),
        (6, 1, 5)
    );
    assert_sound(&tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rejects_roll_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let tables = tables(directory.path(), Arc::new(LocalDisk)).await;
    let journal = MemoryJournal::new();
    let texts = std::iter::repeat_n("no json", 70_000);
    journal.append_texts(&tables[1].declaration().name, texts);
    let shared: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
    let options = LakeSinkOptions {
        read_bytes: 64 << 10,
        ..options(Duration::from_secs(600))
    };
    let sink = LakeSink::start(&Handle::current(), shared, tables.to_vec(), options);
    until("some are committed", async || rows(&tables[0]).await >= 1 << 16).await;
    sink.shutdown().await;
    assert_eq!(rows(&tables[0]).await, 70_000);
    assert_sound(&tables).await;
}

/// Prints what it costs to decode messages and to place them in the lake's columns, one by one and together.
#[test]
#[ignore = "a measurement"]
fn messages_one_by_one_and_together() {
    const MESSAGES: u64 = 100_000;
    let stream = json_stream("a");
    let records: Vec<_> = (0..MESSAGES)
        .map(|offset| Record {
            partition: Partition(0),
            offset: Offset(offset),
            payload: message(Some(&format!(r#"{{"n":{offset}}}"#))),
        })
        .collect();
    let mut decoder = RecordDecoder::new(Arc::clone(&stream));
    for _ in 0..3 {
        let begun = Instant::now();
        let mut found = 0;
        for record in &records {
            let Decoded::Batch(batch) = decoder.decode(record).expect("readable") else {
                panic!("an event")
            };
            found += event::schema::to_lake(&batch, record.offset, &stream)
                .expect("fits")
                .num_rows();
        }
        let alone = begun.elapsed();
        let begun = Instant::now();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let messages = decoder.decode_messages(rest);
            let batch = messages.batch.expect("events");
            let rows = event::schema::messages_to_lake(&batch, &messages.offsets, &stream);
            found += rows.expect("fits").num_rows();
            rest = &rest[messages.taken..];
        }
        assert_eq!(found as u64, 2 * MESSAGES);
        println!(
            "{MESSAGES} messages: one by one {alone:?}, together {:?}",
            begun.elapsed()
        );
    }
}
