//! One connection's work: take a batch, wait for its start, send it until it has an outcome, write that down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::batches::Batch;
use super::connection::{Connection, Reply, SendError};
use super::ledger::{Entry, Ledger};
use super::tally::{Progress, Tally};

/// First pause before a server that is gone is asked again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What all senders of a replay share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) begun: Instant,
    pub(super) stop: CancellationToken,
    pub(super) patience: Duration,
    pub(super) progress: Arc<Progress>,
    pub(super) ledger: Option<Ledger>,
    pub(super) tally: BlockingMutex<Tally>,
}

impl Shared {
    /// What was counted so far; held for as long as it takes to add to it.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches that are due, in their order.
pub(super) struct Queue {
    pub(super) groups: mpsc::Receiver<Vec<Batch>>,
    pub(super) ready: VecDeque<Batch>,
}

impl Queue {
    /// The next one.
    ///
    /// # Cancellation
    /// Nothing is lost.
    async fn next(&mut self) -> Option<Batch> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(batch);
            }
            self.ready = self.groups.recv().await?.into();
        }
    }
}

/// One of them.
pub(super) struct Sender {
    shared: Arc<Shared>,
    connection: Connection,
}

/// What became of a batch.
enum Outcome {
    Answered {
        status: StatusCode,
        answer: Answer,
    },
    /// Refused for good; `for_all` when every other batch will be too.
    Failed {
        message: String,
        for_all: bool,
    },
    Unknown(String),
}

/// The parts of an answer that are counted.
#[derive(Debug, Deserialize)]
struct Answer {
    accepted: u64,
    rejected: u64,
    /// Kept as it is, for the ledger.
    #[serde(default)]
    positions: Option<Box<RawValue>>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection) -> Self {
        Self { shared, connection }
    }

    /// Works until there is nothing more to send, or to the stop.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.take().await {
            let now = Instant::now();
            let intended = batch.due.map_or(now, |due| self.shared.begun + due);
            self.shared
                .tally()
                .started(now.saturating_duration_since(intended));
            if let Err(error) = self.note(sending(&batch)).await {
                self.give_up(format!("write the ledger: {error}"));
                break;
            }
            let outcome = self.deliver(&batch).await;
            let latency = intended.elapsed();
            let noted = self.note(ended(&batch, &outcome)).await;
            self.count(&batch, outcome, latency);
            if let Err(error) = noted {
                self.give_up(format!("write the ledger: {error}"));
                break;
            }
        }
    }

    /// The next batch; the reader hands it over at its intended start.
    async fn take(&mut self) -> Option<Batch> {
        let shared = &self.shared;
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => None,
            batch = async { shared.queue.lock().await.next().await } => batch,
        }
    }

    /// Sends a batch until it has an outcome.
    async fn deliver(&mut self, batch: &Batch) -> Outcome {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let (wait, why) = match self.connection.post(batch.body.clone()).await {
                Ok(reply) if may_retry(&reply) => {
                    self.shared.progress.retried();
                    self.shared.tally().retries += 1;
                    let why = refusal(&reply);
                    if let Err(error) = self.note(refused(batch, reply.status)).await {
                        return Outcome::Failed {
                            message: format!("write the ledger: {error}"),
                            for_all: true,
                        };
                    }
                    (reply.retry_after.unwrap_or(pause), why)
                }
                Ok(reply) => return outcome(batch, &reply),
                Err(SendError::Unknown(message)) => return Outcome::Unknown(message),
                Err(SendError::NotSent(message)) => {
                    self.shared.tally().reconnects += 1;
                    (pause, format!("connect: {message}"))
                }
            };
            if begun.elapsed() + wait > self.shared.patience || !self.pause(wait).await {
                return Outcome::Failed {
                    message: why,
                    for_all: false,
                };
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Whether the pause went by without a stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        tokio::select! {
            () = self.shared.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    async fn note(&mut self, entry: Entry) -> std::io::Result<()> {
        match &self.shared.ledger {
            Some(ledger) => ledger.write(entry).await,
            None => Ok(()),
        }
    }

    fn count(&self, batch: &Batch, outcome: Outcome, latency: Duration) {
        let mut tally = self.shared.tally();
        tally.answered_after(latency);
        match outcome {
            Outcome::Answered { answer, .. } => {
                let bytes = batch.body.len() as u64;
                tally.answered(answer.accepted, answer.rejected, bytes);
                let progress = &self.shared.progress;
                progress.answered(batch.events, answer.rejected, bytes);
            }
            Outcome::Failed { message, for_all } => {
                tally.failed_events += batch.events;
                tally.problem(message);
                if for_all {
                    self.shared.stop.cancel();
                }
            }
            Outcome::Unknown(message) => {
                tally.unknown_events += batch.events;
                tally.problem(message);
            }
        }
    }

    /// Ends the whole replay: nothing that follows can go better.
    fn give_up(&self, message: String) {
        self.shared.tally().problem(message);
        self.shared.stop.cancel();
    }
}

/// Whether the same batch may be sent again: the server is busy and stored nothing of it. A 503 that names
/// positions stored a part, and sending that again would make doubles.
fn may_retry(reply: &Reply) -> bool {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&reply.status);
    busy && !stored_a_part(&reply.body)
}

fn stored_a_part(body: &[u8]) -> bool {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = document["positions"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    named || document["accepted"].as_u64().is_some_and(|accepted| accepted > 0)
}

fn outcome(batch: &Batch, reply: &Reply) -> Outcome {
    let status = reply.status;
    if status == StatusCode::OK || status == StatusCode::UNPROCESSABLE_ENTITY {
        return match serde_json::from_slice::<Answer>(&reply.body) {
            Ok(answer) if answer.accepted.checked_add(answer.rejected) == Some(batch.events) => {
                Outcome::Answered { status, answer }
            }
            Ok(answer) => Outcome::Unknown(format!(
                "{} events were sent, the answer says {} accepted and {} rejected",
                batch.events, answer.accepted, answer.rejected
            )),
            Err(error) => Outcome::Unknown(format!("{status} with an answer that cannot be read: {error}")),
        };
    }
    let message = refusal(reply);
    if stored_a_part(&reply.body) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED) {
        return Outcome::Unknown(message);
    }
    // A bad request is about this body; everything else is about where and how all bodies are sent.
    let for_all = status != StatusCode::BAD_REQUEST && status != StatusCode::REQUEST_TIMEOUT;
    Outcome::Failed { message, for_all }
}

/// Status and reason of a refusal, in one line.
fn refusal(reply: &Reply) -> String {
    let document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match document["detail"].as_str().or(document["title"].as_str()) {
        Some(detail) => format!("{}: {detail}", reply.status),
        None => reply.status.to_string(),
    }
}

fn sending(batch: &Batch) -> Entry {
    Entry::Sending {
        batch: batch.id,
        first_event: batch.first_event,
        events: batch.events,
    }
}

fn refused(batch: &Batch, status: StatusCode) -> Entry {
    Entry::Refused {
        batch: batch.id,
        status: status.as_u16(),
    }
}

fn ended(batch: &Batch, outcome: &Outcome) -> Entry {
    match outcome {
        Outcome::Answered { status, answer } => Entry::Answered {
            batch: batch.id,
            status: status.as_u16(),
            accepted: answer.accepted,
            rejected: answer.rejected,
            positions: answer.positions.clone(),
        },
        Outcome::Failed { message, .. } => Entry::Failed {
            batch: batch.id,
            message: message.clone(),
        },
        Outcome::Unknown(message) => Entry::Unknown {
            batch: batch.id,
            message: message.clone(),
        },
    }
}
