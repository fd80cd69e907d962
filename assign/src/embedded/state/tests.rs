//! The state against a model, under many seeded histories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

const LIMIT: u32 = 5;
const SESSION_US: i64 = 1_000;

fn state() -> State {
    let options = AssignOptions {
        limit: LIMIT,
        session: Duration::from_micros(SESSION_US.unsigned_abs()),
        ..AssignOptions::default()
    };
    State::new(options, 1_000_000)
}

fn subject(number: u64) -> Subject {
    Subject {
        id: format!("e{number}").into(),
        event: "{}".into(),
    }
}

fn place(number: u64) -> Place {
    Place {
        offset: number,
        row: 0,
    }
}

/// A generator of numbers, the same for a seed (xorshift).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn the_next_event_goes_to_whoever_has_the_fewest_and_waits_longest() {
    let mut state = state();
    let mut steps = Vec::new();
    assert!(
        !state.assign(&subject(0), "s", place(0), &mut steps),
        "nobody is there"
    );
    for user in ["a", "b", "c"] {
        state.begin(user, 0).expect("room");
    }
    let mut got = Vec::new();
    for number in 0..6 {
        steps.clear();
        assert!(state.assign(&subject(number), "s", place(number), &mut steps));
        let [Step::Opened { assignment, .. }] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        got.push(Arc::clone(assignment));
    }
    let users: Vec<_> = got.iter().map(|assignment| &*assignment.user).collect();
    assert_eq!(users, ["a", "b", "c", "a", "b", "c"]);
    state
        .settle(&got[2].id, Settlement::Completed, &mut steps)
        .expect("open");
    state
        .settle(&got[1].id, Settlement::Rejected, &mut steps)
        .expect("open");
    for (number, user) in [(6, "b"), (7, "c"), (8, "a")] {
        steps.clear();
        state.assign(&subject(number), "s", place(number), &mut steps);
        let [Step::Opened { assignment, .. }] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert_eq!(&*assignment.user, user);
    }
    assert_eq!(
        state.settle(&got[2].id, Settlement::Completed, &mut steps),
        Ok(Settled::Before)
    );
    let other = state.settle(&got[2].id, Settlement::Rejected, &mut steps);
    assert_eq!(other, Err(AssignError::Ended(Status::Completed)));
    assert_eq!(
        state.settle("x", Settlement::Rejected, &mut steps),
        Err(AssignError::Unknown)
    );
}

#[test]
fn after_a_start_people_have_the_time_of_a_session_to_come_back() {
    let mut state = state();
    let assignment = |number: u64, user: &str| Assignment {
        id: format!("a{number}").into(),
        event_id: format!("e{number}").into(),
        user: user.into(),
        event: None,
    };
    state.restore(assignment(1, "stays"));
    state.restore(assignment(2, "goes"));
    state.await_people(100);
    let mut steps = Vec::new();
    state.begin("stays", 100 + SESSION_US - 1).expect("room");
    state.reassign(100 + SESSION_US - 1, 10, &mut steps);
    assert_eq!(steps, []);
    state.reassign(100 + SESSION_US, 10, &mut steps);
    let [
        Step::Closed {
            status: Status::Reassigned,
            ..
        },
        Step::Opened {
            assignment,
            from: None,
        },
    ] = steps.as_slice()
    else {
        panic!("{steps:?}")
    };
    assert_eq!((&*assignment.user, &*assignment.event_id), ("stays", "e2"));
}

#[test]
fn nobody_has_more_than_the_limit_and_no_event_is_with_two_or_with_nobody() {
    for seed in 1..=200 {
        history(seed);
    }
}

/// One history: people come, go and settle, events come, some of them twice; the model is what the steps say.
fn history(seed: u64) {
    let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut state = state();
    let (mut now, mut offset) = (0, 0);
    let mut open: BTreeMap<String, Arc<Assignment>> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for _ in 0..400 {
        now += draws.below(100).cast_signed();
        let user = format!("u{}", draws.below(4));
        let mut steps = Vec::new();
        match draws.below(6) {
            0 => drop(state.begin(&user, now)),
            1 => drop(state.end(&user, now)),
            2 => {
                let pick = draws.below(open.len().max(1) as u64) as usize;
                if let Some(id) = open.keys().nth(pick).cloned() {
                    let settled = state.settle(&id, Settlement::Completed, &mut steps);
                    assert_eq!(settled, Ok(Settled::Now), "seed {seed}");
                }
            }
            _ => {
                // One in four comes once more.
                let number = offset - draws.below(4).min(offset) / 3;
                if state.assign(&subject(number), "s", place(offset), &mut steps) {
                    assert!(
                        steps.len() == usize::from(taken.insert(format!("e{number}"))),
                        "seed {seed}"
                    );
                    offset += 1;
                }
            }
        }
        state.expire(now);
        while state.reassign(now, 3, &mut steps) {}
        for step in steps {
            match step {
                Step::Closed { assignment, .. } => {
                    assert!(open.remove(&*assignment.id).is_some(), "seed {seed}: ended twice");
                }
                Step::Opened { assignment, .. } => {
                    open.insert(assignment.id.to_string(), assignment);
                }
            }
        }
        let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
        let mut events = BTreeSet::new();
        for assignment in open.values() {
            *loads.entry(&*assignment.user).or_default() += 1;
            assert!(events.insert(&*assignment.event_id), "seed {seed}: with two");
        }
        assert!(
            loads.values().all(|load| *load <= LIMIT as usize),
            "seed {seed}: {loads:?}"
        );
        assert_eq!(state.open_count(), open.len(), "seed {seed}");
    }
}
