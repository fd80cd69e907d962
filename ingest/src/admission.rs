//! Admission: one byte budget for the bodies of all requests in flight (I-4), checked before a body is read.
//!
//! # How a request of the largest size always passes
//! Beside the budget there is one express lane: a request that the budget refuses may take it and then needs
//! nothing more, however large it grows (its size is capped by the body limit). So with any mix of bodies of
//! unknown length at least one request gets to its end, and the most that is in flight is the budget plus one
//! largest body. Waiting instead of refusing would hold sockets and let growing requests block each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The budget. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    budget: usize,
    used: AtomicUsize,
    lane_taken: AtomicBool,
}

/// What one request holds of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    state: Arc<State>,
    held: usize,
    in_lane: bool,
}

impl Admission {
    /// A budget of `budget` bytes.
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            state: Arc::new(State {
                budget,
                used: AtomicUsize::new(0),
                lane_taken: AtomicBool::new(false),
            }),
        }
    }

    /// Reserves `bytes`, or `None` when neither the budget nor the lane has room.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation {
            state: Arc::clone(&self.state),
            held: 0,
            in_lane: false,
        };
        reservation.grow_to(bytes).then_some(reservation)
    }

    /// Bytes reserved now, without the lane.
    pub(crate) fn used(&self) -> usize {
        self.state.used.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Makes the reservation at least `bytes` large; false when there is no room, and nothing changes then.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        if self.in_lane || bytes <= self.held {
            return true;
        }
        let more = bytes - self.held;
        let taken = self
            .state
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|used| *used <= self.state.budget)
            });
        if taken.is_ok() {
            self.held = bytes;
            metrics::gauge!("tidemill_ingest_in_flight_bytes").increment(more as f64);
            return true;
        }
        self.in_lane = !self.state.lane_taken.swap(true, Ordering::AcqRel);
        self.in_lane
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.state.used.fetch_sub(self.held, Ordering::Relaxed);
        metrics::gauge!("tidemill_ingest_in_flight_bytes").decrement(self.held as f64);
        if self.in_lane {
            self.state.lane_taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_beyond_the_budget_passes_and_the_next_is_refused() {
        let admission = Admission::new(100);
        let mut small = admission.reserve(60).expect("within the budget");
        let mut large = admission.reserve(90).expect("the lane is free");
        assert!(large.grow_to(1_000), "whoever has the lane needs nothing more");
        assert!(small.grow_to(100), "the lane takes nothing of the budget");
        assert!(admission.reserve(1).is_none());
        drop(large);
        let lane = admission.reserve(1).expect("the lane is free again");
        drop((small, lane));
        assert_eq!(admission.used(), 0);
        assert!(admission.reserve(100).is_some());
    }

    #[test]
    fn a_refused_growth_changes_nothing() {
        let admission = Admission::new(10);
        let _lane = (admission.reserve(10), admission.reserve(1));
        let mut other = admission.reserve(0).expect("nothing was asked for");
        assert!(!other.grow_to(1));
        assert_eq!(admission.used(), 10);
    }
}
