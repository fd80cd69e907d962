//! A journal on disk, a stream of found things, and what the stream of assignments says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assign::AssignOptions;
use assign::embedded::{
    Archive, ArchiveRows, EmbeddedDesk, EmbeddedOptions, Place, Row, answers_stream, assignments_stream,
};
use event::decode::EventDecoder;
use event::json::EventWriter;
use event::{
    Batch, FieldDeclaration, FieldType, Offset, Partition, Position, Span, StreamDeclaration, StreamName,
    TraceId,
};
use futures::future::{BoxFuture, FutureExt};
use journal::embedded::{EmbeddedJournal, EmbeddedOptions as JournalOptions};
use journal::{Decoded, Journal, Record, RecordDecoder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest segments that there may be.
const SEGMENT_BYTES: u64 = 20 << 20;

pub(crate) struct World {
    pub(crate) journal: Arc<EmbeddedJournal>,
    folder: TempDir,
    archive: Option<Arc<Kept>>,
}

/// The stream whose events are assigned.
pub(crate) fn found() -> Arc<StreamDeclaration> {
    let field = |name: &str, optional| FieldDeclaration {
        name: name.to_owned(),
        kind: FieldType::String { max_bytes: 1 << 20 },
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    };
    Arc::new(StreamDeclaration {
        name: StreamName::parse("found").expect("allowed"),
        fields: vec![field("event_id", false), field("filler", true)],
        ..StreamDeclaration::rejects()
    })
}

fn assignments() -> Arc<StreamDeclaration> {
    Arc::new(assignments_stream(
        StreamName::parse("assignments").expect("allowed"),
    ))
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(&folder);
        Self {
            journal,
            folder,
            archive: None,
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().join("assign")
    }

    fn options(&self) -> EmbeddedOptions {
        let journal: Arc<EmbeddedJournal> = Arc::clone(&self.journal);
        EmbeddedOptions {
            journal,
            stream: found(),
            assignments: StreamName::parse("assignments").expect("allowed"),
            answers: StreamName::parse("answers").expect("allowed"),
            archive: None,
            directory: self.directory(),
            remember: 100_000,
        }
    }

    pub(crate) fn options_with_archive(&self) -> EmbeddedOptions {
        let archive = self.archive.clone().expect("something was forgotten");
        EmbeddedOptions {
            archive: Some(archive),
            ..self.options()
        }
    }

    pub(crate) async fn desk(&self, options: AssignOptions) -> EmbeddedDesk {
        EmbeddedDesk::start(options, self.options())
            .await
            .expect("starts")
    }

    /// Waits until so many are open: assignment → event.
    pub(crate) async fn wait_open(&self, count: usize) -> BTreeMap<String, String> {
        until("enough is open", async || steps_are(self, count).await).await;
        open_of(&steps(&self.journal).await)
    }

    pub(crate) async fn answers(&self) -> Vec<Value> {
        let name = StreamName::parse("answers").expect("allowed");
        let stream = Arc::new(answers_stream(name, "event_id"));
        rows(&self.journal, &stream, Offset(0))
            .await
            .into_iter()
            .map(|(_, row)| row)
            .collect()
    }

    /// The steps, after a look at each: nobody ever had more than the limit, no event was with two, none was assigned
    /// again after its end.
    pub(crate) async fn judged(&self, limit: usize) -> Vec<Value> {
        let steps = steps(&self.journal).await;
        let mut open: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut live: BTreeSet<String> = BTreeSet::new();
        for step in &steps {
            let text = |name: &str| step[name].as_str().expect("text").to_owned();
            if step["status"] == "open" {
                assert!(live.insert(text("event_id")), "assigned twice: {step}");
                open.insert(text("assignment_id"), (text("user_id"), text("event_id")));
                let load = open.values().filter(|(user, _)| *user == text("user_id")).count();
                assert!(load <= limit, "more than the limit: {step}");
            } else {
                assert!(
                    open.remove(&text("assignment_id")).is_some(),
                    "ended twice: {step}"
                );
                if step["status"] == "reassigned" {
                    live.remove(&text("event_id"));
                }
            }
        }
        steps
    }

    /// The journal as another process finds it: what was on its way to the disk may be there or not.
    pub(crate) async fn reopen(self) -> Self {
        let Self {
            journal,
            folder,
            archive,
        } = self;
        journal.close().await;
        drop(journal);
        Self {
            journal: open(&folder),
            folder,
            archive,
        }
    }

    /// A journal that begins after everything that there is, with an archive of it.
    pub(crate) async fn forget_everything(self) -> Self {
        let mut kept = BTreeMap::new();
        for stream in [found(), assignments()] {
            let all = rows(&self.journal, &stream, Offset(0)).await;
            let end = self.journal.end(&stream.name).await.expect("known")[0].offset;
            kept.insert(stream.name.clone(), (all, end));
        }
        // Every opening begins a segment, and whatever is in older ones may go.
        let Self { journal, folder, .. } = self.reopen().await;
        for name in ["found", "assignments", "answers"] {
            let name = StreamName::parse(name).expect("allowed");
            let end = journal.end(&name).await.expect("known");
            journal.retain(&name, &end).await.expect("removed");
        }
        Self {
            journal,
            folder,
            archive: Some(Arc::new(Kept(kept))),
        }
    }

    /// Where the journal of assignments began when everything before was forgotten.
    pub(crate) fn forgotten(&self) -> Offset {
        self.archive
            .as_ref()
            .map_or(Offset(0), |kept| kept.0[&assignments().name].1)
    }

    pub(crate) async fn all_steps(&self) -> Vec<Value> {
        let kept = self
            .archive
            .iter()
            .flat_map(|kept| kept.0[&assignments().name].0.clone());
        let mut all: Vec<_> = kept.map(|(_, row)| row).collect();
        all.extend(steps_from(&self.journal, self.forgotten()).await);
        all
    }
}

async fn steps_are(world: &World, open: usize) -> bool {
    open_of(&steps(&world.journal).await).len() == open
}

fn open(folder: &TempDir) -> Arc<EmbeddedJournal> {
    let options = JournalOptions {
        directory: folder.path().join("journal"),
        segment_bytes: SEGMENT_BYTES,
        disk_reserve_bytes: 0,
        ..JournalOptions::new(folder.path().join("journal"))
    };
    EmbeddedJournal::open(options).expect("opens")
}

/// Everything that a journal had.
type Stored = BTreeMap<StreamName, (Vec<(Place, Value)>, Offset)>;

struct Kept(Stored);

impl Archive for Kept {
    fn rows<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Offset,
    ) -> BoxFuture<'a, Result<Option<ArchiveRows>, String>> {
        async move {
            let (rows, end) = &self.0[stream];
            let rows: Vec<_> = rows.iter().filter(|(place, _)| place.offset >= from.0).collect();
            let rows = rows.into_iter().map(|(place, row)| Row {
                place: *place,
                json: row.to_string().into_bytes(),
            });
            let (out, taken) = mpsc::channel(1);
            out.send(Ok(rows.collect())).await.expect("room");
            Ok((*end > from).then_some(ArchiveRows {
                rows: taken,
                end: *end,
            }))
        }
        .boxed()
    }
}

/// Posts events of these ids as one record.
pub(crate) async fn post(journal: &EmbeddedJournal, ids: &[String]) {
    let stream = found();
    let mut events = EventDecoder::new(&stream);
    for id in ids {
        events
            .push(format!("{{\"event_id\":\"{id}\"}}").as_bytes())
            .expect("an event");
    }
    let rows = events.take().expect("events");
    let span = Span {
        rows: rows.num_rows() as u32,
        trace_id: TraceId::random(),
        received_at: 1,
        idempotency_key: None,
        producer: None,
    };
    let batch = Batch {
        stream: stream.name.clone(),
        partition: Partition(0),
        version: stream.version,
        spans: vec![span],
        rows,
    };
    journal.append(vec![batch]).await.expect("appends");
}

async fn rows(
    journal: &EmbeddedJournal,
    stream: &Arc<StreamDeclaration>,
    from: Offset,
) -> Vec<(Place, Value)> {
    let end = journal.end(&stream.name).await.expect("known")[0].offset;
    let mut decoder = RecordDecoder::new(Arc::clone(stream));
    let from = Position::new(Partition(0), from);
    let mut reader = journal.reader(&stream.name, from).await.expect("there");
    let mut rows = Vec::new();
    while reader.position().offset < end {
        for record in reader.next(1 << 20).await.expect("readable") {
            rows.extend(decoded(&mut decoder, stream, &record));
        }
    }
    rows
}

/// Every step, in order.
pub(crate) async fn steps(journal: &EmbeddedJournal) -> Vec<Value> {
    steps_from(journal, Offset(0)).await
}

pub(crate) async fn steps_from(journal: &EmbeddedJournal, from: Offset) -> Vec<Value> {
    rows(journal, &assignments(), from)
        .await
        .into_iter()
        .map(|(_, row)| row)
        .collect()
}

/// What somebody who follows the stream of assignments knows to be open.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    pub(crate) async fn watch(self, journal: Arc<EmbeddedJournal>) {
        let stream = assignments();
        let mut decoder = RecordDecoder::new(Arc::clone(&stream));
        let from = Position::new(Partition(0), Offset(0));
        let mut reader = journal.reader(&stream.name, from).await.expect("there");
        loop {
            for record in reader.next(1 << 20).await.expect("readable") {
                for (_, step) in decoded(&mut decoder, &stream, &record) {
                    let id = step["assignment_id"].as_str().expect("text").to_owned();
                    let mut open = self.0.lock().expect("whole");
                    if step["status"] == "open" {
                        open.insert(id);
                    } else {
                        open.remove(&id);
                    }
                }
            }
        }
    }

    pub(crate) fn nth_open(&self, number: usize) -> Option<String> {
        self.0.lock().expect("whole").iter().nth(number).cloned()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().expect("whole").remove(id);
    }
}

fn decoded(decoder: &mut RecordDecoder, stream: &StreamDeclaration, record: &Record) -> Vec<(Place, Value)> {
    let Decoded::Batch(batch) = decoder.decode(record).expect("a record") else {
        panic!("no batch")
    };
    let writer = EventWriter::new(stream, &batch.rows);
    let mut rows = Vec::new();
    for row in 0..batch.len() {
        let mut json = Vec::new();
        writer.write(row, &mut json).expect("a row");
        let place = Place {
            offset: record.offset.0,
            row: row as u32,
        };
        rows.push((place, serde_json::from_slice(&json).expect("JSON")));
    }
    rows
}

/// What is open: assignment → event.
pub(crate) fn open_of(steps: &[Value]) -> BTreeMap<String, String> {
    let mut open = BTreeMap::new();
    for step in steps {
        let text = |name: &str| step[name].as_str().expect("text").to_owned();
        if step["status"] == "open" {
            open.insert(text("assignment_id"), text("event_id"));
        } else {
            open.remove(&text("assignment_id"));
        }
    }
    open
}

/// The events that were ever assigned.
pub(crate) fn opened(steps: &[Value]) -> BTreeSet<String> {
    let opened = steps.iter().filter(|step| step["status"] == "open");
    opened
        .map(|step| step["event_id"].as_str().expect("text").to_owned())
        .collect()
}

/// How many each person has open.
pub(crate) fn loads(steps: &[Value]) -> BTreeMap<String, usize> {
    let mut users = BTreeMap::new();
    for step in steps {
        let text = |name: &str| step[name].as_str().expect("text").to_owned();
        if step["status"] == "open" {
            users.insert(text("assignment_id"), text("user_id"));
        } else {
            users.remove(&text("assignment_id"));
        }
    }
    let mut loads = BTreeMap::new();
    for user in users.into_values() {
        *loads.entry(user).or_default() += 1;
    }
    loads
}

/// Waits until something holds; the failure says what for.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
