//! Who is there and who has what, in memory: every choice is made here, in one place and one after the other.
//!
//! Nothing here waits or fails; what a method decides it has done already, and the steps that it gives must become
//! durable before anybody hears of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::Place;
use super::steps::{Step, StoredStep};
use crate::options::ACTIVE_MAX;
use crate::subject::Subject;
use crate::{AssignError, AssignOptions, Session, Settled, Settlement, Status};

/// An event that somebody has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) id: Arc<str>,
    pub(super) event_id: Arc<str>,
    pub(super) user: Arc<str>,
    /// What is kept of the event, as JSON.
    pub(super) event: Option<Arc<str>>,
}

/// An assignment that has ended.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) id: Arc<str>,
    pub(super) event_id: Arc<str>,
    pub(super) status: Status,
}

/// A person.
#[derive(Debug, Default)]
struct User {
    /// When the session ends, microseconds since 1970 UTC.
    until: Option<i64>,
    /// Since when, without a session, others may get what is open.
    released: i64,
    /// When the last event came, in events.
    turn: u64,
    /// What is open, in the order in which it came.
    open: BTreeMap<u64, Arc<str>>,
}

/// An open assignment and its number.
#[derive(Debug)]
struct Open {
    assignment: Arc<Assignment>,
    number: u64,
}

/// The state.
#[derive(Debug)]
pub(super) struct State {
    options: AssignOptions,
    session_us: i64,
    remember: usize,
    users: HashMap<Arc<str>, User>,
    /// Who is there: how many are open, the turn, who. The first gets the next event.
    order: BTreeSet<(usize, u64, Arc<str>)>,
    /// When sessions end.
    sessions: BTreeSet<(i64, Arc<str>)>,
    /// Who went and has something open, since when.
    gone: BTreeSet<(i64, Arc<str>)>,
    open: HashMap<Arc<str>, Open>,
    /// Ids of events that are open or remembered.
    events: HashSet<Arc<str>>,
    past: HashMap<Arc<str>, Status>,
    past_order: VecDeque<Past>,
    /// Counts events that were given to somebody.
    turns: u64,
    /// Where each stream of events is to be read on.
    pub(super) next: BTreeMap<String, Place>,
}

impl State {
    /// Nobody has anything.
    pub(super) fn new(options: AssignOptions, remember: usize) -> Self {
        let session_us = i64::try_from(options.session.as_micros()).unwrap_or(i64::MAX);
        Self {
            options,
            session_us,
            remember,
            users: HashMap::new(),
            order: BTreeSet::new(),
            sessions: BTreeSet::new(),
            gone: BTreeSet::new(),
            open: HashMap::new(),
            events: HashSet::new(),
            past: HashMap::new(),
            past_order: VecDeque::new(),
            turns: 0,
            next: BTreeMap::new(),
        }
    }

    /// How many assignments are open.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// How many people are there.
    pub(super) fn active_count(&self) -> usize {
        self.sessions.len()
    }

    /// Begins or renews a session.
    pub(super) fn begin(&mut self, user: &str, now: i64) -> Result<Session, AssignError> {
        let begun = self.users.get(user).is_none_or(|user| user.until.is_none());
        if begun && self.sessions.len() >= ACTIVE_MAX {
            return Err(AssignError::Crowded {
                active: self.sessions.len(),
                limit: ACTIVE_MAX,
            });
        }
        let until = now.saturating_add(self.session_us);
        self.change(&Arc::from(user), |user| user.until = Some(until));
        Ok(Session { begun, until })
    }

    /// Ends a session; says whether there was one.
    pub(super) fn end(&mut self, user: &str, now: i64) -> bool {
        let there = self.users.get(user).is_some_and(|user| user.until.is_some());
        if self.users.contains_key(user) {
            self.change(&Arc::from(user), |user| {
                user.until = None;
                user.released = now;
            });
        }
        there
    }

    /// Ends the sessions whose time has passed.
    pub(super) fn expire(&mut self, now: i64) {
        while let Some((until, user)) = self.sessions.first().cloned() {
            if until > now {
                break;
            }
            self.change(&user, |user| {
                user.until = None;
                user.released = until;
            });
        }
    }

    /// Ends an assignment.
    pub(super) fn settle(
        &mut self,
        id: &str,
        how: Settlement,
        steps: &mut Vec<Step>,
    ) -> Result<Settled, AssignError> {
        let status = how.status();
        if let Some(open) = self.open.get(id) {
            let assignment = Arc::clone(&open.assignment);
            self.close(id, status);
            steps.push(Step::Closed { assignment, status });
            return Ok(Settled::Now);
        }
        match self.past.get(id) {
            Some(past) if *past == status => Ok(Settled::Before),
            Some(past) => Err(AssignError::Ended(*past)),
            None => Err(AssignError::Unknown),
        }
    }

    /// Whether somebody could get an event now.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.options.limit as usize;
        self.order.first().is_some_and(|(load, ..)| *load < limit)
    }

    /// Gives an event to somebody. `false` when there is nobody with room; an event that is known already needs nobody.
    pub(super) fn assign(
        &mut self,
        subject: &Subject,
        source: &str,
        place: Place,
        steps: &mut Vec<Step>,
    ) -> bool {
        let known = self.events.contains(&subject.id);
        if !known {
            let event = Some(Arc::clone(&subject.event));
            let Some(assignment) = self.give(&subject.id, event) else {
                return false;
            };
            let from = Some(place);
            steps.push(Step::Opened { assignment, from });
        }
        self.passed(source, place);
        true
    }

    /// An event needs nothing any more.
    pub(super) fn passed(&mut self, source: &str, place: Place) {
        let after = Place {
            row: place.row + 1,
            ..place
        };
        let next = self.next.entry(source.to_owned()).or_default();
        *next = after.max(*next);
    }

    /// Gives what people have who went to others, at most so many. Says whether there may be more.
    pub(super) fn reassign(&mut self, now: i64, most: usize, steps: &mut Vec<Step>) -> bool {
        for _ in 0..most {
            let Some((since, user)) = self.gone.first().cloned() else {
                return false;
            };
            if since > now || !self.has_room() {
                return false;
            }
            let oldest = self
                .users
                .get(&user)
                .and_then(|user| user.open.values().next().cloned());
            let Some(old) = oldest
                .and_then(|id| self.open.get(&id))
                .map(|open| Arc::clone(&open.assignment))
            else {
                return false;
            };
            self.close(&old.id, Status::Reassigned);
            steps.push(Step::Closed {
                assignment: Arc::clone(&old),
                status: Status::Reassigned,
            });
            if let Some(assignment) = self.give(&old.event_id, old.event.clone()) {
                steps.push(Step::Opened {
                    assignment,
                    from: None,
                });
            }
        }
        true
    }

    fn give(&mut self, event_id: &Arc<str>, event: Option<Arc<str>>) -> Option<Arc<Assignment>> {
        if !self.has_room() {
            return None;
        }
        let user = Arc::clone(&self.order.first()?.2);
        let assignment = Arc::new(Assignment {
            id: Uuid::new_v4().to_string().into(),
            event_id: Arc::clone(event_id),
            user,
            event,
        });
        self.insert(Arc::clone(&assignment));
        Some(assignment)
    }

    fn insert(&mut self, assignment: Arc<Assignment>) {
        self.turns += 1;
        let number = self.turns;
        self.events.insert(Arc::clone(&assignment.event_id));
        let id = Arc::clone(&assignment.id);
        self.change(&assignment.user, |user| {
            user.turn = number;
            user.open.insert(number, Arc::clone(&id));
        });
        self.open.insert(id, Open { assignment, number });
    }

    fn close(&mut self, id: &str, status: Status) {
        let Some((id, open)) = self.open.remove_entry(id) else {
            return;
        };
        self.change(&open.assignment.user, |user| {
            user.open.remove(&open.number);
        });
        let event_id = Arc::clone(&open.assignment.event_id);
        if status == Status::Reassigned {
            // Whoever gets the event now says that it is known.
            self.events.remove(&event_id);
        }
        self.remember(Past { id, event_id, status });
    }

    fn remember(&mut self, past: Past) {
        if past.status != Status::Reassigned {
            self.events.insert(Arc::clone(&past.event_id));
        }
        self.past.insert(Arc::clone(&past.id), past.status);
        self.past_order.push_back(past);
        while self.past_order.len() > self.remember {
            if let Some(oldest) = self.past_order.pop_front() {
                self.past.remove(&oldest.id);
                if oldest.status != Status::Reassigned {
                    self.events.remove(&oldest.event_id);
                }
            }
        }
    }

    /// Changes what is known of a person, and where they stand.
    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut User)) {
        let (name, mut user) = self
            .users
            .remove_entry(name)
            .unwrap_or_else(|| (Arc::clone(name), User::default()));
        if let Some(until) = user.until {
            self.sessions.remove(&(until, Arc::clone(&name)));
            self.order
                .remove(&(user.open.len(), user.turn, Arc::clone(&name)));
        } else {
            self.gone.remove(&(user.released, Arc::clone(&name)));
        }
        change(&mut user);
        if let Some(until) = user.until {
            self.sessions.insert((until, Arc::clone(&name)));
            self.order.insert((user.open.len(), user.turn, Arc::clone(&name)));
        } else if user.open.is_empty() {
            return;
        } else {
            self.gone.insert((user.released, Arc::clone(&name)));
        }
        self.users.insert(name, user);
    }
}

/// What a state is made of again.
impl State {
    /// Does what a step that was read says. Says what is wrong with a step that cannot be.
    pub(super) fn replay(&mut self, step: StoredStep) -> Result<(), String> {
        let status = Status::parse(&step.status).ok_or_else(|| format!("status `{}`", step.status))?;
        if status != Status::Open {
            self.close(&step.assignment_id, status);
            return Ok(());
        }
        if let (Some(source), Some(offset), Some(row)) = (&step.source, step.source_offset, step.source_row) {
            self.passed(source, Place { offset, row });
        }
        let event = step.event.map(|event| Arc::from(event.get()));
        self.restore(Assignment {
            id: step.assignment_id.into(),
            event_id: step.event_id.into(),
            user: step.user_id.into(),
            event,
        });
        Ok(())
    }

    /// Takes an assignment that is open, unless it is known.
    pub(super) fn restore(&mut self, assignment: Assignment) {
        if !self.open.contains_key(&assignment.id) {
            self.insert(Arc::new(assignment));
        }
    }

    /// Takes one that has ended.
    pub(super) fn restore_past(&mut self, past: Past) {
        self.remember(past);
    }

    /// Begins the time that people have to come back after a start.
    pub(super) fn await_people(&mut self, now: i64) {
        let released = now.saturating_add(self.session_us);
        let absent: Vec<_> = self.gone.iter().map(|(_, user)| Arc::clone(user)).collect();
        for user in absent {
            self.change(&user, |user| user.released = released);
        }
    }

    /// What is open, in the order in which it came.
    pub(super) fn open_in_order(&self) -> Vec<Arc<Assignment>> {
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_unstable_by_key(|open| open.number);
        open.into_iter()
            .map(|open| Arc::clone(&open.assignment))
            .collect()
    }

    /// What has ended, the oldest first.
    pub(super) fn past_in_order(&self) -> Vec<Past> {
        self.past_order.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
