//! One question's way through a worker, and the watch over it.
//!
//! The work is a task of its own: whoever asked may go away at any moment, and then somebody must still see to it
//! that the worker stops, or is stopped (W-1).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use journal::Durability;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::pool::Pool;
use super::process::Process;
use super::wire::{Begin, Kind};
use crate::analytics::Shared;
use crate::pin::Pin;
use crate::question::{At, Question, Seen};
use crate::{QueryError, SqlAnswer, SqlBody};

/// A worker that was told to stop has this long to do so; then it is killed.
const STOP_TIME: Duration = Duration::from_secs(1);
/// The same for one that has given its whole answer: nobody waits for it, and a busy machine is no reason to kill it.
const REST_TIME: Duration = Duration::from_secs(5);
/// Parts of an answer between the worker's socket and the client's.
const PARTS: usize = 2;
/// Bytes of an answer that is made as one, beyond which a worker is not believed.
const WHOLE_BYTES_MAX: usize = 256 << 20;

/// What whoever asked gets to see. Parts that end without one of the last two were cut short.
enum Part {
    Begin(Begin),
    Bytes(Bytes),
    End,
    Failed(QueryError),
}

/// A question that is being answered.
struct Job {
    question: Question,
    ends: Instant,
    parts: mpsc::Sender<Part>,
    /// Its place among the questions that run or wait.
    _permit: OwnedSemaphorePermit,
}

/// How a worker was left.
enum Left {
    /// It may have the next question.
    Idle,
    /// It ended; whoever asked may still wait.
    Gone(Option<mpsc::Sender<Part>>),
    /// It does not stop.
    Stuck,
}

/// Asks a worker.
///
/// # Cancellation
/// Dropping the future, or the answer's stream, ends the question.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    pool: &Arc<Pool>,
    question: Question,
) -> Result<SqlAnswer, QueryError> {
    let permit = shared.admit_sql()?;
    let format = question.format;
    let (sender, mut parts) = mpsc::channel(PARTS);
    let job = Job {
        ends: Instant::now() + question.timeout,
        question,
        parts: sender,
        _permit: permit,
    };
    pool.spawn(run(Arc::clone(shared), Arc::clone(pool), job));
    let begin = match parts.recv().await {
        Some(Part::Begin(begin)) => begin,
        Some(Part::Failed(error)) => return Err(error),
        Some(Part::Bytes(_) | Part::End) | None => return Err(cut_short()),
    };
    let body = if begin.whole {
        SqlBody::Whole(whole(&mut parts).await?)
    } else {
        SqlBody::Stream(stream(parts).boxed())
    };
    let as_of = begin.as_of;
    Ok(SqlAnswer { format, as_of, body })
}

fn cut_short() -> QueryError {
    QueryError::Storage("the answer was cut short".to_owned())
}

/// All of an answer.
async fn whole(parts: &mut mpsc::Receiver<Part>) -> Result<Vec<u8>, QueryError> {
    let mut bytes = Vec::new();
    loop {
        match parts.recv().await {
            Some(Part::Bytes(more)) if bytes.len() + more.len() <= WHOLE_BYTES_MAX => {
                bytes.extend_from_slice(&more);
            }
            Some(Part::End) => return Ok(bytes),
            Some(Part::Failed(error)) => return Err(error),
            Some(Part::Begin(_) | Part::Bytes(_)) | None => return Err(cut_short()),
        }
    }
}

/// The rest of an answer, as it comes; it ends with an error unless the worker said that it was whole (W-5).
fn stream(parts: mpsc::Receiver<Part>) -> impl futures::Stream<Item = Result<Bytes, QueryError>> + Send {
    futures::stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        match parts.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(parts))),
            Some(Part::End) => None,
            Some(Part::Failed(error)) => Some((Err(error), None)),
            Some(Part::Begin(_)) | None => Some((Err(cut_short()), None)),
        }
    })
}

/// Answers one question with one worker, and sees to it that the worker is free afterwards, or gone.
async fn run(shared: Arc<Shared>, pool: Arc<Pool>, mut job: Job) {
    let prepared = async {
        let place = Arc::clone(&pool.places).acquire_owned().await;
        let place = place.map_err(|_| cut_short())?;
        let (seen, pins) = pin(&shared, &job.question).await?;
        Ok::<_, QueryError>((place, seen, pins, pool.take().await?))
    };
    let limit = job.question.timeout.as_millis();
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        () = job.parts.closed() => return,
        () = tokio::time::sleep_until(job.ends) => Err(QueryError::NoWorker(limit)),
    };
    let (place, seen, pins, mut process) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // Nothing was sent yet, so there is room.
            let _ = job.parts.try_send(Part::Failed(error));
            return;
        }
    };
    job.question.seen = seen;
    job.question.timeout = job.ends.saturating_duration_since(Instant::now());
    match converse(&mut process, &job.question, job.ends, limit, job.parts).await {
        Left::Idle => pool.put_back(process),
        Left::Gone(parts) => {
            let death = process.death().await;
            if let Some(parts) = parts {
                // When there is no room, the end of the parts says the same.
                let _ = parts.try_send(Part::Failed(death.error.clone()));
            }
            pool.lost(&death);
        }
        Left::Stuck => pool.kill(process, "stuck").await,
    }
    drop((place, pins));
}

/// Fixes what the query may read of each stream that its text can name: how far it must see at least (W-3), and
/// what must stay in the journal meanwhile (W-4).
async fn pin(shared: &Shared, question: &Question) -> Result<(Seen, Vec<Pin>), QueryError> {
    let mut seen = Seen::new();
    if shared.pinner.journal.durability() != Durability::Fsync {
        // A broker is asked by the worker itself, shows all that it acknowledged, and keeps what it was told to.
        return Ok((seen, Vec::new()));
    }
    let text = question.sql.to_ascii_lowercase();
    let mut pins = Vec::new();
    for declaration in question.readable.of(&shared.catalog) {
        let name = declaration.name.as_str();
        if !text.contains(name) {
            continue;
        }
        let pin = shared.pinner.pin(declaration).await?;
        let ends = pin.end.iter().copied().map(At::from).collect();
        seen.insert(name.to_owned(), ends);
        pins.push(pin);
    }
    Ok((seen, pins))
}

/// Puts the question and passes the answer on, until it is over and nothing of it is left in the worker.
async fn converse(
    process: &mut Process,
    question: &Question,
    ends: Instant,
    limit_ms: u128,
    parts: mpsc::Sender<Part>,
) -> Left {
    let over = pass_on(process, question, ends, limit_ms, &parts).await;
    if matches!(over, Over::Gone) {
        return Left::Gone(Some(parts));
    }
    // Whoever asked need not wait for what is left to do.
    drop(parts);
    let cancelled = matches!(over, Over::Left);
    let left = timeout(if cancelled { STOP_TIME } else { REST_TIME }, async {
        if cancelled && process.send(Kind::Cancel, &[]).await.is_err() {
            return Left::Gone(None);
        }
        loop {
            match process.next().await {
                Ok(Some(frame)) if frame.kind == Kind::Idle => return Left::Idle,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Left::Gone(None),
            }
        }
    });
    left.await.unwrap_or(Left::Stuck)
}

/// How an answer was over.
enum Over {
    /// The worker said so.
    Ended,
    /// The time was up, or nobody waits any more.
    Left,
    /// The worker ended.
    Gone,
}

async fn pass_on(
    process: &mut Process,
    question: &Question,
    ends: Instant,
    limit_ms: u128,
    parts: &mpsc::Sender<Part>,
) -> Over {
    let answer = async {
        let text = serde_json::to_vec(question).expect("text, numbers and lists can be written");
        if process.send(Kind::Question, &text).await.is_err() {
            return Over::Gone;
        }
        loop {
            let Ok(Some(frame)) = process.next().await else {
                return Over::Gone;
            };
            let part = match frame.kind {
                Kind::Begin => frame.parse().ok().map(Part::Begin),
                Kind::Data => Some(Part::Bytes(frame.payload)),
                Kind::End => Some(Part::End),
                Kind::Failed => frame.parse().ok().map(Part::Failed),
                _ => None,
            };
            let part = match part {
                // It counts from when it got the question.
                Some(Part::Failed(QueryError::Timeout(_))) => Part::Failed(QueryError::Timeout(limit_ms)),
                Some(part) => part,
                None => Part::Failed(cut_short()),
            };
            let last = matches!(part, Part::End | Part::Failed(_));
            if parts.send(part).await.is_err() {
                return Over::Left;
            }
            if last {
                return Over::Ended;
            }
        }
    };
    tokio::select! {
        biased;
        over = answer => over,
        () = parts.closed() => Over::Left,
        () = tokio::time::sleep_until(ends) => {
            // When there is no room, the end of the parts says the same.
            let _ = parts.try_send(Part::Failed(QueryError::Timeout(limit_ms)));
            Over::Left
        }
    }
}
