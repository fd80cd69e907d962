//! Membership in a group: the processes that bring the same streams to the same destination share the partitions
//! among themselves.
//!
//! A membership says who should work where, so that nobody works in vain. Promise I-2 does not hang on it: a
//! destination takes nothing but what follows the position that it stores itself, so two processes that both
//! believe that a partition is theirs cannot write anything twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::{Partition, Position, StreamName};
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::watch;

/// The partitions that a member of a group has now.
pub type Assignment = Arc<BTreeSet<(StreamName, Partition)>>;

/// One process in a group. Dropping it without [`GroupMember::leave`] is what a crash does: the others take over
/// once the group has not heard of it for its session timeout.
pub trait GroupMember: Send + Sync {
    /// The partitions that this member has, now and whenever that changes. Empty at first, until the group has
    /// agreed, and again whenever this process is not part of the group.
    fn assigned(&self) -> watch::Receiver<Assignment>;

    /// Says how far the destination is, for those who look at the group's lag; the stream may be one that the group
    /// does not share, as a rollup's source. Returns at once; the newest
    /// position of each partition is published within seconds, or not at all.
    fn committed(&self, stream: &StreamName, position: Position);

    /// Leaves the group, so that the others take over at once.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The only member of its group: every partition is its own, always. Embedded journals know no other.
#[derive(Debug)]
pub struct SoleMember {
    assigned: watch::Sender<Assignment>,
}

impl SoleMember {
    /// A member that has every partition of some streams, given with how many each has.
    #[must_use]
    pub fn new(streams: impl IntoIterator<Item = (StreamName, u32)>) -> Self {
        let mut every = BTreeSet::new();
        for (stream, partitions) in streams {
            every.extend((0..partitions).map(|partition| (stream.clone(), Partition(partition))));
        }
        Self {
            assigned: watch::Sender::new(Arc::new(every)),
        }
    }
}

impl GroupMember for SoleMember {
    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.assigned.subscribe()
    }

    fn committed(&self, _stream: &StreamName, _position: Position) {}

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_member_has_every_partition_at_once() {
        let (a, b) = (StreamName::parse("a"), StreamName::parse("b"));
        let (a, b) = (a.expect("allowed"), b.expect("allowed"));
        let member = SoleMember::new([(a.clone(), 2), (b.clone(), 1)]);
        let assigned = member.assigned().borrow().clone();
        let expected = [(a.clone(), Partition(0)), (a, Partition(1)), (b, Partition(0))];
        assert_eq!(*assigned, BTreeSet::from(expected));
    }
}
