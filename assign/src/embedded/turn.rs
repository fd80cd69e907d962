//! The task that has the state: turn after turn it takes what has come, decides, makes it durable, and then replies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use journal::{AppendError, Fault};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::archive::Row;
use super::history::History;
use super::snapshot::Snapshot;
use super::state::State;
use super::steps::{Step, StepWriter};
use super::{EmbeddedOptions, Place};
use crate::desk::now;
use crate::retry::Retry;
use crate::subject::Subject;
use crate::{AssignError, AssignOptions, Session, Settled, Settlement};

/// Most events that are assigned, and most that go to somebody else, in one turn: a group of the journal of some
/// hundred KiB.
const STEPS_MAX: usize = 1_000;
/// Most requests of one turn.
const REQUESTS_MAX: usize = 512;
/// Steps after which a snapshot is taken: reading as many at a start takes a fraction of a second.
const SNAPSHOT_STEPS: u64 = 50_000;
/// Longest time between a step and the next snapshot.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(300);

/// Somebody asks for something, and waits for the reply.
pub(super) enum Request {
    Begin {
        user: String,
        reply: oneshot::Sender<Result<Session, AssignError>>,
    },
    End {
        user: String,
        reply: oneshot::Sender<Result<bool, AssignError>>,
    },
    Settle {
        assignment: String,
        how: Settlement,
        reply: oneshot::Sender<Result<Settled, AssignError>>,
    },
}

/// A reply that waits until what it says is durable.
type Reply = Box<dyn FnOnce() + Send>;

/// An event that waits for somebody, or that can never be assigned.
struct Waiting {
    place: Place,
    subject: Option<Subject>,
}

/// The task's own.
pub(super) struct Turns {
    state: State,
    options: AssignOptions,
    embedded: EmbeddedOptions,
    writer: StepWriter,
    /// The offset that the next record of assignments gets.
    next: u64,
    told: watch::Sender<Result<(), String>>,
    waiting: VecDeque<Waiting>,
    /// Steps since the last snapshot, and when that was.
    unsaved: u64,
    saved: Instant,
}

impl Turns {
    pub(super) fn new(
        state: State,
        options: AssignOptions,
        embedded: EmbeddedOptions,
        writer: StepWriter,
        next: u64,
        told: watch::Sender<Result<(), String>>,
    ) -> Self {
        Self {
            state,
            options,
            embedded,
            writer,
            next,
            told,
            waiting: VecDeque::new(),
            unsaved: 0,
            saved: Instant::now(),
        }
    }

    /// Runs until nobody can ask any more, or nothing can be made durable.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        reads: watch::Sender<Result<(), String>>,
    ) {
        let (arrivals, mut arriving) = mpsc::channel(1);
        let reading = Reading(Handle::current().spawn(read(self.history(), arrivals, reads)));
        // Sessions end on time to a tenth of what they last.
        let every = (self.options.session / 10).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gathered = Vec::new();
        let mut more = false;
        loop {
            tokio::select! {
                biased;
                count = requests.recv_many(&mut gathered, REQUESTS_MAX) => if count == 0 { break },
                Some(rows) = arriving.recv(), if self.waiting.is_empty() => self.arrive(rows),
                () = std::future::ready(()), if more => {}
                _ = ticks.tick() => {}
            }
            match self.turn(&mut gathered).await {
                Ok(again) => more = again,
                Err(message) => {
                    tracing::error!(%message, "assigning has stopped");
                    drop(self.told.send_replace(Err(message)));
                    return;
                }
            }
            if self.unsaved >= SNAPSHOT_STEPS || (self.unsaved > 0 && self.saved.elapsed() >= SNAPSHOT_EVERY)
            {
                self.save().await;
            }
        }
        drop(reading);
        if self.unsaved > 0 {
            self.save().await;
        }
    }

    fn history(&self) -> History {
        let source = self.embedded.stream.name.as_str();
        let from = self.state.next.get(source).copied().unwrap_or_default();
        History::new(
            Arc::clone(&self.embedded.journal),
            self.embedded.archive.clone(),
            Arc::clone(&self.embedded.stream),
            from,
        )
    }

    fn arrive(&mut self, rows: Vec<Row>) {
        for row in rows {
            let subject = Subject::of(&row.json, &self.options.id, &self.options.copy);
            if let Err(reason) = &subject {
                metrics::counter!("tidemill_assign_refused_total").increment(1);
                let (offset, row) = (row.place.offset, row.place.row);
                tracing::warn!(offset, row, %reason, "an event cannot be assigned and is passed over");
            }
            self.waiting.push_back(Waiting {
                place: row.place,
                subject: subject.ok(),
            });
        }
    }

    /// Decides what there is to decide, makes it durable, replies. Says whether there is more to decide at once.
    async fn turn(&mut self, gathered: &mut Vec<Request>) -> Result<bool, String> {
        let at = now();
        let mut steps = Vec::new();
        let mut replies: Vec<Reply> = Vec::new();
        for request in gathered.drain(..) {
            replies.push(self.decide(request, at, &mut steps));
        }
        self.state.expire(at);
        let more = self.state.reassign(at, STEPS_MAX, &mut steps);
        let more = self.assign(&mut steps) || more;
        if !steps.is_empty() {
            self.commit(&steps, at).await?;
            self.count(&steps);
        }
        replies.into_iter().for_each(|reply| reply());
        metrics::gauge!("tidemill_assign_active_users").set(self.state.active_count() as f64);
        metrics::gauge!("tidemill_assign_open").set(self.state.open_count() as f64);
        metrics::gauge!("tidemill_assign_waiting").set(self.waiting.len() as f64);
        Ok(more)
    }

    fn decide(&mut self, request: Request, at: i64, steps: &mut Vec<Step>) -> Reply {
        // Whoever asked may be gone.
        match request {
            Request::Begin { user, reply } => {
                let begun = self.state.begin(&user, at);
                Box::new(move || drop(reply.send(begun)))
            }
            Request::End { user, reply } => {
                let ended = self.state.end(&user, at);
                Box::new(move || drop(reply.send(Ok(ended))))
            }
            Request::Settle {
                assignment,
                how,
                reply,
            } => {
                let settled = self.state.settle(&assignment, how, steps);
                Box::new(move || drop(reply.send(settled)))
            }
        }
    }

    /// Gives waiting events to people, in the order of the stream. Says whether more could go at once.
    fn assign(&mut self, steps: &mut Vec<Step>) -> bool {
        let source = self.embedded.stream.name.as_str();
        for _ in 0..STEPS_MAX {
            let Some(first) = self.waiting.front() else {
                return false;
            };
            match &first.subject {
                Some(subject) if !self.state.assign(subject, source, first.place, steps) => return false,
                Some(_) => {}
                None => self.state.passed(source, first.place),
            }
            self.waiting.pop_front();
        }
        true
    }

    /// Appends the steps as one group. The state has made them already, so nothing else happens until they are durable.
    async fn commit(&mut self, steps: &[Step], at: i64) -> Result<(), String> {
        let group = self.writer.group(steps, at)?;
        let records = group
            .iter()
            .filter(|batch| batch.stream == self.embedded.assignments)
            .count();
        let mut retry = Retry::default();
        loop {
            let appended = self.embedded.journal.append(group.clone()).await;
            let error = match appended {
                Ok(_) => break,
                Err(error) => error,
            };
            if !is_passing(&error) {
                return Err(error.to_string());
            }
            if self.told.send_replace(Err(error.to_string())).is_ok() {
                tracing::warn!(%error, "assignments wait for the journal");
            }
            retry.wait().await;
        }
        if self.told.borrow().is_err() {
            drop(self.told.send_replace(Ok(())));
        }
        self.next += records as u64;
        self.unsaved += steps.len() as u64;
        Ok(())
    }

    fn count(&self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Opened { from: Some(_), .. } => {
                    metrics::counter!("tidemill_assign_assigned_total").increment(1)
                }
                Step::Opened { from: None, .. } => {}
                Step::Closed { status, .. } => {
                    metrics::counter!("tidemill_assign_ended_total", "status" => status.as_str())
                        .increment(1);
                }
            }
        }
    }

    async fn save(&mut self) {
        let snapshot = Snapshot::of(&self.state, self.embedded.journal.id().to_string(), self.next);
        let directory = self.embedded.directory.clone();
        let stored = tokio::task::spawn_blocking(move || snapshot.store(&directory)).await;
        // The one before it is as good; it only takes longer to start from.
        match stored {
            Ok(Ok(())) => self.unsaved = 0,
            Ok(Err(error)) => tracing::warn!(%error, "store a snapshot of assignments"),
            Err(error) => tracing::warn!(%error, "store a snapshot of assignments"),
        }
        self.saved = Instant::now();
    }
}

/// Whether the same group may pass later: it is certain that it is not in the journal then.
fn is_passing(error: &AppendError) -> bool {
    match error {
        AppendError::Closed
        | AppendError::ReadOnly
        | AppendError::Partial { .. }
        | AppendError::Unavailable { .. } => false,
        other => matches!(other.fault(), Fault::Overload | Fault::Outage),
    }
}

/// Ends when dropped.
struct Reading(JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads events until nobody takes them. What is away is tried again; what is gone for good is said again and again, and
/// nothing is passed over.
async fn read(
    mut history: History,
    arrivals: mpsc::Sender<Vec<Row>>,
    told: watch::Sender<Result<(), String>>,
) {
    let mut retry = Retry::default();
    loop {
        // Room first: what was read would keep its memory while it waits.
        let Ok(room) = arrivals.reserve().await else {
            return;
        };
        match history.next().await {
            Ok(rows) => {
                retry.reset();
                if told.borrow().is_err() {
                    drop(told.send_replace(Ok(())));
                }
                if !rows.is_empty() {
                    room.send(rows);
                }
            }
            Err(error) => {
                metrics::counter!("tidemill_assign_read_errors_total").increment(1);
                if told.send_replace(Err(error.to_string())).is_ok() {
                    tracing::warn!(%error, place = ?history.next_place(), "events to assign cannot be read");
                }
                retry.wait().await;
            }
        }
    }
}
