//! A stream whose ids are unique: every answer is the same wherever the boundary between lake and tail lies, for a
//! process that has run all the time and for one that has just begun.
//!
//! Method: seeded events whose ids come again inside and outside of the window go into a real journal. A sink that
//! starts anew before every commit brings some of the records into a real lake, and merges files now and then. The
//! model is one [`Seen`] over the whole journal, which `event` compares with the definition. After each step indexes,
//! pages, statistics and SQL are compared with it; so is what clients see who watch, and the rows of rollups.

#[path = "unique_answers/rollup.rs"]
mod rollup;
#[path = "unique_answers/watched.rs"]
mod watched;

use std::sync::Arc;

use analytics::{Analytics, AnalyticsOptions};
use arrow_array::cast::AsArray;
use axum::body::Body;
use event::decode::EventDecoder;
use event::stream::parse_streams;
use event::unique::{Ids, Seen};
use event::{Batch, Catalog, Offset, Partition, Position, Span, StreamDeclaration, TraceId, schema};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use journal::{Decoded, Journal, RecordDecoder};
use lake::{Advance, CompactOptions, Lake, LakeOptions, Table, WriterOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::ServiceExt;

/// 2024-01-01, microseconds.
const BASE: i64 = 1_704_067_200_000_000;
const SECOND: i64 = 1_000_000;

fn stream() -> Arc<StreamDeclaration> {
    let text = "[s]\nunique = \"id\"\nunique_window = \"60s\"\n[s.fields]\nid = \"uuid\"\nn = \"int\"";
    let streams = parse_streams(&text.parse().expect("TOML"));
    Arc::new(streams.expect("right").remove(0))
}

fn id(number: u64) -> String {
    uuid::Uuid::from_u128(u128::from(number) + (7 << 64))
        .hyphenated()
        .to_string()
}

struct World {
    random: ChaCha8Rng,
    stream: Arc<StreamDeclaration>,
    journal: Arc<EmbeddedJournal>,
    table: Arc<Table>,
    directory: tempfile::TempDir,
    model: Seen,
    /// (id, n) of every kept event.
    kept: Vec<(String, i64)>,
    now: i64,
    sent: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = EmbeddedOptions::new(directory.path().join("journal"));
        (options.segment_bytes, options.disk_reserve_bytes) = (1 << 20, 0);
        let journal = EmbeddedJournal::open(options).expect("a journal");
        let options = LakeOptions {
            shared: true,
            ..LakeOptions::new(directory.path().join("lake"), journal.id().to_string())
        };
        let lake = Lake::open(options).await.expect("opens");
        let table = lake.table(stream()).await.expect("opens");
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            stream: stream(),
            journal,
            table,
            directory,
            model: Seen::new(&stream()).expect("it is unique"),
            kept: Vec::new(),
            now: BASE,
            sent: 0,
        }
    }

    /// A process that has just begun.
    async fn analytics(&self, number: usize) -> Analytics {
        let options = LakeOptions {
            read_only: true,
            ..LakeOptions::new(self.directory.path().join("lake"), self.journal.id().to_string())
        };
        let lake = Lake::open(options).await.expect("opens");
        let journal: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(&self.journal);
        let options = AnalyticsOptions {
            tail_bytes: 4 << 10,
            ..AnalyticsOptions::new(self.directory.path().join(format!("cache-{number}")))
        };
        let catalog = Catalog::new([StreamDeclaration::clone(&self.stream)]);
        Analytics::open(catalog, lake, journal, options)
            .await
            .expect("opens")
    }

    /// Appends one record, of one to three requests.
    async fn append(&mut self) {
        let mut decoder = EventDecoder::new(&self.stream);
        let (mut spans, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..self.random.random_range(1..4) {
            let rows = self.random.random_range(1..30_u32);
            self.now += self.random.random_range(0..8 * SECOND);
            for _ in 0..rows {
                let number = self.sent.saturating_sub(self.random.random_range(0..250));
                let n = self.sent as i64;
                self.sent += 1;
                let event = json!({"id": id(number), "n": n}).to_string();
                decoder.push(event.as_bytes()).expect("an event");
                sent.push((id(number), n));
            }
            spans.push(Span {
                rows,
                trace_id: TraceId::from_bytes([7; 16]),
                received_at: self.now - self.random.random_range(0..2 * SECOND),
                idempotency_key: None,
                producer: None,
            });
        }
        let batch = Batch {
            stream: self.stream.name.clone(),
            partition: Partition(0),
            version: 1,
            spans,
            rows: decoder.take().expect("rows"),
        };
        let kept = self.model.admit(&batch, &self.stream).expect("decides");
        let is_kept = |row: usize| kept.as_ref().is_none_or(|kept| kept.value(row));
        let new = sent.into_iter().enumerate().filter(|(row, _)| is_kept(*row));
        self.kept.extend(new.map(|(_, event)| event));
        self.journal.append(vec![batch]).await.expect("durable");
    }

    /// Commits some records, as a sink does that has just begun.
    async fn roll(&mut self) {
        let snapshot = self.table.snapshot().await.expect("a version");
        let from = snapshot.position(Partition(0));
        let end = self.journal.end(&self.stream.name).await.expect("an end")[0].offset;
        let to = Offset(end.0.min(from.offset.0 + self.random.random_range(1..4)));
        if from.offset == to {
            return;
        }
        let seen = self.table.seen(&snapshot, from).await.expect("reads ids");
        let mut seen = seen.expect("it is unique");
        let mut reader = self
            .journal
            .reader(&self.stream.name, from)
            .await
            .expect("a reader");
        let mut decoder = RecordDecoder::new(Arc::clone(&self.stream));
        let mut writer = self.table.writer(&WriterOptions::default()).expect("a writer");
        let mut at = from.offset;
        while at < to {
            for record in reader.next(1).await.expect("records") {
                let Decoded::Batch(batch) = decoder.decode(&record).expect("a record") else {
                    panic!("the record holds events")
                };
                let rows = schema::to_lake(&batch, record.offset, &self.stream).expect("rows");
                let rows = seen.admit_rows(&batch, &self.stream, rows).expect("decides");
                if rows.num_rows() > 0 {
                    writer.write(&rows).expect("written");
                }
                at = record.offset.next();
            }
        }
        let files = if writer.rows() > 0 {
            vec![writer.finish().expect("finished")]
        } else {
            Vec::new()
        };
        let advance = Advance {
            partition: Partition(0),
            from: from.offset,
            to,
        };
        self.table.commit(files, &[advance]).await.expect("committed");
    }

    async fn compact(&self) {
        let options = CompactOptions {
            small_bytes: 1 << 20,
            target_bytes: 6 << 10,
        };
        let compacted = self.table.compact(&options, &WriterOptions::default()).await;
        compacted.expect("compacted");
    }

    async fn check(&mut self, analytics: &Analytics) {
        let count = self.kept.len();
        let index = self.random.random_range(0..count + 2);
        let (status, found) = get(analytics, &format!("/v1/streams/s/events/{index}")).await;
        match self.kept.get(index) {
            Some((id, n)) => {
                assert_eq!(
                    (status, &found["id"], &found["n"]),
                    (StatusCode::OK, &json!(id), &json!(n))
                );
            }
            None => assert_eq!(status, StatusCode::NOT_FOUND),
        }
        let (_, stats) = get(analytics, "/v1/streams/s/stats").await;
        assert_eq!(stats["count"], json!(count), "{stats}");
        let (_, page) = get(analytics, "/v1/streams/s/events?limit=10000").await;
        let listed = page["events"].as_array().expect("events").iter();
        let listed: Vec<_> = listed
            .map(|event| (event["_index"].clone(), event["n"].clone()))
            .collect();
        let expected = self.kept.iter().enumerate();
        let expected: Vec<_> = expected.map(|(index, (_, n))| (json!(index), json!(n))).collect();
        assert_eq!(listed, expected);
        let skip = self.random.random_range(0..count);
        let rest = sql(
            analytics,
            &format!("SELECT n FROM s ORDER BY _index LIMIT 3 OFFSET {skip}"),
        )
        .await;
        let expected = self.kept[skip..].iter().take(3);
        let expected: Vec<_> = expected.map(|(_, n)| json!([n])).collect();
        assert_eq!(rest, Value::Array(expected));
        let sums = sql(analytics, "SELECT count(*), sum(n), max(_index) FROM s").await;
        let sum: i64 = self.kept.iter().map(|(_, n)| n).sum();
        assert_eq!(sums, json!([[count, sum, count - 1]]));
    }
}

async fn ask(analytics: &Analytics, request: Request<Body>) -> (StatusCode, Value) {
    let response = analytics.router().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(analytics: &Analytics, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    ask(analytics, request).await
}

async fn sql(analytics: &Analytics, sql: &str) -> Value {
    let request = Request::post("/v1/sql").header("content-type", "application/json");
    let body = Body::from(json!({"sql": sql}).to_string());
    let (status, answer) = ask(analytics, request.body(body).expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{sql}: {answer}");
    answer["rows"].clone()
}

fn steps() -> usize {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        1_500
    } else {
        60
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_seen_once_wherever_the_lake_ends() {
    let mut world = World::new(5).await;
    world.append().await;
    let lasting = world.analytics(0).await;
    for step in 1..steps() {
        match world.random.random_range(0..10) {
            0..5 => world.append().await,
            5..8 => world.roll().await,
            8 => world.compact().await,
            _ => {
                let new = world.analytics(step).await;
                world.check(&new).await;
            }
        }
        world.check(&lasting).await;
    }
    let (sent, kept) = (world.sent, world.kept.len() as u64);
    assert!(
        kept < sent * 4 / 5,
        "{kept} of {sent} were kept: too few came again"
    );
    // Outside of the window ids are stored again.
    let mut ids: Vec<_> = world.kept.iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert!(ids.len() < all, "no id came again after its time");
    world.journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_at_once_over_a_lake_that_grows_agree() {
    let mut world = World::new(6).await;
    for _ in 0..30 {
        world.append().await;
    }
    let count = json!(world.kept.len());
    let lasting = world.analytics(0).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (analytics, count) = (lasting.clone(), count.clone());
        asking.spawn(async move {
            for _ in 0..25 {
                let (_, stats) = get(&analytics, "/v1/streams/s/stats").await;
                assert_eq!(stats["count"], count, "{stats}");
                let found = sql(&analytics, "SELECT count(*) FROM s").await;
                assert_eq!(found, json!([[count]]));
            }
        });
    }
    for _ in 0..40 {
        world.roll().await;
        tokio::task::yield_now().await;
    }
    while let Some(one) = asking.join_next().await {
        one.expect("answers agree");
    }
    world.journal.close().await;
}

#[tokio::test]
async fn what_is_known_is_read_from_the_newest_rows_of_the_partition() {
    let mut world = World::new(7).await;
    for _ in 0..40 {
        world.append().await;
        world.roll().await;
    }
    while world
        .table
        .snapshot()
        .await
        .expect("a version")
        .position(Partition(0))
        < end(&world).await
    {
        world.roll().await;
    }
    let snapshot = world.table.snapshot().await.expect("a version");
    let all = snapshot.position(Partition(0));
    let mut seen = world
        .table
        .seen(&snapshot, all)
        .await
        .expect("reads")
        .expect("it is unique");
    // It has read back as far as needed, and no further.
    assert!(
        seen.len() < world.kept.len(),
        "{} of {}",
        seen.len(),
        world.kept.len()
    );
    let other = world
        .table
        .seen(&snapshot, Position::new(Partition(1), all.offset))
        .await
        .expect("reads");
    assert!(other.expect("it is unique").is_empty());
    for number in 0..world.sent {
        let mut decoder = EventDecoder::new(&world.stream);
        let event = json!({"id": id(number), "n": 0}).to_string();
        decoder.push(event.as_bytes()).expect("an event");
        let rows = decoder.take().expect("rows");
        assert_eq!(rows.column(0).as_fixed_size_binary().value_length(), 16);
        let one = Ids::of(rows.column(0), &world.stream).expect("ids").get(0);
        let at = world.now + SECOND;
        assert_eq!(
            seen.clone().admit_one(one, at),
            world.model.clone().admit_one(one, at),
            "{number}"
        );
        if number % 7 == 0 {
            assert_eq!(seen.admit_one(one, at), world.model.admit_one(one, at));
        }
    }
    world.journal.close().await;
}

async fn end(world: &World) -> Position {
    world.journal.end(&world.stream.name).await.expect("an end")[0]
}
