//! The desk: what is asked over HTTP, and the tasks behind it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::assigner::Core;
use super::database::{failed, within};
use super::{ServersOptions, UrlError, answers, queue, rounds, transactions};
use crate::desk::{Desk, Health, now};
use crate::retry::locked;
use crate::{AssignError, AssignOptions, Session, Settled, Settlement};

/// Longest id of an assignment that is looked for; ours have 36 bytes.
const ID_BYTES_MAX: usize = 512;
/// The tasks end within this time.
const SHUTDOWN: Duration = Duration::from_secs(12);
/// Longest time that a look at a server may take.
const LOOK: Duration = Duration::from_secs(2);

/// The desk of one of several processes.
pub struct ServersDesk {
    core: Arc<Core>,
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl ServersDesk {
    /// Begins to assign. Servers that are not there yet are tried again until they are.
    ///
    /// # Errors
    /// [`UrlError`] when a URL does not say how to reach one.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(options: AssignOptions, servers: ServersOptions) -> Result<Self, UrlError> {
        let core = Arc::new(Core::new(options, servers)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(rounds::run(Arc::clone(&core)));
        tasks.spawn(queue::run(Arc::clone(&core)));
        tasks.spawn(answers::run(Arc::clone(&core)));
        Ok(Self {
            core,
            tasks: Mutex::new(Some(tasks)),
        })
    }

    async fn settle_one(&self, assignment: &str, how: Settlement) -> Result<Settled, AssignError> {
        if assignment.len() > ID_BYTES_MAX || assignment.contains('\0') {
            return Err(AssignError::Unknown);
        }
        let core = &self.core;
        let mut lent = core.prepared_database().await?;
        let id_field = &core.options.id;
        let settling = transactions::settle(lent.client(), assignment, how, id_field, now());
        let settled = within("end an assignment", settling).await?;
        match &settled {
            Ok(_) | Err(AssignError::Unknown | AssignError::Ended(_)) => lent.keep(),
            Err(_) => {}
        }
        let (settled, load) = settled?;
        if let Some(load) = load {
            let status = how.status().as_str();
            metrics::counter!("tidemill_assign_ended_total", "status" => status).increment(1);
            core.counted(&load, None).await;
            core.answers.notify_one();
            core.room.notify_waiters();
        }
        Ok(settled)
    }

    async fn look(&self) -> Health {
        let core = &self.core;
        let told = |looked: Result<Result<(), AssignError>, _>| match looked {
            Ok(looked) => looked.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
        };
        let redis = told(timeout(LOOK, core.seats.ping()).await);
        let postgres = async {
            let mut lent = core.prepared_database().await?;
            let asked = lent.client().batch_execute("SELECT 1").await;
            asked.map_err(|error| failed("ask postgres", &error))?;
            lent.keep();
            Ok(())
        };
        let postgres = told(timeout(LOOK, postgres).await);
        Health {
            parts: vec![
                ("redis", redis),
                ("postgres", postgres),
                ("events", core.taking.read()),
                ("answers", core.answering.read()),
                ("rounds", core.rounds.read()),
            ],
        }
    }
}

impl Desk for ServersDesk {
    fn begin<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Session, AssignError>> {
        async move {
            let (session, counted) = self.core.seats.begin(user).await?;
            if !counted {
                self.core.round.notify_one();
            }
            if session.begun {
                self.core.room.notify_waiters();
                // What others left may go to this one.
                self.core.round.notify_one();
            }
            Ok(session)
        }
        .boxed()
    }

    fn end<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<bool, AssignError>> {
        async move {
            let there = self.core.seats.end(user).await?;
            self.core.round.notify_one();
            Ok(there)
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        assignment: &'a str,
        how: Settlement,
    ) -> BoxFuture<'a, Result<Settled, AssignError>> {
        self.settle_one(assignment, how).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.look().boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.core.stopping.send_replace(true);
        let tasks = locked(&self.tasks).take();
        async move {
            let Some(mut tasks) = tasks else { return };
            let ended = timeout(SHUTDOWN, async { while tasks.join_next().await.is_some() {} }).await;
            if ended.is_err() {
                tracing::warn!("assigning did not end in time; what was under way is in the queue");
            }
        }
        .boxed()
    }
}
