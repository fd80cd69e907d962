//! The one writer thread: drains the queue, writes, syncs once for all, answers all (group commit).
//!
//! While a group is being written and synced, the next one gathers in the queue; nothing ever waits idly for
//! more. After a failed write or fsync nothing is acknowledged any more (I-8): what is on disk is unknown then,
//! and only recovery may find out.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{Offset, Partition, Position, StreamName};
use tokio::sync::oneshot;

use super::disk::SyncPoint;
use super::follow::durable_bytes;
use super::frame::{Frame, Place, SegmentId};
use super::index::Indexed;
use super::layout;
use super::segment::{Segment, SegmentHeader};
use super::shared::{Shared, lock};
use crate::AppendError;

/// Most bytes that one write takes: above it a larger group only makes the first of its requests wait longer.
const GROUP_BYTES_MAX: usize = 64 << 20;
/// How often the free space of the disk is asked for while it is plenty.
const FREE_SPACE_EVERY: Duration = Duration::from_millis(200);
/// Bytes that may be written between two looks at the free space, however soon they come.
const FREE_SPACE_BYTES: u64 = 64 << 20;

/// What one append wants to have written.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) records: Vec<(StreamName, Bytes)>,
    pub(super) done: oneshot::Sender<Result<Vec<Position>, AppendError>>,
}

impl Request {
    fn bytes(&self) -> usize {
        self.records
            .iter()
            .map(|(_, payload)| Frame::bytes_of(payload.len()) as usize)
            .sum()
    }
}

/// Requests that wait, bounded by their bytes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Adds a request, unless the queue is full or closed.
    pub(super) fn push(&self, request: Request, limit_bytes: usize) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(AppendError::Closed);
        }
        let bytes = request.bytes();
        // A request that is alone may be of any size that a record's limit lets through.
        if state.bytes > 0 && state.bytes + bytes > limit_bytes {
            return Err(AppendError::QueueFull {
                limit_bytes: limit_bytes as u64,
            });
        }
        state.bytes += bytes;
        state.requests.push_back(request);
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Lets what waits be written, and nothing more be added.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.more.notify_one();
    }

    /// Waits for requests and takes as many as one write should have; `None` when closed and empty.
    fn take(&self) -> Option<Vec<Request>> {
        let mut state = lock(&self.state);
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.requests.front().map(Request::bytes) {
            if bytes > 0 && bytes + next > GROUP_BYTES_MAX {
                break;
            }
            bytes += next;
            taken.extend(state.requests.pop_front());
        }
        state.bytes -= bytes;
        Some(taken)
    }
}

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: Segment,
    /// Where the next frame goes.
    end: u64,
    generation: u64,
    /// Next offsets, those of the group that is being written included.
    ends: std::collections::BTreeMap<StreamName, Offset>,
    buffer: Vec<u8>,
    free_bytes: u64,
    free_asked: Option<Instant>,
    free_written: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, segment: Segment) -> Self {
        let ends = lock(&shared.index).ends.clone();
        let (end, generation) = (segment.header.bytes, segment.header.generation);
        let buffer = Vec::new();
        Self {
            shared,
            segment,
            end,
            generation,
            ends,
            buffer,
            free_bytes: 0,
            free_asked: None,
            free_written: 0,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(requests) = self.shared.queue.take() {
            metrics::histogram!("tidemill_journal_group_requests").record(requests.len() as f64);
            self.group(requests);
        }
        // After a failure nobody knows what is on disk, and only recovery may change it (I-8).
        if self.shared.poison().is_none() {
            self.segment.cut_reserved(self.end);
        }
    }

    fn group(&mut self, requests: Vec<Request>) {
        let refused = self.shared.poison().or_else(|| self.check_reserve(&requests));
        if let Some(error) = refused {
            return requests
                .into_iter()
                .for_each(|request| drop(request.done.send(Err(error.clone()))));
        }
        match self.write(&requests) {
            Ok(positions) => {
                let mut written = Vec::with_capacity(requests.len());
                for (request, positions) in requests.into_iter().zip(positions) {
                    // Somebody who has gone away does not hear of it; the events are there all the same.
                    drop(request.done.send(Ok(positions)));
                    written.push(request.records);
                }
                // Clients wait, readers do not.
                let streams: HashSet<&StreamName> =
                    written.iter().flatten().map(|(stream, _)| stream).collect();
                self.shared.wake_readers(|stream| streams.contains(stream));
            }
            Err(error) => {
                match &error {
                    // Nothing was written; there may be room again later.
                    AppendError::DiskReserve { .. } => self.shared.set_reserve(true),
                    error => self.shared.set_poison(error.clone()),
                }
                requests
                    .into_iter()
                    .for_each(|request| drop(request.done.send(Err(error.clone()))));
            }
        }
    }

    /// An error when writing would use up the reserve. Asks the system now and then, and always when it is near.
    fn check_reserve(&mut self, requests: &[Request]) -> Option<AppendError> {
        let reserve_bytes = self.shared.options.disk_reserve_bytes;
        let bytes: u64 = requests.iter().map(|request| request.bytes() as u64).sum();
        let recent = self
            .free_asked
            .is_some_and(|asked| asked.elapsed() < FREE_SPACE_EVERY);
        let near = self.free_bytes < reserve_bytes.saturating_add(self.takes(bytes) + FREE_SPACE_BYTES);
        if !recent || near || self.free_written > FREE_SPACE_BYTES {
            if let Err(error) = self.look_at_free_bytes(reserve_bytes.saturating_add(self.takes(bytes))) {
                return Some(error);
            }
            (self.free_asked, self.free_written) = (Some(Instant::now()), 0);
            metrics::gauge!("tidemill_journal_disk_free_bytes").set(self.free_bytes as f64);
        }
        self.free_written += bytes;
        let reserve = self.free_bytes < reserve_bytes.saturating_add(self.takes(bytes));
        self.shared.set_reserve(reserve);
        reserve.then_some(AppendError::DiskReserve {
            free_bytes: self.free_bytes,
            reserve_bytes,
        })
    }

    /// How many free bytes of the disk a group of so many bytes takes. What is reserved for this segment, and what a
    /// spare file has, is not free any more; the next segment is reserved as a whole.
    fn takes(&self, bytes: u64) -> u64 {
        let segment_bytes = self.shared.options.segment_bytes;
        if self.rolls(bytes) {
            let spare_bytes = self.shared.spares.next_bytes();
            bytes.max(segment_bytes).saturating_sub(spare_bytes)
        } else {
            (self.end + bytes).saturating_sub(self.segment.reserved.max(self.end))
        }
    }

    /// Whether a group of so many bytes begins another segment.
    fn rolls(&self, bytes: u64) -> bool {
        self.end + bytes > self.shared.options.segment_bytes && self.end > self.segment.header.bytes
    }

    /// Asks how much of the disk is free. When it is less than what is needed, the spare files go.
    fn look_at_free_bytes(&mut self, needed: u64) -> Result<(), AppendError> {
        let Shared {
            disk,
            options,
            spares,
            ..
        } = &*self.shared;
        let free_bytes = || {
            let free = disk.free_bytes(&options.directory);
            free.map_err(|error| poisoned("statvfs", &options.directory, &error))
        };
        self.free_bytes = free_bytes()?;
        if self.free_bytes < needed && spares.remove_all(&**disk) {
            self.free_bytes = free_bytes()?;
        }
        Ok(())
    }

    /// Writes the requests' records and makes them durable; gives each request's positions.
    fn write(&mut self, requests: &[Request]) -> Result<Vec<Vec<Position>>, AppendError> {
        let bytes: u64 = requests.iter().map(|request| request.bytes() as u64).sum();
        if self.rolls(bytes) {
            self.roll()?;
        }
        let SegmentId { number, secret } = self.segment.header.id;
        let durable = Place {
            segment: number,
            byte: self.end,
        };
        self.buffer.clear();
        let (mut positions, mut places) = (Vec::with_capacity(requests.len()), Vec::new());
        for request in requests {
            let mut left_in_group = request.records.len() as u32;
            let mut answers = Vec::with_capacity(request.records.len());
            for (stream, payload) in &request.records {
                left_in_group -= 1;
                let offset = *self.ends.entry(stream.clone()).or_default();
                let (partition, generation) = (Partition(0), self.generation);
                places.push((stream, self.end + self.buffer.len() as u64));
                Frame {
                    stream,
                    partition,
                    offset,
                    left_in_group,
                    generation,
                    durable,
                    secret,
                    payload,
                }
                .write(&mut self.buffer);
                self.ends.insert(stream.clone(), offset.next());
                answers.push(Position::new(partition, offset.next()));
            }
            positions.push(answers);
        }
        let file = &self.segment.file;
        file.write_at(&self.buffer, self.end)
            .map_err(|error| poisoned("write", &self.segment.path, &error))?;
        let begun = Instant::now();
        file.sync(SyncPoint::Group)
            .map_err(|error| poisoned("fsync", &self.segment.path, &error))?;
        metrics::histogram!("tidemill_journal_fsync_seconds").record(begun.elapsed());
        metrics::counter!("tidemill_journal_bytes_total").increment(self.buffer.len() as u64);
        metrics::counter!("tidemill_journal_records_total").increment(places.len() as u64);
        self.end += self.buffer.len() as u64;
        self.publish(&places);
        // One very large group must not keep its memory for ever.
        self.buffer.shrink_to(8 << 20);
        Ok(positions)
    }

    /// Lets readers see what is durable now: those of this process, then those of others.
    fn publish(&self, places: &[(&StreamName, u64)]) {
        let number = self.segment.header.id.number;
        let mut index = lock(&self.shared.index);
        if let Some(active) = index.segments.get_mut(&number) {
            places.iter().for_each(|(stream, byte)| active.add(stream, *byte));
            active.end = self.end;
        }
        for (stream, _) in places {
            if let Some(end) = self.ends.get(*stream) {
                index.ends.insert((*stream).clone(), *end);
            }
        }
        drop(index);
        let bytes = durable_bytes(Place {
            segment: number,
            byte: self.end,
        });
        let Some(durable) = &self.shared.durable else {
            return;
        };
        // Only a convenience for other processes, and right or older at any time; recovery does not need it.
        if let Err(error) = durable.write_at(&bytes, 0) {
            tracing::warn!(%error, "cannot publish the durable end to other processes");
        }
    }

    /// Seals the segment, all of which is durable, and begins the next one.
    fn roll(&mut self) -> Result<(), AppendError> {
        let directory = &self.shared.options.directory;
        let header = SegmentHeader {
            id: SegmentId::new(self.segment.header.id.number + 1),
            generation: self.generation,
            previous_end: self.end,
            journal: self.segment.header.journal,
            reused: false,
            starts: self.ends.clone(),
            bytes: 0,
        };
        let path = layout::segment(directory, header.id.number);
        let allocate = self.shared.options.segment_bytes;
        let disk = &*self.shared.disk;
        let spare = self.shared.spares.take(disk);
        let next = Segment::create(disk, directory, header, allocate, spare);
        let next = next.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => AppendError::DiskReserve {
                free_bytes: self.shared.disk.free_bytes(directory).unwrap_or_default(),
                reserve_bytes: self.shared.options.disk_reserve_bytes,
            },
            _ => poisoned("create", &path, &error),
        })?;
        self.segment.cut_reserved(self.end);
        self.end = next.header.bytes;
        self.segment = next.clone();
        let mut index = lock(&self.shared.index);
        index.segments.insert(next.header.id.number, Indexed::empty(next));
        metrics::gauge!("tidemill_journal_segments").set(index.segments.len() as f64);
        Ok(())
    }
}

fn poisoned(operation: &'static str, path: &Path, error: &std::io::Error) -> AppendError {
    AppendError::Poisoned {
        operation,
        path: path.to_owned(),
        message: error.to_string(),
    }
}
