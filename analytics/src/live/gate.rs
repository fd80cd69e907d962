//! How far events may be shown: what joins those who watch with what a destination has committed.

use std::fmt;

use event::{Offset, Partition, StreamName};
use tokio::sync::watch;

/// Says what a destination has committed, as far as this process knows. It may know less than there is, never more.
pub trait Gate: Send + Sync + fmt::Debug + 'static {
    /// Everything below is committed; `None` as long as nothing is known.
    fn passed(&self, stream: &StreamName, partition: Partition) -> Option<Offset>;

    /// Changes whenever [`Gate::passed`] may have.
    fn changes(&self) -> watch::Receiver<u64>;
}
