//! Rollups over a journal in memory whose processes die at every step, or only seem dead.
//!
//! Method: each process has a view of one shared journal, which counts what it asks. A view can stop answering at the
//! nth question, before or after an append has happened, which is what `kill -9` does at that moment; or be late with
//! its answers, so that others go on meanwhile. In the end the rows of the chain must have contiguous ranges up to the
//! ends of the source, and each must equal a recount of its range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use event::stream::parse_streams;
use event::stream::rollup::{FOLLOWS, SOURCE, SOURCE_ROWS};
use event::{Batch, Offset, Partition, Position, Span, StreamDeclaration, StreamName, TraceId};
use futures::future::{BoxFuture, FutureExt, ready};
use journal::{
    AppendError, ChainedJournal, Durability, GroupMember, Journal, JournalId, JournalReader, Payload,
    ReadError, Record, SoleMember,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::*;

const SEED: u64 = 20_261_121;
const PARTITIONS: u32 = 3;

pub(super) const STREAMS: &str = r#"
[activity.fields]
user_id = "string"
kind = "string"

[metrics.rollup]
from = "activity"
every = "1s"
rows = 20
sql = "SELECT count(DISTINCT user_id) AS users, count(*) FILTER (WHERE kind = 'view') AS views FROM activity"
[metrics.fields]
users = "int"
views = "int"
"#;

pub(super) fn streams(text: &str) -> Vec<Arc<StreamDeclaration>> {
    let table = text.parse().expect("TOML");
    let streams = parse_streams(&table).expect("right");
    streams.into_iter().map(Arc::new).collect()
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("allowed")
}

/// One event of the source.
type Event = (String, String);

/// The journal that all processes share.
#[derive(Debug)]
struct World {
    records: Mutex<BTreeMap<(StreamName, u32), Vec<Record>>>,
    changed: watch::Sender<u64>,
    /// What was sent, by partition and offset.
    sent: Mutex<BTreeMap<(u32, u64), Vec<Event>>>,
}

/// One process's way to it.
struct View {
    world: Arc<World>,
    /// Questions until it is dead; none are answered then.
    left: AtomicI64,
    dead: watch::Sender<bool>,
    /// Longest time that an answer takes, milliseconds.
    slow: Mutex<Option<(ChaCha8Rng, u64)>>,
    /// Whether appends wait until this is over.
    asleep: watch::Receiver<bool>,
    asked: AtomicBool,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            changed: watch::channel(0).0,
            sent: Mutex::default(),
        })
    }

    fn push(&self, batch: &Batch) -> u64 {
        let bytes = event::record::encode(batch).expect("encodes");
        let mut all = self.records.lock().expect("whole");
        let records = all.entry((batch.stream.clone(), batch.partition.0)).or_default();
        let offset = Offset(records.len() as u64);
        records.push(Record {
            partition: batch.partition,
            offset,
            payload: Payload::Record(bytes),
        });
        let end = records.len() as u64;
        drop(all);
        self.changed.send_modify(|version| *version += 1);
        end
    }

    fn end(&self, stream: &StreamName, partition: u32) -> u64 {
        let all = self.records.lock().expect("whole");
        all.get(&(stream.clone(), partition))
            .map_or(0, |records| records.len() as u64)
    }

    /// Sends events that arrived at a moment, as one record.
    fn send(&self, partition: u32, received_at: i64, events: Vec<Event>) {
        let users: ArrayRef = Arc::new(StringArray::from_iter_values(events.iter().map(|event| &event.0)));
        let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(events.iter().map(|event| &event.1)));
        let span = Span {
            rows: events.len() as u32,
            trace_id: TraceId::from_bytes([1; 16]),
            received_at,
            idempotency_key: None,
            producer: None,
        };
        let end = self.push(&Batch {
            stream: name("activity"),
            partition: Partition(partition),
            version: 1,
            spans: vec![span],
            rows: RecordBatch::try_from_iter([("user_id", users), ("kind", kinds)]).expect("two columns"),
        });
        self.sent
            .lock()
            .expect("whole")
            .insert((partition, end - 1), events);
    }

    fn send_some(&self, random: &mut ChaCha8Rng, records: usize, received_at: impl Fn(usize) -> i64) -> u64 {
        let mut sent = 0;
        for number in 0..records {
            let count = random.random_range(1..30);
            let event = |random: &mut ChaCha8Rng| {
                let kind = if random.random() { "view" } else { "click" };
                (format!("u{}", random.random_range(0..40)), kind.to_owned())
            };
            let events = (0..count).map(|_| event(random)).collect();
            self.send(random.random_range(0..PARTITIONS), received_at(number), events);
            sent += count;
        }
        sent
    }

    /// The rows of the chain as a reader that knows everything finds them: ranges, users, views, events.
    fn chain(&self) -> Vec<(serde_json::Value, i64, i64, i64)> {
        let records = self.records.lock().expect("whole");
        let records = records.get(&(name("metrics"), 0)).cloned().unwrap_or_default();
        let (mut rows, mut last) = (Vec::new(), None);
        for record in records {
            let Payload::Record(bytes) = &record.payload else {
                continue;
            };
            let batch = event::record::decode(Partition(0), bytes).expect("decodes").rows;
            let int = |name: &str, row: usize| {
                let column = batch.column_by_name(name).expect("there");
                let column = column.as_primitive::<Int64Type>();
                column.iter().nth(row).flatten()
            };
            if int(FOLLOWS, 0) != last {
                continue;
            }
            last = Some(record.offset.0 as i64);
            for row in 0..batch.num_rows() {
                let source = batch.column_by_name(SOURCE).expect("there").as_string::<i32>();
                let number = |name: &str| int(name, row).expect("not null");
                let source = serde_json::from_str(source.value(row)).expect("JSON");
                rows.push((source, number("users"), number("views"), number(SOURCE_ROWS)));
            }
        }
        rows
    }

    fn counted(&self) -> i64 {
        self.chain().iter().map(|row| row.3).sum()
    }

    /// Whether ranges are contiguous up to the ends of the source, and every row equals a recount.
    fn check(&self, what: &str) {
        let mut reached: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let sent = self.sent.lock().expect("whole");
        for (source, users, views, rows) in self.chain() {
            let mut counted: Vec<&Event> = Vec::new();
            for range in source["ranges"].as_array().expect("ranges") {
                let number = |key: &str| range[key].as_u64().expect("a number");
                let (from, to) = (
                    (number("from"), number("from_row")),
                    (number("to"), number("to_row")),
                );
                let before = reached.insert(number("partition"), to).unwrap_or_default();
                assert_eq!(before, from, "{what}: contiguous");
                for ((partition, offset), events) in sent.iter() {
                    for (row, event) in (0..).zip(events) {
                        let at = (*offset, row);
                        if u64::from(*partition) == number("partition") && at >= from && at < to {
                            counted.push(event);
                        }
                    }
                }
            }
            let distinct: BTreeSet<_> = counted.iter().map(|event| &event.0).collect();
            let viewed = counted.iter().filter(|event| event.1 == "view").count();
            let recount = (distinct.len() as i64, viewed as i64, counted.len() as i64);
            assert_eq!((users, views, rows), recount, "{what}: {source}");
            assert!(rows > 0 && rows <= 20, "{what}: {rows} events in a window of 20");
        }
        for partition in 0..PARTITIONS {
            let end = self.end(&name("activity"), partition);
            let reached = reached.get(&partition.into()).copied().unwrap_or_default();
            assert_eq!(reached, (end, 0), "{what}: partition {partition} to its end");
        }
    }

    async fn until_counted(&self, events: u64, what: &str) {
        let mut changed = self.changed.subscribe();
        let counted = async {
            while self.counted() < events as i64 {
                let _ = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), counted).await;
        assert!(
            waited.is_ok(),
            "{what}: {} of {events} events are counted",
            self.counted()
        );
    }
}

impl View {
    fn of(world: &Arc<World>, questions: i64) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            left: AtomicI64::new(questions),
            dead: watch::channel(false).0,
            slow: Mutex::default(),
            asleep: watch::channel(false).1,
            asked: AtomicBool::new(false),
        })
    }

    /// One question: answered sooner or later, or never.
    async fn step(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            self.dead.send_replace(true);
            std::future::pending::<()>().await;
        }
        let wait = {
            let mut slow = self.slow.lock().expect("whole");
            slow.as_mut().map(|(random, most)| random.random_range(0..=*most))
        };
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    async fn starts(self: &Arc<Self>) -> Rollups {
        let streams = streams(STREAMS);
        let view: Arc<dyn Journal> = Arc::<Self>::clone(self);
        let journal = ChainedJournal::over(view, &streams);
        let options = RollupOptions {
            retry: [Duration::from_millis(1), Duration::from_millis(5)],
            ..RollupOptions::default()
        };
        Rollups::start(&journal, &streams, &[], &options)
            .await
            .expect("starts")
    }
}

struct ViewReader {
    world: Arc<World>,
    stream: StreamName,
    at: Position,
}

impl JournalReader for ViewReader {
    fn position(&self) -> Position {
        self.at
    }

    fn next(&mut self, _: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        async move {
            let mut changed = self.world.changed.subscribe();
            loop {
                {
                    let all = self.world.records.lock().expect("whole");
                    let records = all.get(&(self.stream.clone(), self.at.partition.0));
                    let from = self.at.offset.0 as usize;
                    let there = records.map_or(&[][..], |records| records.get(from..).unwrap_or_default());
                    if !there.is_empty() {
                        let given = there[..there.len().min(4)].to_vec();
                        self.at.offset = Offset(self.at.offset.0 + given.len() as u64);
                        return Ok(given);
                    }
                }
                let _ = changed.changed().await;
            }
        }
        .boxed()
    }
}

impl Journal for View {
    fn id(&self) -> JournalId {
        JournalId("world".to_owned())
    }

    fn stream_id(&self, _: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::KafkaAcksAll
    }

    fn partitions(&self, stream: &StreamName) -> u32 {
        if stream.as_str() == "activity" {
            PARTITIONS
        } else {
            1
        }
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        async move {
            self.step().await;
            self.asked.store(true, Ordering::Relaxed);
            let mut asleep = self.asleep.clone();
            let _ = asleep.wait_for(|asleep| !*asleep).await;
            let ends = group
                .iter()
                .map(|batch| Position::new(batch.partition, Offset(self.world.push(batch))));
            let ends = ends.collect();
            // It has happened, whether anybody hears of it or not.
            self.step().await;
            Ok(ends)
        }
        .boxed()
    }

    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            self.step().await;
            let ends = (0..self.partitions(stream)).map(|partition| {
                Position::new(Partition(partition), Offset(self.world.end(stream, partition)))
            });
            Ok(ends.collect())
        }
        .boxed()
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            self.step().await;
            let starts = 0..self.partitions(stream);
            Ok(starts
                .map(|partition| Position::new(Partition(partition), Offset(0)))
                .collect())
        }
        .boxed()
    }

    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        async move {
            self.step().await;
            let reader = ViewReader {
                world: Arc::clone(&self.world),
                stream: stream.clone(),
                at: from,
            };
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        }
        .boxed()
    }

    fn retain<'a>(&'a self, _: &'a StreamName, _: &'a [Position]) -> BoxFuture<'a, Result<(), ReadError>> {
        ready(Ok(())).boxed()
    }

    /// Everybody is told that everything is theirs.
    fn join<'a>(
        &'a self,
        _: &'a str,
        streams: &'a [StreamName],
    ) -> BoxFuture<'a, Result<Box<dyn GroupMember>, ReadError>> {
        let every = streams.iter().map(|stream| (stream.clone(), 1));
        let member: Box<dyn GroupMember> = Box::new(SoleMember::new(every));
        ready(Ok(member)).boxed()
    }
}

/// A moment long ago, so that every window has ended.
fn long_ago(number: usize) -> i64 {
    1_700_000_000_000_000 + number as i64 * 150_000
}

#[tokio::test]
async fn rows_are_exact_after_a_kill_at_every_step() {
    println!("seed {SEED}");
    let mut died = true;
    let mut step = 0;
    while died {
        step += 1;
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let world = World::new();
        let sent = world.send_some(&mut random, 12, long_ago);
        let view = View::of(&world, step);
        let rollups = view.starts().await;
        let mut dead = view.dead.subscribe();
        let what = format!("killed at step {step}");
        died = tokio::select! {
            _ = dead.wait_for(|dead| *dead) => true,
            () = world.until_counted(sent, &what) => false,
        };
        drop(rollups);
        let more = world.send_some(&mut random, 3, |number| long_ago(number + 12));
        let next = View::of(&world, i64::MAX).starts().await;
        world.until_counted(sent + more, &what).await;
        next.shutdown().await;
        world.check(&what);
    }
    println!("{step} steps");
    assert!(step > 10, "a run without a kill takes {step} steps only");
}

/// Three processes, all of which believe that the rollup is theirs, are killed and started while events come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_exact_when_several_processes_compute_and_die_at_once() {
    println!("seed {SEED}");
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        100
    } else {
        4
    };
    for round in 0..rounds {
        let mut random = ChaCha8Rng::seed_from_u64(SEED + round);
        let world = World::new();
        let mut sent = 0;
        let mut running: Vec<Option<Rollups>> = vec![None, None, None];
        for _ in 0..12 {
            sent += world.send_some(&mut random, 4, long_ago);
            let killed = random.random_range(0..3);
            let view = View::of(&world, i64::MAX);
            let slow = ChaCha8Rng::seed_from_u64(random.random());
            *view.slow.lock().expect("whole") = Some((slow, random.random_range(0..8)));
            running[killed] = Some(view.starts().await);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
        }
        let what = format!("round {round}");
        world.until_counted(sent, &what).await;
        drop(running);
        world.check(&what);
    }
}

/// A process sleeps in the middle of an append for as long as another one needs to count everything, and wakes up.
#[tokio::test]
async fn a_row_that_comes_late_is_in_no_chain_and_its_process_goes_on() {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let world = World::new();
    let mut sent = world.send_some(&mut random, 12, long_ago);
    let (wake, asleep) = watch::channel(true);
    let mut sleeper = View::of(&world, i64::MAX);
    Arc::get_mut(&mut sleeper).expect("nobody else has it").asleep = asleep;
    let sleeping = sleeper.starts().await;
    while !sleeper.asked.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = View::of(&world, i64::MAX).starts().await;
    world.until_counted(sent, "beside the sleeper").await;
    drop(other);
    let before = world.end(&name("metrics"), 0);
    wake.send_replace(false);
    sent += world.send_some(&mut random, 5, |number| long_ago(number + 12));
    world.until_counted(sent, "after it woke up").await;
    assert!(
        world.end(&name("metrics"), 0) > before + 1,
        "its late row is there, and is not counted"
    );
    drop(sleeping);
    world.check("late");
}

#[test]
fn sql_that_cannot_be_a_rollup_is_refused_with_the_reason() {
    let refused = |sql: &str, fields: &str| {
        let text = format!(
            "[activity.fields]\nuser_id = \"string\"\nkind = {{ type = \"string\", optional = true }}\nn = \"int\"\n\
             [m.rollup]\nfrom = \"activity\"\nevery = \"1s\"\nsql = \"{sql}\"\n[m.fields]\n{fields}"
        );
        let streams = streams(&text);
        let of = |wanted: &str| {
            streams
                .iter()
                .find(|stream| stream.name.as_str() == wanted)
                .expect("there")
        };
        check(of("m"), of("activity")).err()
    };
    let right = [
        ("SELECT count(*) AS n FROM activity", "n = \"int\""),
        (
            "SELECT coalesce(sum(n), 0) AS total FROM activity",
            "total = { type = \"int\", optional = true }",
        ),
        (
            "SELECT avg(n) AS a, max(_received_at) AS t FROM activity",
            "a = { type = \"float\", optional = true }\nt = { type = \"timestamp\", optional = true }",
        ),
        (
            "SELECT c AS n FROM (SELECT count(DISTINCT user_id) AS c FROM activity WHERE kind = 'x')",
            "n = \"int\"",
        ),
    ];
    for (sql, fields) in right {
        assert_eq!(refused(sql, fields), None, "{sql}");
    }
    for (sql, fields, reason) in [
        ("SELECT user_id AS n FROM activity", "n = \"string\"", "one row"),
        (
            "SELECT kind AS n, count(*) AS c FROM activity GROUP BY kind",
            "n = \"string\"\nc = \"int\"",
            "one row",
        ),
        (
            "SELECT count(*) AS n FROM activity HAVING count(*) > 3",
            "n = \"int\"",
            "one row",
        ),
        ("SELECT count(*) AS n FROM other", "n = \"int\"", "other"),
        (
            "SELECT count(*) AS n FROM activity; SELECT 1",
            "n = \"int\"",
            "one statement",
        ),
        ("DROP TABLE activity", "n = \"int\"", "only SELECT"),
        ("SHOW TABLES", "n = \"int\"", "only one SELECT"),
        ("SELECT count(*) FROM activity", "n = \"int\"", "AS"),
        (
            "SELECT count(*) AS n FROM activity",
            "n = \"int\"\nm = \"int\"",
            "`m` is no column",
        ),
        (
            "SELECT count(*) AS n FROM activity",
            "n = \"string\"",
            "its field is string",
        ),
        (
            "SELECT max(n) AS n FROM activity",
            "n = \"int\"",
            "optional = true",
        ),
        (
            "SELECT count(*) FILTER (WHERE _received_at < now()) AS n FROM activity",
            "n = \"int\"",
            "`now`",
        ),
        (
            "SELECT count(*) FILTER (WHERE random() < 0.5) AS n FROM activity",
            "n = \"int\"",
            "`random`",
        ),
    ] {
        let found = refused(sql, fields).unwrap_or_else(|| panic!("{sql} is taken"));
        assert!(found.contains(reason), "{sql}: {found}");
    }
}
