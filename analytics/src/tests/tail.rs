//! SQL over a tail gives the same rows whatever is left out, kept or read again.
//!
//! Method: seeded records of our own and JSON messages, of today's declaration and of an older one, in one partition
//! and in several, with unique ids and without, lie in a journal in memory. After each step what is kept of the stream
//! is compared with every record brought into the lake's form by itself; then conditions of many forms are asked twice:
//! so that runs and rows can be left out, and inside of an expression that nothing can look into. One process has
//! answered all the time, with little room or with much; another one begins anew.

mod log;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, RecordBatch};
use axum::body::Body;
use bytes::Bytes;
use event::decode::EventDecoder;
use event::stream::parse_streams;
use event::unique::Seen;
use event::{Batch, Catalog, Offset, Partition, Position, Span, StreamDeclaration, TraceId, record, schema};
use http::{Request, StatusCode};
use journal::{JsonMessage, Payload, Record};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::log::{Log, Logged, Stored, batch_of};
use super::world::{call, post_sql};
use crate::{Analytics, AnalyticsOptions};

const BASE: i64 = 1_704_067_200_000_000;
const COLUMNS: &str = "id, \"user\", n, x, text, kind, at, flag, later, _extra, _received_at, _trace_id, \
                       _partition, _offset, _row, _index";

struct World {
    rng: ChaCha8Rng,
    stored: Stored,
    directory: tempfile::TempDir,
    json: bool,
    sent: u64,
}

impl World {
    fn new(seed: u64, partitions: usize, unique: bool, json: bool) -> Self {
        println!("seed {seed}, {partitions} partitions, unique {unique}, json {json}");
        let unique = if unique {
            "unique = \"id\"\nunique_window = \"1h\"\n"
        } else {
            ""
        };
        let text = format!(
            "[s]\ntime = \"at\"\nunknown_fields = \"keep\"\n{unique}[s.fields]\nid = \"uuid\"\nn = \"int\"\nat = \"timestamp\"\n\
             user = {{ type = \"uuid\", optional = true }}\nx = {{ type = \"float\", optional = true }}\n\
             text = {{ type = \"string\", optional = true }}\nflag = {{ type = \"bool\", optional = true }}\n\
             kind = {{ type = \"enum\", values = [\"a\", \"b\"] }}\nlater = {{ type = \"uuid\", optional = true }}"
        );
        let stream = parse_streams(&text.parse().expect("TOML"))
            .expect("right")
            .remove(0);
        let stored = Stored {
            log: Arc::new(Log(Mutex::new(vec![Vec::new(); partitions]), AtomicUsize::new(0))),
            stream: Arc::new(stream),
            at: Arc::default(),
        };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            stored,
            directory: tempfile::tempdir().expect("a directory"),
            json,
            sent: 0,
        }
    }

    fn analytics(&self, tail_bytes: usize) -> Analytics {
        let options = AnalyticsOptions {
            tail_bytes,
            threads: 2,
            ..AnalyticsOptions::new(self.directory.path().join("cache"))
        };
        let catalog = Catalog::new([StreamDeclaration::clone(&self.stored.stream)]);
        let journal = Arc::new(Logged(Arc::clone(&self.stored.log)));
        Analytics::over(catalog, Box::new(self.stored.clone()), journal, options).expect("opens")
    }

    fn id(number: u64) -> String {
        uuid::Uuid::from_u128(u128::from(number) << 90 | 0xabc)
            .hyphenated()
            .to_string()
    }

    fn int(&mut self) -> i64 {
        [i64::MIN, i64::MAX, 0, 7, -1, 41][self.rng.random_range(0..6_usize)]
    }

    fn trace(&mut self) -> TraceId {
        TraceId::from_bytes([self.rng.random_range(0x9a..0x9f_u8); 16])
    }

    fn event(&mut self) -> Vec<u8> {
        self.sent += 1;
        let id = self.sent.saturating_sub(self.rng.random_range(0..40));
        let at = BASE + self.sent as i64 * 1_000_000 + self.rng.random_range(0..90_000_000);
        let kind = ["a", "b"][self.rng.random_range(0..2_usize)];
        let mut event = json!({"id": Self::id(id), "n": self.int(), "at": event::moment::rfc3339(at),
            "kind": kind});
        if self.rng.random_bool(0.8) {
            event["user"] = json!(Self::id(self.rng.random_range(0..30)));
            let x = [0.0, -0.0, 2.5, -1e300, 7.0][self.rng.random_range(0..5_usize)];
            event["x"] = json!(x);
        }
        if self.rng.random_bool(0.8) {
            let text = ["", "one", "two", "ü"][self.rng.random_range(0..4_usize)];
            event["text"] = json!(text);
            event["flag"] = json!(self.rng.random_bool(0.5));
        }
        if self.rng.random_bool(0.3) {
            event["later"] = json!(Self::id(self.rng.random_range(0..3)));
            event["other"] = json!(1);
        }
        event.to_string().into_bytes()
    }

    fn payload(&mut self, partition: Partition) -> Payload {
        let received_at = BASE + self.sent as i64 * 1_000_000;
        if self.rng.random_bool(0.05) {
            return Payload::Nothing;
        }
        if self.json {
            let broken = self.rng.random_bool(0.1);
            let value = if broken { b"{".to_vec() } else { self.event() };
            return Payload::Json(JsonMessage {
                value: Some(Bytes::from(value)),
                received_at,
                trace_id: self.trace(),
            });
        }
        let mut decoder = EventDecoder::new(&self.stored.stream);
        let mut spans = Vec::new();
        for number in 0..self.rng.random_range(1..4) {
            let rows = [0, 1, 2, 9, 25][self.rng.random_range(0..5_usize)];
            for _ in 0..rows {
                decoder.push(&self.event()).expect("an event");
            }
            spans.push(Span {
                rows,
                trace_id: self.trace(),
                received_at: received_at + number,
                idempotency_key: None,
                producer: None,
            });
        }
        let Some(mut rows) = decoder.take() else {
            return Payload::Nothing;
        };
        if self.rng.random_bool(0.3) {
            // As an older declaration made it.
            let columns = rows.schema();
            let older: Vec<usize> = (0..columns.fields().len())
                .filter(|at| !["later", "_extra"].contains(&columns.field(*at).name().as_str()))
                .collect();
            rows = rows.project(&older).expect("there");
        }
        let stream = self.stored.stream.name.clone();
        let batch = Batch {
            stream,
            partition,
            version: 1,
            spans,
            rows,
        };
        Payload::Record(record::encode(&batch).expect("a record"))
    }

    fn append(&mut self) {
        let partitions = self.stored.log.0.lock().expect("whole").len();
        let number = self.rng.random_range(0..partitions);
        let partition = Partition(number as u32);
        let payload = self.payload(partition);
        let mut log = self.stored.log.0.lock().expect("whole");
        let offset = Offset(log[number].len() as u64);
        log[number].push(Record {
            partition,
            offset,
            payload,
        });
    }

    /// Brings the lake somewhat further.
    fn commit(&mut self) {
        let log = self.stored.log.0.lock().expect("whole");
        let mut at = self.stored.at.lock().expect("whole");
        at.resize_with(log.len(), || Position::new(Partition(0), Offset(0)));
        for (number, position) in at.iter_mut().enumerate() {
            let left = log[number].len() as u64 - position.offset.0;
            position.partition = Partition(number as u32);
            position.offset.0 += self.rng.random_range(0..=left / 2);
        }
    }

    /// The tail, each record by itself.
    fn tail(&self) -> Vec<RecordBatch> {
        let (stream, mut tail) = (&self.stored.stream, Vec::new());
        let at = self.stored.at.lock().expect("whole");
        let (log, mut index) = (self.stored.log.0.lock().expect("whole"), 5);
        for (number, records) in log.iter().enumerate() {
            let from = at.get(number).map_or(0, |at| at.offset.0);
            let mut seen = Seen::new(stream);
            for record in records {
                let Some(batch) = batch_of(stream, record) else {
                    continue;
                };
                let kept = seen
                    .as_mut()
                    .and_then(|seen| seen.admit(&batch, stream).expect("of the stream"));
                if record.offset.0 < from {
                    continue;
                }
                let mut rows = schema::to_lake(&batch, record.offset, stream).expect("rows");
                if let Some(kept) = kept {
                    rows = arrow_select::filter::filter_record_batch(&rows, &kept).expect("as many");
                }
                let numbers = index..index + rows.num_rows() as i64;
                index = numbers.end;
                let indexes: Int64Array = numbers.map(|index| (log.len() == 1).then_some(index)).collect();
                let mut columns = rows.columns().to_vec();
                columns.push(Arc::new(indexes));
                let schema = crate::pin::table_schema(stream);
                tail.push(RecordBatch::try_new(schema, columns).expect("one more"));
            }
        }
        tail
    }

    /// A condition of one of many forms.
    fn condition(&mut self, depth: usize) -> String {
        if depth > 0 && self.rng.random_bool(0.5) {
            let (one, other) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.rng.random_range(0..4) {
                0 => format!("({one} OR {other})"),
                1 => format!("NOT ({one})"),
                _ => format!("({one} AND {other})"),
            };
        }
        let user = Self::id(self.rng.random_range(0..40));
        let column = ["\"user\"", "id", "later"][self.rng.random_range(0..3_usize)];
        let n = self.int();
        let moment =
            event::moment::rfc3339(BASE + self.rng.random_range(0..self.sent as i64 + 9) * 1_000_000);
        let zoned = moment.replace('Z', "+02:00");
        let operator = ["=", "<>", "<", ">=", ">", "<="][self.rng.random_range(0..6_usize)];
        let text = ["", "one", "two", "ü", "three"][self.rng.random_range(0..5_usize)];
        let trace = self.trace().to_string();
        let offset: i32 = self.rng.random_range(-1..60);
        match self.rng.random_range(0..26) {
            0..4 => format!("{column} = '{user}'"),
            4 => format!("{column} = '{}'", user.to_uppercase()),
            5 => format!(
                "{column} = '{{{user}}}' OR {column} = '{}'",
                user.replace('-', "")
            ),
            6 => format!("{column} {operator} '{text}'"),
            7 => format!("{column} IN ('{user}', '{}', 'no', '')", Self::id(3)),
            8 => {
                let many: Vec<String> = (0..9)
                    .map(|number| format!("'{}'", Self::id(number * 3)))
                    .collect();
                format!("{column} IN ({})", many.join(", "))
            }
            9 => format!("{column} NOT IN ('{user}', NULL)"),
            10 => format!("{column} {operator} NULL OR {column} IS NULL"),
            11 => format!("{column} IN ('{user}', NULL)"),
            12 => format!("n {operator} {n}"),
            13 => format!("n IN (7, {}, 5)", if n == i64::MIN { 0 } else { n }),
            14 => format!("n {operator} 7.0 AND n BETWEEN -1 AND 41"),
            15 => format!(
                "x {operator} {}",
                ["0.0", "-0.0", "2.5", "'NaN'", "'-inf'"][offset.unsigned_abs() as usize % 5]
            ),
            16 => format!("text {operator} '{text}'"),
            17 => format!("text IN ('{text}', 'one') AND flag"),
            18 => format!("kind {operator} 'a'"),
            19 => format!("at {operator} '{moment}'"),
            20 => format!("at BETWEEN timestamp '{zoned}' AND '{moment}'"),
            21 => format!("_received_at {operator} '{moment}'"),
            22 => format!("_trace_id {operator} '{trace}'"),
            23 => format!("_trace_id IN ('{}', '{trace}', '0{trace}')", trace.to_uppercase()),
            24 => format!("_offset {operator} {offset} AND _row {operator} 2"),
            _ => format!("_index {operator} {offset} AND _partition {operator} 1"),
        }
    }
}

async fn rows(analytics: &Analytics, sql: &str) -> Value {
    let (status, answer) = post_sql(analytics, &json!({"sql": sql, "limit": 100_000})).await;
    assert_eq!(status, StatusCode::OK, "{sql}: {answer}");
    answer["rows"].clone()
}

async fn all_rows(analytics: &Analytics) -> Vec<RecordBatch> {
    let sql = format!("SELECT {COLUMNS} FROM s ORDER BY _partition, _offset, _row");
    let request = Request::post("/v1/sql").header("accept", "application/vnd.apache.arrow.stream");
    let (status, _, body) = call(analytics, request.body(Body::from(sql)).expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let reader = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(body), None).expect("Arrow");
    reader.map(|rows| rows.expect("rows")).collect()
}

/// Everything, as one text for each row.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let names: Vec<&str> = COLUMNS.split(", ").map(|name| name.trim_matches('"')).collect();
    let mut texts = Vec::new();
    for batch in batches {
        let columns = names
            .iter()
            .map(|name| batch.schema().index_of(name).expect("there"));
        let batch = batch.project(&columns.collect::<Vec<_>>()).expect("there");
        let options = arrow_cast::display::FormatOptions::default().with_null("null");
        let formatters: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow_cast::display::ArrayFormatter::try_new(column, &options).expect("shown"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = formatters
                .iter()
                .map(|cells| cells.value(row).to_string())
                .collect();
            texts.push(cells.join("|"));
        }
    }
    texts
}

async fn compare(seed: u64, partitions: usize, unique: bool, json: bool) {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let mut world = World::new(seed, partitions, unique, json);
    let (little, much) = (world.analytics(8 << 10), world.analytics(64 << 20));
    for step in 0..if soak { 60 } else { 6 } {
        for _ in 0..world.rng.random_range(0..40) {
            world.append();
        }
        if step % 3 == 2 {
            world.commit();
        }
        let expected = texts(&world.tail());
        let anew = world.analytics(20 << 10);
        for analytics in [&little, &much, &anew] {
            assert_eq!(texts(&all_rows(analytics).await), expected, "step {step}");
            let count = rows(analytics, "SELECT count(*) FROM s").await;
            assert_eq!(count, json!([[expected.len()]]), "step {step}");
        }
        for _ in 0..if soak { 120 } else { 12 } {
            let condition = world.condition(2);
            let wanted = ["count(*), count(_index), sum(_index)", "*", COLUMNS, "n, _row"];
            let wanted = wanted[world.rng.random_range(0..4_usize)];
            let order = if wanted.starts_with("count") {
                ""
            } else {
                "ORDER BY _partition, _offset, _row"
            };
            // Nothing that is not the same each time is looked into.
            let opaque = format!("SELECT {wanted} FROM s WHERE coalesce({condition}, random() < -1) {order}");
            let whole = rows(&much, &opaque).await;
            for analytics in [&little, &much, &anew] {
                let found = rows(
                    analytics,
                    &format!("SELECT {wanted} FROM s WHERE {condition} {order}"),
                )
                .await;
                assert_eq!(found, whole, "step {step}: {wanted} WHERE {condition}");
            }
        }
    }
}

#[tokio::test]
async fn conditions_give_the_rows_of_all_records_that_meet_them() {
    compare(71, 1, false, false).await;
}

#[tokio::test]
async fn so_they_do_with_several_partitions() {
    compare(72, 3, false, false).await;
}

#[tokio::test]
async fn so_they_do_where_ids_are_unique() {
    compare(73, 1, true, false).await;
    compare(74, 2, true, false).await;
}

#[tokio::test]
async fn so_they_do_with_messages_of_others() {
    compare(75, 1, false, true).await;
    compare(76, 2, true, true).await;
}

/// How many records it takes to answer.
async fn read_for(world: &World, analytics: &Analytics, sql: &str) -> usize {
    world.stored.log.1.store(0, Ordering::SeqCst);
    rows(analytics, sql).await;
    world.stored.log.1.load(Ordering::SeqCst)
}

/// The same, of a question that was asked before. What the one before it held may be given back after its answer, so there
/// may have been no room to keep anything: then it is asked again.
async fn read_again(world: &World, analytics: &Analytics, sql: &str, most: usize) -> usize {
    let mut read = usize::MAX;
    for _ in 0..4 {
        read = read_for(world, analytics, sql).await;
        if read <= most {
            break;
        }
    }
    read
}

#[tokio::test]
async fn a_question_that_comes_again_reads_what_came_since_and_what_may_hold_its_rows() {
    let mut world = World::new(77, 1, false, false);
    for _ in 0..200 {
        world.append();
    }
    // Room for what is known of the runs, and not for all of their rows.
    let analytics = world.analytics(256 << 10);
    let absent = format!("SELECT count(*) FROM s WHERE later = '{}'", World::id(1 << 20));
    let others = [
        "SELECT count(*) FROM s WHERE later = 'no uuid at all'".to_owned(),
        "SELECT id FROM s WHERE x > 7.5".to_owned(),
        format!("SELECT * FROM s WHERE at < '{}'", event::moment::rfc3339(BASE)),
        format!("SELECT * FROM s WHERE _trace_id = '{}'", "11".repeat(16)),
        "SELECT * FROM s WHERE _received_at < '2020-01-01' OR _index < 5".to_owned(),
        "SELECT count(*) FROM s".to_owned(),
    ];
    assert!(read_for(&world, &analytics, &absent).await >= 200);
    for question in others.iter().chain([&absent]) {
        read_for(&world, &analytics, question).await;
        let again = read_again(&world, &analytics, question, 20).await;
        assert!(again <= 20, "{question}: {again} records");
    }
    for question in others.iter().chain([&absent]) {
        world.append();
        let again = read_again(&world, &analytics, question, 30).await;
        assert!(again <= 30, "{question}: {again} records");
    }
    let present = format!("SELECT id FROM s WHERE id = '{}'", World::id(1));
    read_for(&world, &analytics, &present).await;
    let again = read_for(&world, &analytics, &present).await;
    assert!(again <= 100, "{again} records");
}
