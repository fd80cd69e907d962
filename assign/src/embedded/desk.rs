//! The desk: finds its state again, starts the task that has it, and hands it requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::{Offset, StreamDeclaration};
use futures::future::{BoxFuture, FutureExt};
use journal::Journal;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::history::History;
use super::snapshot::Snapshot;
use super::state::State;
use super::steps::{StepWriter, StoredStep, answers_stream, assignments_stream};
use super::turn::{Request, Turns};
use super::{EmbeddedOptions, Place, StartError};
use crate::desk::{Desk, Health, now};
use crate::retry::locked;
use crate::{AssignError, AssignOptions, Session, Settled, Settlement};

/// Most requests that wait for a turn.
pub(super) const REQUESTS_MAX: usize = 1_024;
/// Longest time that the last turn may take.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// The desk of one process.
pub struct EmbeddedDesk {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    /// Whether steps can be written.
    writing: watch::Receiver<Result<(), String>>,
    /// Whether events can be read.
    reading: watch::Receiver<Result<(), String>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedDesk {
    /// Finds the state that the journal has, and begins to assign.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(options: AssignOptions, embedded: EmbeddedOptions) -> Result<Self, StartError> {
        let id = options.id.clone();
        let assignments = Arc::new(assignments_stream(embedded.assignments.clone()));
        let mut state = State::new(options.clone(), embedded.remember);
        let next = recover(&mut state, &embedded, &assignments).await?;
        state.await_people(now());
        tracing::info!(open = state.open_count(), next, "assignments are found");
        let writer = StepWriter {
            answers: Arc::new(answers_stream(embedded.answers.clone(), &id)),
            assignments,
            source: embedded.stream.name.clone(),
            id,
        };
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let (written, writing) = watch::channel(Ok(()));
        let (read, reading) = watch::channel(Ok(()));
        let turns = Turns::new(state, options, embedded, writer, next, written);
        let task = Handle::current().spawn(turns.run(waiting, read));
        Ok(Self {
            requests: Mutex::new(Some(requests)),
            writing,
            reading,
            task: Mutex::new(Some(task)),
        })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, AssignError>>) -> Request,
    ) -> Result<T, AssignError> {
        let (reply, answer) = oneshot::channel();
        let requests = locked(&self.requests).clone();
        let sent = requests.ok_or_else(|| self.stopped())?.try_send(request(reply));
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AssignError::Busy { limit: REQUESTS_MAX },
            mpsc::error::TrySendError::Closed(_) => self.stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> AssignError {
        let why = self.writing.borrow().clone().err();
        AssignError::Stopped(why.unwrap_or_else(|| "it is shutting down".to_owned()))
    }
}

impl Desk for EmbeddedDesk {
    fn begin<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Session, AssignError>> {
        let user = user.to_owned();
        self.ask(|reply| Request::Begin { user, reply }).boxed()
    }

    fn end<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<bool, AssignError>> {
        let user = user.to_owned();
        self.ask(|reply| Request::End { user, reply }).boxed()
    }

    fn settle<'a>(
        &'a self,
        assignment: &'a str,
        how: Settlement,
    ) -> BoxFuture<'a, Result<Settled, AssignError>> {
        let assignment = assignment.to_owned();
        self.ask(move |reply| Request::Settle {
            assignment,
            how,
            reply,
        })
        .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let (writing, reading) = (self.writing.borrow().clone(), self.reading.borrow().clone());
        let parts = vec![("assignments", writing), ("events", reading)];
        async move { Health { parts } }.boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        drop(locked(&self.requests).take());
        let task = locked(&self.task).take();
        async move {
            let Some(mut task) = task else { return };
            match timeout(SHUTDOWN, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the task of assignments ended in a panic"),
                Err(_) => {
                    tracing::warn!(
                        "steps of assignments could not be written any more; nobody was told of them"
                    );
                    task.abort();
                }
            }
        }
        .boxed()
    }
}

impl Drop for EmbeddedDesk {
    /// Ends as a crash would.
    fn drop(&mut self) {
        if let Some(task) = locked(&self.task).take() {
            task.abort();
        }
    }
}

/// Puts into an empty state what the snapshot has and the steps after it. Gives the offset at which the stream of
/// assignments goes on.
async fn recover(
    state: &mut State,
    embedded: &EmbeddedOptions,
    assignments: &Arc<StreamDeclaration>,
) -> Result<u64, StartError> {
    let directory = embedded.directory.clone();
    let loaded = tokio::task::spawn_blocking(move || Snapshot::load(&directory)).await;
    let loaded = loaded.map_err(|error| StartError::Steps(error.to_string()))??;
    let here = embedded.journal.id().to_string();
    let mut next = 0;
    if let Some(snapshot) = loaded {
        if snapshot.journal != here {
            return Err(StartError::OtherJournal {
                path: embedded.directory.join("state"),
                found: snapshot.journal,
                here,
            });
        }
        next = snapshot.next;
        snapshot.restore(state);
    }
    let end = embedded.journal.end(&embedded.assignments).await;
    let end = end.map_err(|error| StartError::Steps(error.to_string()))?;
    let end = end.first().map_or(0, |position| position.offset.0);
    if next > end {
        return Err(StartError::Ahead {
            stream: embedded.assignments.clone(),
            stored: next,
            end,
        });
    }
    let journal: Arc<dyn Journal> = Arc::clone(&embedded.journal);
    let from = Place { offset: next, row: 0 };
    let mut history = History::new(journal, embedded.archive.clone(), Arc::clone(assignments), from);
    while history.next_place().offset < end {
        let rows = history
            .next()
            .await
            .map_err(|error| StartError::Steps(error.to_string()))?;
        for row in rows {
            let stored = StoredStep::parse(&row.json).and_then(|step| state.replay(step));
            stored.map_err(|message| {
                StartError::Steps(format!(
                    "row {} of record {}: {message}",
                    row.place.row,
                    Offset(row.place.offset)
                ))
            })?;
        }
    }
    Ok(end)
}
