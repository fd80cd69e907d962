//! Where a reader of one stream stands in one journal.
//!
//! A record (one appended [`Batch`](crate::Batch)) has one offset; its rows are numbered from 0 inside it. So an
//! event is identified for ever by (partition, offset, row), which the lake keeps as `_partition`, `_offset`
//! and `_row`. Offsets are dense per stream and partition, as in Kafka topics.

use std::fmt;

/// The number of a partition of one stream; the embedded journal has only partition 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// The offset of a record in one partition of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after this one.
    ///
    /// # Panics
    /// Never in practice: 2^64 records do not fit on any disk.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// (partition, next offset): everything below `offset` is covered, so ranges are half-open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The first offset that is **not** covered.
    pub offset: Offset,
}

impl Position {
    /// A position from its two parts.
    #[must_use]
    pub fn new(partition: Partition, offset: Offset) -> Self {
        Self { partition, offset }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Written as `partition:offset`, which is also what `min_position=` takes.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}
