//! A stream over a real journal and real Parquet files, beside a model of it: a plain `Vec`.
//!
//! The table is a test's own, so that a test decides when a file rolls and what is compacted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use axum::body::Body;
use bytes::Bytes;
use event::{
    Batch, Catalog, FieldDeclaration, FieldType, Offset, Partition, Position, Span, StreamDeclaration,
    StreamName, TraceId, decode, schema,
};
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use journal::{Decoded, Journal, RecordDecoder};
use lake::{DataFile, Snapshot};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::pin::Tables;
use crate::{Analytics, AnalyticsOptions, QueryError};

/// One event as the model has it.
#[derive(Clone, Debug)]
pub(super) struct Modelled {
    pub(super) user: String,
    pub(super) duration: i64,
    pub(super) score: Option<f64>,
    pub(super) kind: &'static str,
    pub(super) at: i64,
}

impl Modelled {
    pub(super) fn extra(&self) -> Option<Value> {
        (self.duration % 4 != 0).then(|| json!({"n": self.duration}))
    }
}

pub(super) const BASE: i64 = 1_725_926_400_000_000;

/// The snapshot that queries get.
#[derive(Clone)]
pub(super) struct TestTables(pub(super) Arc<Mutex<Arc<Snapshot>>>, Arc<Snapshot>);

impl Tables for TestTables {
    fn snapshot<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
    ) -> BoxFuture<'a, Result<Arc<Snapshot>, QueryError>> {
        Box::pin(async move {
            let own = stream.name.as_str() == "run";
            Ok(if own {
                Arc::clone(&self.0.lock().expect("whole"))
            } else {
                Arc::clone(&self.1)
            })
        })
    }

    fn seen<'a>(
        &'a self,
        stream: &'a Arc<StreamDeclaration>,
        _: &'a Arc<Snapshot>,
        _: Position,
    ) -> BoxFuture<'a, Result<Option<event::unique::Seen>, QueryError>> {
        // No stream of these tests has unique ids.
        Box::pin(async { Ok(event::unique::Seen::new(stream)) })
    }
}

pub(super) struct World {
    pub(super) directory: tempfile::TempDir,
    pub(super) journal: Arc<EmbeddedJournal>,
    pub(super) tables: TestTables,
    pub(super) analytics: Analytics,
    pub(super) model: Vec<Modelled>,
    pub(super) rng: ChaCha8Rng,
    files_written: usize,
}

pub(super) fn declaration() -> StreamDeclaration {
    let field = |name: &str, kind: FieldType, optional: bool| FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    };
    let kinds = ["walk", "run", "ride"].map(str::to_owned).to_vec();
    StreamDeclaration {
        name: StreamName::parse("run").expect("allowed"),
        time: Some("at".to_owned()),
        key: Some("user_id".to_owned()),
        fields: vec![
            field("user_id", FieldType::Uuid, false),
            field(
                "duration",
                FieldType::Int {
                    min: i64::MIN,
                    max: i64::MAX,
                },
                false,
            ),
            field(
                "score",
                FieldType::Float {
                    min: f64::MIN,
                    max: f64::MAX,
                },
                true,
            ),
            field("kind", FieldType::Enum { values: kinds }, false),
            field("at", FieldType::Timestamp { unit: None }, false),
            field("extra", FieldType::Json, true),
        ],
        ..StreamDeclaration::rejects()
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    pub(super) fn with(seed: u64, change: impl FnOnce(&mut AnalyticsOptions)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = EmbeddedOptions::new(directory.path().join("journal"));
        (options.segment_bytes, options.disk_reserve_bytes) = (1 << 20, 0);
        let journal = EmbeddedJournal::open(options).expect("a journal");
        let empty = |name: &str| {
            let snapshot = Snapshot {
                version: 0,
                directory: directory.path().join(name).into(),
                schema: schema::lake(&declaration()),
                files: Arc::new([]),
                positions: Vec::new(),
                removed: 0,
            };
            std::fs::create_dir_all(local(&snapshot)).expect("a directory");
            Arc::new(snapshot)
        };
        let tables = TestTables(Arc::new(Mutex::new(empty("run"))), empty("other"));
        let mut options = AnalyticsOptions::new(directory.path().join("cache"));
        (options.tail_bytes, options.threads) = (64 << 10, 2);
        change(&mut options);
        let analytics = open(&tables, &journal, options);
        println!("seed {seed}");
        Self {
            directory,
            journal,
            tables,
            analytics,
            model: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            files_written: 0,
        }
    }

    pub(super) fn reopened(&self) -> Analytics {
        open(&self.tables, &self.journal, self.analytics.shared.options.clone())
    }

    fn event(&mut self) -> Modelled {
        Modelled {
            user: format!("00000000-0000-4000-8000-{:012x}", self.rng.random_range(0..50u64)),
            duration: self.rng.random_range(-1_000..1_000_000),
            score: self
                .rng
                .random_bool(0.7)
                .then(|| f64::from(self.rng.random_range(0..400u32)) / 4.0),
            kind: ["walk", "run", "ride"][self.rng.random_range(0..3usize)],
            at: BASE + 60_000_000 * self.model.len() as i64 + self.rng.random_range(0..600_000_000i64),
        }
    }

    /// Appends `count` random events as one record.
    pub(super) async fn append(&mut self, count: usize) {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            let event = self.event();
            self.model.push(event.clone());
            events.push(event);
        }
        append(&self.journal, &events).await;
    }

    /// Appends random events of these times as one record.
    pub(super) async fn append_of(&mut self, times: &[i64]) {
        let mut events = Vec::with_capacity(times.len());
        for at in times {
            let event = Modelled {
                at: *at,
                ..self.event()
            };
            events.push(event);
        }
        append(&self.journal, &events).await;
        self.model.extend(events);
    }

    /// The same as [`World::append`], received at a moment.
    pub(super) async fn append_received(&mut self, count: usize, received_at: i64) {
        let events: Vec<_> = (0..count).map(|_| self.event()).collect();
        append_at(&self.journal, &events, received_at).await;
        self.model.extend(events);
    }

    /// Brings the next `records` records into the lake as one file.
    pub(super) async fn roll(&mut self, records: u64) {
        self.files_written += 1;
        let name = format!("{:05}.parquet", self.files_written);
        roll(&self.journal, &self.tables, records, name).await;
    }

    /// Merges the files `at` and `at + 1`.
    pub(super) fn compact(&mut self, at: usize) {
        self.files_written += 1;
        compact(&self.tables, at, format!("{:05}.parquet", self.files_written));
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        get(&self.analytics, path).await
    }

    /// Rows of a query that must work.
    pub(super) async fn sql(&self, sql: &str) -> Value {
        let (status, answer) = post_sql(&self.analytics, &json!({"sql": sql})).await;
        assert_eq!(status, StatusCode::OK, "{sql}: {answer}");
        answer["rows"].clone()
    }
}

fn open(tables: &TestTables, journal: &Arc<EmbeddedJournal>, options: AnalyticsOptions) -> Analytics {
    let journal: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(journal);
    let tables = Box::new(tables.clone());
    Analytics::over(Catalog::new([declaration()]), tables, journal, options).expect("opens")
}

pub(super) async fn append(journal: &EmbeddedJournal, events: &[Modelled]) -> Position {
    append_at(journal, events, BASE).await
}

async fn append_at(journal: &EmbeddedJournal, events: &[Modelled], received_at: i64) -> Position {
    let mut lines = Vec::new();
    for event in events {
        let mut line = json!({"user_id": event.user, "duration": event.duration, "kind": event.kind,
            "at": event::moment::rfc3339(event.at)});
        if let Some(extra) = event.extra() {
            line["extra"] = extra;
        }
        if let Some(score) = event.score {
            line["score"] = json!(score);
        }
        lines.extend_from_slice(format!("{line}\n").as_bytes());
    }
    let mut decoder = decode::Decoder::new(Arc::new(declaration()), decode::Format::Ndjson);
    decoder.push(Bytes::from(lines)).expect("lines");
    let decoded = decoder.finish().expect("a body");
    assert_eq!(decoded.rejects.total(), 0, "{:?}", decoded.rejects);
    let batches = decoded.batches.into_iter().map(|rows| Batch {
        stream: declaration().name,
        partition: Partition(0),
        version: 1,
        spans: vec![Span {
            rows: rows.num_rows() as u32,
            trace_id: TraceId::from_bytes([7; 16]),
            received_at,
            idempotency_key: None,
            producer: None,
        }],
        rows,
    });
    let positions = journal.append(batches.collect()).await.expect("durable");
    *positions.last().expect("one record")
}

pub(super) async fn roll(journal: &EmbeddedJournal, tables: &TestTables, records: u64, name: String) {
    let before = Arc::clone(&tables.0.lock().expect("whole"));
    let stream = declaration();
    let from = before
        .positions
        .first()
        .map_or(Offset(0), |position| position.offset);
    let end = journal.end(&stream.name).await.expect("an end")[0].offset;
    let to = Offset(end.0.min(from.0 + records));
    if from == to {
        return;
    }
    let mut reader = journal
        .reader(&stream.name, Position::new(Partition(0), from))
        .await
        .expect("a reader");
    let mut decoder = RecordDecoder::new(Arc::new(declaration()));
    let mut rows = Vec::new();
    let mut next = from;
    while next < to {
        for found in reader.next(1).await.expect("records") {
            if found.offset < to {
                let Decoded::Batch(batch) = decoder.decode(&found).expect("a record") else {
                    panic!("the record holds events")
                };
                rows.push(schema::to_lake(&batch, found.offset, &stream).expect("rows"));
            }
            next = found.offset.next();
        }
    }
    let mut files = before.files.to_vec();
    let first = files
        .last()
        .map_or(before.removed, |file| file.first_index + file.rows);
    files.push(write(local(&before), name, &rows, first));
    publish(tables, &before, files, to);
}

pub(super) fn compact(tables: &TestTables, at: usize, name: String) {
    let before = Arc::clone(&tables.0.lock().expect("whole"));
    let mut files = before.files.to_vec();
    if at + 1 >= files.len() {
        return;
    }
    let mut rows = Vec::new();
    for file in &files[at..at + 2] {
        let open = std::fs::File::open(local(&before).join(&file.path)).expect("a file");
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(open).expect("Parquet");
        rows.extend(reader.build().expect("a reader").map(|rows| rows.expect("rows")));
    }
    // As the lake does, with a column of Delta's own.
    let with_ids = |rows: &RecordBatch| {
        let mut fields: Vec<_> = rows.schema().fields().iter().map(Arc::clone).collect();
        let ids = arrow_schema::Field::new("_row-id-col", arrow_schema::DataType::Int64, true);
        fields.retain(|field| field.name() != ids.name());
        let mut columns = rows.columns()[..fields.len()].to_vec();
        fields.push(Arc::new(ids));
        let values = 0..rows.num_rows() as i64;
        columns.push(Arc::new(arrow_array::Int64Array::from_iter_values(values)));
        RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).expect("one more column")
    };
    let rows: Vec<RecordBatch> = rows
        .iter()
        .map(|rows| schema::conform(&known(rows), &schema::lake(&declaration())).expect("conforms"))
        .map(|rows| with_ids(&rows))
        .collect();
    let merged = write(local(&before), name, &rows, files[at].first_index);
    files.splice(at..at + 2, [merged]);
    publish(tables, &before, files, before.positions[0].offset);
}

/// The rows without columns that are not the stream's.
fn known(rows: &RecordBatch) -> RecordBatch {
    let (lake, schema) = (schema::lake(&declaration()), rows.schema());
    let columns = schema.fields().iter().enumerate();
    let columns = columns.filter(|(_, field)| lake.column_with_name(field.name()).is_some());
    let columns: Vec<usize> = columns.map(|(at, _)| at).collect();
    rows.project(&columns).expect("there")
}

fn local(snapshot: &Snapshot) -> &std::path::Path {
    snapshot.directory.local().expect("on this machine")
}

fn publish(tables: &TestTables, before: &Snapshot, files: Vec<DataFile>, to: Offset) {
    let after = Snapshot {
        version: before.version + 1,
        files: files.into(),
        positions: vec![Position::new(Partition(0), to)],
        ..before.clone()
    };
    *tables.0.lock().expect("whole") = Arc::new(after);
}

/// Small row groups and pages, so that every way of skipping is taken; of one file in four texts have no dictionaries,
/// of another those of users are too small for all of them.
fn write(directory: &std::path::Path, name: String, rows: &[RecordBatch], first_index: u64) -> DataFile {
    let path: PathBuf = directory.join(&name);
    let (dictionaries, dictionary_bytes) = match name.as_bytes().get(4).map(|digit| digit % 4) {
        Some(1) => (false, 1 << 20),
        Some(2) => (true, 600),
        _ => (true, 1 << 20),
    };
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionaries)
        .set_dictionary_page_size_limit(dictionary_bytes)
        .set_max_row_group_row_count(Some(64))
        .set_data_page_row_count_limit(16)
        .set_write_batch_size(16)
        .set_column_bloom_filter_enabled("user_id".into(), true)
        .build();
    let file = std::fs::File::create(&path).expect("a file");
    let schema = rows
        .first()
        .map_or_else(|| schema::lake(&declaration()), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("a writer");
    let (mut count, mut time_min, mut time_max) = (0, i64::MAX, i64::MIN);
    let mut received_max = None;
    for rows in rows {
        use arrow_array::cast::AsArray;
        let times = rows.column_by_name("at").expect("there");
        for at in times
            .as_primitive::<arrow_array::types::TimestampMicrosecondType>()
            .values()
        {
            (time_min, time_max) = (time_min.min(*at), time_max.max(*at));
        }
        let received = rows.column_by_name(schema::RECEIVED_AT).expect("there");
        let received = received.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
        received_max = received_max.max(received.values().iter().copied().max());
        count += rows.num_rows() as u64;
        writer.write(rows).expect("written");
    }
    writer.close().expect("closed");
    DataFile {
        path: name,
        bytes: std::fs::metadata(&path).expect("there").len(),
        rows: count,
        first_index,
        time_min: Some(time_min),
        time_max: Some(time_max),
        received_max,
    }
}

pub(super) async fn get(analytics: &Analytics, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let (status, _, body) = call(analytics, request).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(super) async fn post_sql(analytics: &Analytics, body: &Value) -> (StatusCode, Value) {
    let request = Request::post("/v1/sql").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let (status, _, body) = call(analytics, request).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(super) async fn call(
    analytics: &Analytics,
    request: Request<Body>,
) -> (StatusCode, http::HeaderMap, Bytes) {
    let response = analytics.router().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, head.headers, body)
}
