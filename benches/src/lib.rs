//! What the benches measure with: generated bodies, decoded batches, and a lake with a million events.
//!
//! Everything is seeded, so that two runs measure the same work.

pub mod history;
pub mod kafka;
pub mod load;
pub mod process;
pub mod processors;
pub mod report;
pub mod spread;
pub mod sync_probe;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use analytics::{Analytics, AnalyticsOptions};
use axum::body::Body;
use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::{Batch, Catalog, Partition, Span, StreamDeclaration, TraceId};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use journal::Journal;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use lake::{Lake, LakeOptions};
use server::load::generate::{Generator, GeneratorOptions, Starter};
use sink::{LakeSink, LakeSinkOptions};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Any error of a fixture: a bench that cannot be set up says why and ends.
pub type Anything = Box<dyn std::error::Error + Send + Sync>;

/// How a program ends; its error goes to stderr under its name.
#[must_use]
pub fn exit_code(program: &str, done: Result<(), Anything>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses parts that a program has not.
///
/// # Errors
/// Names the first of them, and those that there are.
pub fn known_parts(asked: &[String], parts: &[&str]) -> Result<(), Anything> {
    match asked.iter().find(|asked| !parts.contains(&asked.as_str())) {
        Some(unknown) => Err(format!("there is no part `{unknown}`, only {}", parts.join(", ")).into()),
        None => Ok(()),
    }
}

/// The declaration of a starter stream.
#[must_use]
pub fn stream(starter: Starter) -> Arc<StreamDeclaration> {
    let found = StreamDeclaration::starters()
        .into_iter()
        .find(|stream| stream.name.as_str() == starter.name());
    Arc::new(found.expect("every starter is declared"))
}

/// Events of about so many bytes of NDJSON, no two alike.
#[must_use]
pub fn body(starter: Starter, bytes: usize) -> Bytes {
    let mut generator = Generator::new(starter, GeneratorOptions::default());
    let mut body = Vec::with_capacity(bytes + 1_024);
    while body.len() < bytes {
        generator.write_event(&mut body);
    }
    body.into()
}

/// So many events as NDJSON.
#[must_use]
pub fn events(starter: Starter, count: u64) -> Bytes {
    let mut generator = Generator::new(starter, GeneratorOptions::default());
    let mut body = Vec::new();
    for _ in 0..count {
        generator.write_event(&mut body);
    }
    body.into()
}

/// The batches that a request with this body becomes.
///
/// # Errors
/// When a line is rejected: then something else would be measured than is said.
pub fn batches(starter: Starter, body: Bytes) -> Result<Vec<Batch>, Anything> {
    let stream = stream(starter);
    let mut decoder = Decoder::new(Arc::clone(&stream), Format::Ndjson);
    decoder.push(body)?;
    let decoded = decoder.finish()?;
    if decoded.rejects.total() > 0 {
        return Err(format!("`{}` generated events were rejected", decoded.rejects.total()).into());
    }
    let batch = |rows: arrow_array::RecordBatch| {
        Ok(Batch {
            stream: stream.name.clone(),
            partition: Partition(0),
            version: stream.version,
            spans: vec![Span {
                rows: u32::try_from(rows.num_rows())?,
                trace_id: TraceId::random(),
                received_at: 1_725_959_553_001_000,
                idempotency_key: None,
                producer: None,
            }],
            rows,
        })
    };
    decoded.batches.into_iter().map(batch).collect()
}

/// An embedded journal in a directory.
///
/// # Errors
/// When it cannot be opened.
pub fn open_journal(directory: &Path) -> Result<Arc<EmbeddedJournal>, Anything> {
    Ok(EmbeddedJournal::open(EmbeddedOptions::new(directory))?)
}

/// A lake in a directory.
///
/// # Errors
/// When it cannot be opened.
pub async fn open_lake(directory: &Path, journal: &dyn Journal) -> Result<Arc<Lake>, Anything> {
    let options = LakeOptions {
        root: directory.to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: journal.id().to_string(),
        read_only: false,
        shared: false,
        keep_removed: std::time::Duration::from_secs(3_600),
    };
    Ok(Lake::open(options).await?)
}

/// Analytics over a lake that the real sink filled with events of `running`.
pub struct Questions {
    runtime: Runtime,
    router: axum::Router,
    _directory: tempfile::TempDir,
}

impl Questions {
    /// Fills a new lake below `parent`.
    ///
    /// # Errors
    /// When a stage cannot be opened, or not every event is in the lake in the end.
    pub fn over(parent: &Path, count: u64) -> Result<Self, Anything> {
        let runtime = Runtime::new()?;
        let directory = tempfile::tempdir_in(parent)?;
        let router = runtime.block_on(fill(directory.path(), count))?;
        let questions = Self {
            runtime,
            router,
            _directory: directory,
        };
        let stats = questions.ask(Request::get("/v1/streams/running/stats"), "")?;
        let stats: serde_json::Value = serde_json::from_slice(&stats)?;
        if stats["count"].as_u64() != Some(count) {
            return Err(format!("`{count}` events were written, the answer is {stats}").into());
        }
        Ok(questions)
    }

    /// Asks through the router, without a socket, and gives the whole answer.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub fn ask(&self, request: http::request::Builder, body: &'static str) -> Result<Bytes, Anything> {
        let request = request.body(Body::from(body))?;
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if status != StatusCode::OK {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
            }
            Ok(body)
        })
    }
}

async fn fill(directory: &Path, count: u64) -> Result<axum::Router, Anything> {
    let journal: Arc<dyn Journal> = open_journal(&directory.join("journal"))?;
    let lake = open_lake(&directory.join("lake"), journal.as_ref()).await?;
    let stream = stream(Starter::Running);
    let table = lake.table(Arc::clone(&stream)).await?;
    for batch in batches(Starter::Running, events(Starter::Running, count))? {
        journal.append(vec![batch]).await?;
    }
    // Its shutdown reads and commits everything.
    let runtime = tokio::runtime::Handle::current();
    let options = LakeSinkOptions::default();
    LakeSink::start(&runtime, Arc::clone(&journal), vec![table], options)
        .shutdown()
        .await;
    let catalog = Catalog::new([StreamDeclaration::clone(&stream)]);
    let options = AnalyticsOptions::new(directory.join("analytics"));
    Ok(Analytics::open(catalog, lake, journal, options).await?.router())
}
