//! What everybody in one process shares, and how one event gets to somebody.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::broker::State;
use super::database::{Database, Lent, Load, failed, within};
use super::seats::{Seat, Seats};
use super::transactions::{self, Failure, Inserted, New};
use super::{ServersOptions, UrlError};
use crate::desk::now;
use crate::retry::Retry;
use crate::subject::Subject;
use crate::{AssignError, AssignOptions};

/// How often somebody who waits for room looks again: other processes free places too.
const ROOM_EVERY: Duration = Duration::from_millis(500);

/// What everybody in one process shares.
pub(super) struct Core {
    pub(super) options: AssignOptions,
    pub(super) servers: ServersOptions,
    pub(super) seats: Seats,
    pub(super) database: Database,
    /// Somebody may have room now.
    pub(super) room: Notify,
    /// There is something to answer.
    pub(super) answers: Notify,
    /// Somebody went, or counts are lost.
    pub(super) round: Notify,
    /// Whether the tables are there.
    pub(super) prepared: watch::Sender<bool>,
    /// Whether nothing new is to be taken.
    pub(super) stopping: watch::Sender<bool>,
    pub(super) taking: State,
    pub(super) answering: State,
    pub(super) rounds: State,
}

/// Whether a message is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// It is, and need not come again.
    Done,
    /// It is not: whoever gave it is gone, or we go.
    Abandoned,
}

impl Core {
    pub(super) fn new(options: AssignOptions, servers: ServersOptions) -> Result<Self, UrlError> {
        super::broker::check(&servers.amqp_url)?;
        // Beside those who assign: requests, rounds, answers.
        let connections = usize::from(servers.workers) + 6;
        Ok(Self {
            seats: Seats::new(&options, &servers)?,
            database: Database::new(&servers.postgres_url, connections)?,
            options,
            servers,
            room: Notify::new(),
            answers: Notify::new(),
            round: Notify::new(),
            prepared: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            taking: State::new("not connected yet"),
            answering: State::new("not connected yet"),
            rounds: State::new("the tables of assignments have not been looked at yet"),
        })
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub(super) fn limit(&self) -> i32 {
        i32::try_from(self.options.limit).unwrap_or(i32::MAX)
    }

    /// Brings one message to somebody, however long that takes. `usable` says whether whoever gave it still waits.
    pub(super) async fn handle(&self, message: &[u8], usable: impl Fn() -> bool) -> Handled {
        let subject = Subject::of(message, &self.options.id, &self.options.copy);
        let mut retry = Retry::default();
        // Whose count may be other than Redis thinks.
        let mut unsure = None;
        while usable() && !self.is_stopping() {
            let step = match &subject {
                Ok(subject) => self.try_assign(subject, &mut unsure).await,
                Err(reason) => self.refuse(message, reason).await.map(Some),
            };
            match step {
                Ok(Some(())) => {
                    if let Some(user) = unsure {
                        self.look_again(user).await;
                    }
                    return Handled::Done;
                }
                Ok(None) => retry.reset(),
                Err(error) => {
                    tracing::debug!(%error, "an event cannot be assigned now");
                    retry.wait().await;
                }
            }
        }
        Handled::Abandoned
    }

    /// One try; nothing when it has to be made again at once.
    async fn try_assign(
        &self,
        subject: &Subject,
        unsure: &mut Option<String>,
    ) -> Result<Option<()>, AssignError> {
        // Before anybody looks: who comes in between is not missed.
        let room = self.room.notified();
        let Some(seat) = self.seats.reserve().await? else {
            metrics::gauge!("tidemill_assign_waiting").increment(1.0);
            let _ = timeout(ROOM_EVERY, room).await;
            metrics::gauge!("tidemill_assign_waiting").decrement(1.0);
            return Ok(None);
        };
        match self.insert(subject, &seat).await {
            Ok(Inserted::Assigned(load)) => {
                metrics::counter!("tidemill_assign_assigned_total").increment(1);
                self.answers.notify_one();
                self.counted(&load, Some(&seat)).await;
                Ok(Some(()))
            }
            Ok(Inserted::Known) => {
                metrics::counter!("tidemill_assign_known_total").increment(1);
                self.give_back(&seat).await;
                Ok(Some(()))
            }
            Ok(Inserted::Full(load)) => {
                metrics::counter!("tidemill_assign_full_total").increment(1);
                self.counted(&load, Some(&seat)).await;
                Ok(None)
            }
            Err(Failure::Refused(reason)) => {
                self.give_back(&seat).await;
                self.refuse(subject.event.as_bytes(), &reason).await.map(Some)
            }
            Err(Failure::Failed(error)) => {
                // It may have been committed; the next try finds out.
                self.give_back(&seat).await;
                *unsure = Some(seat.user);
                Err(error)
            }
        }
    }

    async fn insert(&self, subject: &Subject, seat: &Seat) -> Result<Inserted, Failure> {
        let id = Uuid::new_v4().to_string();
        let new = New {
            id: &id,
            user: &seat.user,
            limit: self.limit(),
            id_field: &self.options.id,
            at: now(),
        };
        let mut lent = self.database.lend().await.map_err(Failure::Failed)?;
        let inserting = transactions::insert(lent.client(), subject, &new);
        let inserted = within("insert an assignment", inserting)
            .await
            .map_err(Failure::Failed)??;
        lent.keep();
        Ok(inserted)
    }

    /// Keeps a message that is no event.
    async fn refuse(&self, message: &[u8], reason: &str) -> Result<(), AssignError> {
        const OPERATION: &str = "keep a message that is no event";
        let mut lent = self.database.lend().await?;
        let refused = within(OPERATION, transactions::refuse(lent.client(), message, reason)).await?;
        refused.map_err(|error| failed(OPERATION, &error))?;
        lent.keep();
        metrics::counter!("tidemill_assign_refused_total").increment(1);
        tracing::warn!(%reason, "a message cannot be assigned and is kept in `assignment_refused`");
        Ok(())
    }

    /// Tells Redis what the database counts. When it cannot be told, the next recount does.
    pub(super) async fn counted(&self, load: &Load, seat: Option<&Seat>) {
        if let Err(error) = self.seats.committed(load, seat).await {
            tracing::debug!(%error, "a count waits for the next recount");
        }
    }

    /// Gives a place back. When that cannot be said, it comes back by itself.
    pub(super) async fn give_back(&self, seat: &Seat) {
        if let Err(error) = self.seats.release(seat).await {
            tracing::debug!(%error, "a place comes back by itself");
        }
    }

    async fn look_again(&self, user: String) {
        let users = [user];
        let found = async {
            let mut lent = self.database.lend().await?;
            let asked = transactions::loads_of(lent.client(), &users);
            let loads = within("count", asked)
                .await?
                .map_err(|error| failed("count", &error))?;
            lent.keep();
            Ok::<_, AssignError>(loads)
        };
        // A failure is of no consequence: a recount comes.
        for load in found.await.unwrap_or_default() {
            self.counted(&load, None).await;
        }
    }

    /// A connection to the database, when the tables are there.
    pub(super) async fn prepared_database(&self) -> Result<Lent<'_>, AssignError> {
        if !*self.prepared.borrow() {
            let reason = self.rounds.read().err().unwrap_or_default();
            return Err(super::database::unavailable(
                "use the tables of assignments",
                reason,
            ));
        }
        self.database.lend().await
    }
}
