//! What is done now and then: sessions end, what their people had goes to others, counts are made right.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Error;
use uuid::Uuid;

use super::RECOUNT_EVERY;
use super::assigner::Core;
use super::database::{failed, within};
use super::schema;
use super::transactions::{self, Moved, New};
use crate::AssignError;
use crate::desk::now;
use crate::retry::Retry;

/// People whose counts are read at once.
const PEOPLE_MAX: i64 = 500;
/// Assignments of one person that are moved before it is looked again whether the person came back.
const MOVES_MAX: i64 = 50;
/// Recounts of Redis for one in which PostgreSQL counts its own rows.
const REPAIR_EVERY: u32 = 6;

/// Goes round until told to stop.
pub(super) async fn run(core: Arc<Core>) {
    let every = (core.options.session / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut stopping = core.stopping.subscribe();
    let mut retry = Retry::default();
    let mut rounds = Rounds {
        database: None,
        counted: None,
        count: 0,
    };
    while !core.is_stopping() {
        let gone = rounds.go(&core).await;
        core.rounds
            .set("looking after sessions and counts", gone.as_ref().map(|_| ()));
        let wait = match &gone {
            Ok(()) => {
                retry.reset();
                every
            }
            Err(_) => {
                // What was lost meanwhile is not known.
                rounds.counted = None;
                retry.next_wait()
            }
        };
        tokio::select! {
            _ = timeout(wait, core.round.notified()) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

struct Rounds {
    /// The database's id, once its tables are there.
    database: Option<String>,
    counted: Option<Instant>,
    count: u32,
}

impl Rounds {
    async fn go(&mut self, core: &Core) -> Result<(), AssignError> {
        let database = match &self.database {
            Some(database) => database.clone(),
            None => {
                let mut lent = core.database.lend().await?;
                let found = schema::prepare(lent.client()).await?;
                lent.keep();
                self.database.insert(found).clone()
            }
        };
        let expired = core.seats.expire().await?;
        metrics::gauge!("tidemill_assign_active_users").set(expired.active as f64);
        let due = self
            .counted
            .is_none_or(|counted| counted.elapsed() >= RECOUNT_EVERY);
        if due || !expired.counted {
            self.recount(core, &database).await?;
            // Counts are known, so events may come.
            core.prepared
                .send_if_modified(|prepared| !std::mem::replace(prepared, true));
            core.room.notify_waiters();
        }
        if expired.ended > 0 {
            tracing::debug!(sessions = expired.ended, "sessions have ended");
        }
        reassign(core).await
    }

    /// Brings Redis to what the database counts, and the database to its own rows.
    async fn recount(&mut self, core: &Core, database: &str) -> Result<(), AssignError> {
        const OPERATION: &str = "count assignments";
        let told = |error: Error| failed(OPERATION, &error);
        let mut lent = core.database.lend().await?;
        if self.count.is_multiple_of(REPAIR_EVERY) {
            let repaired = within(OPERATION, transactions::repair(lent.client()))
                .await?
                .map_err(told)?;
            if repaired > 0 {
                tracing::warn!(
                    people = repaired,
                    "counts of open assignments were not right, and are now"
                );
            }
        }
        // Those whom only Redis knows of: their counts are those of the database too.
        let mut rest = core.seats.counted_users().await?;
        let mut after = String::new();
        let mut open: i64 = 0;
        // At least one, so that Redis knows which database it counts.
        loop {
            let asked = transactions::loads_after(lent.client(), &after, PEOPLE_MAX);
            let loads = within(OPERATION, asked).await?.map_err(told)?;
            for load in &loads {
                rest.remove(&load.user);
                open += i64::from(load.open);
            }
            core.seats.recount(database, &loads).await?;
            match loads.last() {
                Some(last) if loads.len() as i64 == PEOPLE_MAX => after = last.user.clone(),
                _ => break,
            }
        }
        let rest: Vec<_> = rest.into_iter().collect();
        for users in rest.chunks(PEOPLE_MAX as usize) {
            let loads = within(OPERATION, transactions::loads_of(lent.client(), users))
                .await?
                .map_err(told)?;
            core.seats.recount(database, &loads).await?;
        }
        lent.keep();
        metrics::gauge!("tidemill_assign_open").set(open as f64);
        self.counted = Some(Instant::now());
        self.count = self.count.wrapping_add(1);
        Ok(())
    }
}

/// Gives what people have who went to others, as far as they have room.
async fn reassign(core: &Core) -> Result<(), AssignError> {
    const OPERATION: &str = "look for assignments of people who went";
    let mut after = String::new();
    loop {
        let mut lent = core.database.lend().await?;
        let asked = transactions::loads_after(lent.client(), &after, PEOPLE_MAX);
        let loads = within(OPERATION, asked)
            .await?
            .map_err(|error| failed(OPERATION, &error))?;
        lent.keep();
        let users: Vec<_> = loads.into_iter().map(|load| load.user).collect();
        for user in core.seats.absent(&users).await? {
            if !move_from(core, &user).await? {
                return Ok(());
            }
        }
        match users.last() {
            Some(last) if users.len() as i64 == PEOPLE_MAX => after = last.clone(),
            _ => return Ok(()),
        }
    }
}

/// Moves what somebody has; `false` when nobody has room.
async fn move_from(core: &Core, user: &str) -> Result<bool, AssignError> {
    const OPERATION: &str = "move assignments of somebody who went";
    let mut lent = core.database.lend().await?;
    let asked = transactions::open_of(lent.client(), user, MOVES_MAX);
    let open = within(OPERATION, asked)
        .await?
        .map_err(|error| failed(OPERATION, &error))?;
    for old in open {
        loop {
            let Some(seat) = core.seats.reserve().await? else {
                lent.keep();
                return Ok(false);
            };
            let id = Uuid::new_v4().to_string();
            let new = New {
                id: &id,
                user: &seat.user,
                limit: core.limit(),
                id_field: &core.options.id,
                at: now(),
            };
            // Whoever came back in this moment got the place; so it stays where it is.
            let moved = if seat.user == user {
                Ok(Ok(Moved::Ended))
            } else {
                within(OPERATION, transactions::move_on(lent.client(), &old, user, &new)).await
            };
            let moved = moved.and_then(|moved| moved);
            match moved {
                Ok(Moved::Done { from, to }) => {
                    metrics::counter!("tidemill_assign_ended_total", "status" => "reassigned").increment(1);
                    core.counted(&from, None).await;
                    core.counted(&to, Some(&seat)).await;
                    core.answers.notify_one();
                }
                Ok(Moved::Ended) => core.give_back(&seat).await,
                Ok(Moved::Full(load)) => {
                    core.counted(&load, Some(&seat)).await;
                    continue;
                }
                Err(error) => {
                    core.give_back(&seat).await;
                    return Err(error);
                }
            }
            break;
        }
    }
    lent.keep();
    Ok(true)
}
