//! The twelve questions of `benches/queries`, asked of us over HTTP and of others over the very files of our lake.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use benches::Anything;
use benches::load::{made, post};
use benches::process::{self, Process};
use benches::report::{Side, Work};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use server::load::ask::ask;
use server::load::generate::Starter;
use server::load::replay::BatchSize;

use crate::answer::difference;
use crate::engine::Engine;
use crate::lake_files::files;
use crate::{Arguments, ENGINES, THREADS};

/// Where the questions are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/queries");

/// Nothing is rolled or removed while somebody reads the files.
const CONFIG: &str = "lake.keep_removed = \"1d\"\nlake.roll.every = \"1d\"\n";

/// Events that are in the journal only while our answers are timed.
const TAIL: u64 = 10_000;

/// For each event of `activity` there are so many of `running`.
const RUNNING_PER_ACTIVITY: u64 = 10;

/// A question in everybody's words.
struct Question {
    name: String,
    /// By `duckdb` or `chdb`, ours by the empty name.
    sql: BTreeMap<String, String>,
}

impl Question {
    fn of(&self, kind: &str) -> &str {
        let own = self.sql.get(kind).or_else(|| self.sql.get(""));
        own.map_or("", String::as_str)
    }
}

/// Asks all of them in turns.
pub(crate) async fn measure(arguments: &Arguments) -> Result<Vec<Work>, Anything> {
    let directory = process::directory()?;
    fill(directory.path(), arguments.events).await?;
    let lake = directory.path().join("data/lake");
    let mut engines = Vec::new();
    for kind in ENGINES {
        let mut engine = Engine::start(&arguments.python, kind, THREADS)?;
        for table in [Starter::Running.name(), Starter::Activity.name()] {
            engine.view(table, &files(&lake.join(table))?)?;
        }
        engines.push(engine);
    }
    let server = Process::start(directory.path(), CONFIG)?;
    let questions = questions()?;
    let mut troubles = Vec::new();
    for question in &questions {
        troubles.push(compare(&server, &mut engines, question).await?);
    }
    let tail = made(Starter::Running, TAIL, 2);
    post(
        &server,
        Starter::Running.name(),
        tail,
        BatchSize::Bytes(1 << 20),
        1,
    )
    .await?;
    let mut works = Vec::new();
    for (question, troubles) in questions.iter().zip(troubles) {
        let work = time(&server, &mut engines, question, troubles, arguments.rounds).await?;
        crate::print(&work);
        works.push(work);
    }
    server.stop()?;
    Ok(works)
}

/// Fills a lake, and stops: then everything is committed.
async fn fill(directory: &Path, events: u64) -> Result<(), Anything> {
    let server = Process::start(directory, CONFIG)?;
    for (starter, count) in [
        (Starter::Running, events),
        (Starter::Activity, events / RUNNING_PER_ACTIVITY),
    ] {
        post(
            &server,
            starter.name(),
            made(starter, count, 1),
            BatchSize::Bytes(1 << 20),
            4,
        )
        .await?;
    }
    server.stop().map(drop)
}

/// `NAME.sql` is everybody's, `NAME.KIND.sql` one engine's.
fn questions() -> Result<Vec<Question>, Anything> {
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for entry in std::fs::read_dir(FOLDER)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(stem) = name.strip_suffix(".sql") else {
            continue;
        };
        let (name, kind) = stem.split_once('.').unwrap_or((stem, ""));
        let sql = std::fs::read_to_string(&path)?.trim().to_owned();
        found
            .entry(name.to_owned())
            .or_default()
            .insert(kind.to_owned(), sql);
    }
    let questions = found.into_iter().map(|(name, sql)| Question { name, sql });
    Ok(questions.collect())
}

/// Asks everybody before there is a tail, which also warms them. Gives for each engine what is wrong, if something
/// is.
async fn compare(
    server: &Process,
    engines: &mut [Engine],
    question: &Question,
) -> Result<Vec<Option<String>>, Anything> {
    let ours = ask_us(server, question.of("")).await;
    let troubles = engines.iter_mut().map(|engine| {
        let theirs = match engine.ask(question.of(engine.kind)) {
            Ok(theirs) => theirs,
            Err(error) => return Some(error.to_string()),
        };
        match &ours {
            Ok(ours) => difference(ours, &theirs.rows).map(|at| format!("another answer: {at}")),
            Err(_) => None,
        }
    });
    let troubles: Vec<_> = troubles.collect();
    for trouble in troubles.iter().flatten() {
        println!("{}: {trouble}", question.name);
    }
    if let Err(error) = ours {
        println!("{}: {error}", question.name);
    }
    Ok(troubles)
}

async fn ask_us(server: &Process, sql: &str) -> Result<Vec<Vec<Value>>, Anything> {
    let request = Request::post("/v1/sql").header("content-type", "application/json");
    let body = json!({"sql": sql}).to_string();
    let answer = ask(server.address(), request, body).await?;
    if answer.status != StatusCode::OK {
        return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)).into());
    }
    let mut answer: Value = serde_json::from_slice(&answer.body)?;
    Ok(serde_json::from_value(answer["rows"].take())?)
}

/// Seconds until we have answered, and those of processor time.
async fn time_us(server: &Process, sql: &str) -> Result<(f64, f64), Anything> {
    let cpu = server.cpu_seconds()?;
    let begun = Instant::now();
    ask_us(server, sql).await?;
    Ok((begun.elapsed().as_secs_f64(), server.cpu_seconds()? - cpu))
}

async fn time(
    server: &Process,
    engines: &mut [Engine],
    question: &Question,
    troubles: Vec<Option<String>>,
    rounds: usize,
) -> Result<Work, Anything> {
    let mut sides = vec![Side {
        name: "Tidemill".to_owned(),
        settings: format!("over HTTP as JSON, a new connection each time, with a tail of {TAIL} events"),
        rounds: Vec::new(),
        cpu_seconds: Vec::new(),
        others_cpu_seconds: Vec::new(),
        trouble: ask_us(server, question.of(""))
            .await
            .err()
            .map(|error| error.to_string()),
    }];
    for (engine, trouble) in engines.iter().zip(troubles) {
        sides.push(Side {
            name: engine.name.clone(),
            settings: format!("{THREADS} threads, in its own process, rows as Python objects, no tail"),
            rounds: Vec::new(),
            cpu_seconds: Vec::new(),
            others_cpu_seconds: Vec::new(),
            trouble,
        });
    }
    for round in 0..rounds {
        // Who is first changes.
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let side = &mut sides[at];
            if side
                .trouble
                .as_ref()
                .is_some_and(|trouble| !trouble.starts_with("another answer"))
            {
                continue;
            }
            let done = if at == 0 {
                time_us(server, question.of("")).await
            } else {
                let engine = &mut engines[at - 1];
                let answer = engine.ask(question.of(engine.kind));
                answer.map(|answer| (answer.seconds, answer.cpu_seconds))
            };
            match done {
                Ok((seconds, cpu_seconds)) => {
                    side.rounds.push(seconds * 1e3);
                    side.cpu_seconds.push(cpu_seconds);
                }
                // One question that takes too long spoils no other.
                Err(error) => side.trouble = Some(error.to_string()),
            }
        }
    }
    Ok(Work {
        group: "Questions".to_owned(),
        name: question.name.clone(),
        unit: "ms".to_owned(),
        less_is_better: true,
        sides,
    })
}
