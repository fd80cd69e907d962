//! A stream's topic as it was when the journal was opened, and what has been learned of it since.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use event::{Offset, Partition, Position, RecordFormat, StreamDeclaration, StreamName};

use super::describe::{Found, TopicId};
use super::lock;
use super::watermarks::Starts;
use crate::{ReadError, Replaced};

/// A stream's topic, as it was when the journal was opened.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) stream: StreamName,
    pub(super) name: String,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    pub(super) format: RecordFormat,
    /// What its events look like; the key of messages that are JSON.
    pub(super) declaration: Arc<StreamDeclaration>,
    /// For each partition the highest end that is known of it.
    ends: Vec<AtomicU64>,
    /// For each partition the end after the newest delivery report.
    reports: Vec<AtomicU64>,
    /// Where its partitions begin, as it was read last.
    pub(super) starts: Starts,
    state: Mutex<TopicState>,
    /// Whether the newest look did not find it.
    pub(super) missed: AtomicBool,
}

/// Whether a topic is the one that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicState {
    Same,
    /// Gone, or of another id.
    Replaced(Option<String>),
}

impl Topic {
    pub(super) fn new(declaration: &Arc<StreamDeclaration>, name: String, found: &Found) -> Self {
        Self {
            stream: declaration.name.clone(),
            name,
            id: found.id,
            partitions: found.partitions,
            format: declaration.format,
            declaration: Arc::clone(declaration),
            ends: (0..found.partitions).map(|_| AtomicU64::new(0)).collect(),
            reports: (0..found.partitions).map(|_| AtomicU64::new(0)).collect(),
            starts: Starts::default(),
            state: Mutex::new(TopicState::Same),
            missed: AtomicBool::new(false),
        }
    }

    /// Says that it is not the topic that was opened, if so.
    pub(super) fn check(&self) -> Result<(), Replaced> {
        match &*lock(&self.state) {
            TopicState::Same => Ok(()),
            TopicState::Replaced(found) => Err(self.replaced(found.clone())),
        }
    }

    fn replaced(&self, found: Option<String>) -> Replaced {
        Replaced {
            stream: self.stream.clone(),
            topic: self.name.clone(),
            opened: self.id.to_string(),
            found,
        }
    }

    pub(super) fn set_state(&self, state: TopicState) -> TopicState {
        std::mem::replace(&mut *lock(&self.state), state)
    }

    pub(super) fn check_partition(&self, asked: Position) -> Result<(), ReadError> {
        if asked.partition.0 < self.partitions {
            return Ok(());
        }
        Err(ReadError::NoPartition {
            asked,
            partitions: self.partitions,
        })
    }

    /// The highest end that is known of a partition: everything below was there once.
    pub(super) fn known_end(&self, partition: Partition) -> Offset {
        let end = self.ends.get(partition.0 as usize);
        Offset(end.map_or(0, |end| end.load(Ordering::Acquire)))
    }

    /// Takes in an end; gives what was known before.
    pub(super) fn learn_end(&self, partition: Partition, end: Offset) -> Offset {
        let known = self.ends.get(partition.0 as usize);
        Offset(known.map_or(0, |known| known.fetch_max(end.0, Ordering::AcqRel)))
    }

    /// Takes in the end after a delivery report; gives whether it lies above those before.
    pub(super) fn reported(&self, partition: Partition, end: Offset) -> bool {
        let before = self.reports.get(partition.0 as usize);
        before.is_none_or(|before| before.fetch_max(end.0, Ordering::AcqRel) < end.0)
    }

    pub(super) fn every_partition(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }
}
