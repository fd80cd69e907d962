//! The lake sink and a stream whose ids are unique: each id is in the lake once within its window, whatever ends
//! between two commits, and also when two processes believe that the partition is theirs.
//!
//! Method: seeded records with ids that come again go into a real journal. Sinks run on runtimes that end abruptly,
//! two of them at once in some rounds, over one real lake. The model is one [`Seen`] over the whole journal.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::decode::EventDecoder;
use event::stream::parse_streams;
use event::unique::Seen;
use event::{Batch, Offset, Partition, Position, Span, StreamDeclaration, TraceId};
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use lake::{Lake, LakeOptions, Table};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{LakeSink, LakeSinkOptions};
use tokio::runtime::Runtime;

const SEED: u64 = 20_261_121;
const SECOND: i64 = 1_000_000;

/// Where an event is in the journal, and its id.
type Row = (i64, i32, i64);

fn stream() -> Arc<StreamDeclaration> {
    let text = "[s]\nunique = \"id\"\nunique_window = \"60s\"\n[s.fields]\nid = \"int\"";
    let streams = parse_streams(&text.parse().expect("TOML"));
    Arc::new(streams.expect("right").remove(0))
}

struct World {
    random: ChaCha8Rng,
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    model: Seen,
    kept: Vec<Row>,
    sent: u64,
    now: i64,
}

impl World {
    fn new() -> Self {
        println!("seed {SEED}");
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = EmbeddedOptions::new(directory.path().join("journal"));
        (options.segment_bytes, options.disk_reserve_bytes) = (1 << 20, 0);
        Self {
            random: ChaCha8Rng::seed_from_u64(SEED),
            journal: EmbeddedJournal::open(options).expect("a journal"),
            directory,
            model: Seen::new(&stream()).expect("it is unique"),
            kept: Vec::new(),
            sent: 0,
            now: 0,
        }
    }

    /// Appends a record; some hold nothing but duplicates.
    async fn append(&mut self) {
        let stream = stream();
        let mut decoder = EventDecoder::new(&stream);
        let rows = self.random.random_range(1..120_u32);
        self.now += self.random.random_range(0..4 * SECOND);
        let again = self.random.random_range(0..10) == 0;
        let mut ids = Vec::new();
        for _ in 0..rows {
            let back = if again {
                300
            } else {
                self.random.random_range(0..400)
            };
            let id = self.sent.saturating_sub(back);
            self.sent += u64::from(!again);
            let event = format!("{{\"id\": {id}}}");
            decoder.push(event.as_bytes()).expect("an event");
            ids.push(id as i64);
        }
        let batch = Batch {
            stream: stream.name.clone(),
            partition: Partition(0),
            version: 1,
            spans: vec![Span {
                rows,
                trace_id: TraceId::from_bytes([7; 16]),
                received_at: self.now - self.random.random_range(0..SECOND),
                idempotency_key: None,
                producer: None,
            }],
            rows: decoder.take().expect("rows"),
        };
        let kept = self.model.admit(&batch, &stream).expect("decides");
        let position = self.journal.append(vec![batch]).await.expect("durable")[0];
        for (row, id) in ids.into_iter().enumerate() {
            if kept.as_ref().is_none_or(|kept| kept.value(row)) {
                self.kept.push((position.offset.0 as i64 - 1, row as i32, id));
            }
        }
    }

    async fn table(&self) -> Arc<Table> {
        let options = LakeOptions {
            shared: true,
            ..LakeOptions::new(self.directory.path().join("lake"), self.journal.id().to_string())
        };
        let lake = Lake::open(options).await.expect("opens");
        lake.table(stream()).await.expect("opens")
    }

    async fn sink(&self, runtime: &Runtime, roll_every: Duration) -> LakeSink {
        let journal: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(&self.journal);
        let options = LakeSinkOptions {
            roll_every,
            read_bytes: 4_096,
            retry_first: Duration::from_millis(1),
            retry_longest: Duration::from_millis(20),
            compact_every: Duration::from_millis(30),
            ..LakeSinkOptions::default()
        };
        LakeSink::start(runtime.handle(), journal, vec![self.table().await], options)
    }
}

/// What the lake has, in its order.
async fn stored(table: &Table) -> Vec<Row> {
    let from = Position::new(Partition(0), Offset(0));
    let mut rows = table.partition_rows(from).await.expect("opens");
    let read = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        while let Some(batch) = rows.next_rows().expect("reads") {
            let column = |name: &str| batch.column_by_name(name).expect("there");
            let ids = column("id").as_primitive::<Int64Type>();
            let offsets = column("_offset").as_primitive::<Int64Type>();
            let numbers = column("_row").as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                found.push((offsets.value(row), numbers.value(row), ids.value(row)));
            }
        }
        found
    });
    read.await.expect("reads")
}

fn rounds() -> usize {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        150
    } else {
        8
    }
}

#[test]
fn after_abrupt_ends_and_with_two_sinks_at_once_each_id_is_there_once() {
    let mut world = World::new();
    for round in 0..rounds() {
        // Its end drops every task wherever it is, and waits for threads that encode or commit.
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let roll_every = Duration::from_millis(world.random.random_range(1..30));
            let sink = world.sink(&runtime, roll_every).await;
            let mut others = Vec::new();
            if round % 2 == 1 {
                others.push(world.sink(&runtime, roll_every).await);
            }
            let before = sink.progress().read().await[0].committed;
            for _ in 0..world.random.random_range(1..40) {
                world.append().await;
            }
            if world.random.random() {
                let begun = std::time::Instant::now();
                while sink.progress().read().await[0].committed <= before {
                    assert!(begun.elapsed() < Duration::from_secs(30), "nothing is committed");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        });
    }
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let sink = world.sink(&runtime, Duration::from_millis(5)).await;
        sink.shutdown().await;
        let table = world.table().await;
        let snapshot = table.snapshot().await.expect("a version");
        let end = world.journal.end(&stream().name).await.expect("an end")[0];
        assert_eq!(
            snapshot.position(Partition(0)),
            end,
            "duplicates alone move the position, too"
        );
        let found = stored(&table).await;
        assert_eq!(found.len() as u64, snapshot.end_index());
        assert!(
            found == world.kept,
            "{} of {} rows",
            found.len(),
            world.kept.len()
        );
        let problems = table.verify().await.expect("verifies").problems;
        assert!(problems.is_empty(), "{problems:?}");
        assert!(world.kept.len() < world.sent as usize, "nothing came again");
        world.journal.close().await;
    });
}

#[test]
fn duplicates_are_counted_when_they_are_committed() {
    let mut world = World::new();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let sink = world.sink(&runtime, Duration::from_millis(5)).await;
        let mut rows = 0;
        for _ in 0..20 {
            world.append().await;
        }
        let mut reader = world
            .journal
            .reader(&stream().name, Position::new(Partition(0), Offset(0)))
            .await
            .expect("a reader");
        while rows == 0 || reader.position() < world.journal.end(&stream().name).await.expect("an end")[0] {
            let mut decoder = journal::RecordDecoder::new(stream());
            for record in reader.next(1 << 20).await.expect("records") {
                rows += decoder.rows(&record).expect("a record");
            }
        }
        let expected = rows - world.kept.len() as u64;
        let begun = std::time::Instant::now();
        loop {
            let progress = sink.progress().read().await;
            if progress[0].duplicates == expected {
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{progress:?}, expected {expected}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sink.shutdown().await;
        world.journal.close().await;
    });
}
