//! Embedded journal: append-only segment files in one directory, all streams interleaved.
//!
//! Used when one machine is enough; the contract is the crate's, the same as over Kafka.
//!
//! ```text
//! append ──► queue (bounded) ──► writer thread: write, one fdatasync for all ──► answers, readers
//! reader ──► index (which frame is where) ──► pread from the page cache, up to the durable end
//! ```
//!
//! # Invariants
//! - J-1 an append that returned `Ok` survives power loss
//! - J-2 offsets of a stream are dense: no gap, no repeat
//! - J-3 only the last segment may end torn; recovery cuts what was never acknowledged and reports how much, and
//!   refuses to cut more
//! - J-4 a group of records that was appended as one is recovered whole or not at all
//! - J-5 after a failed write or fsync nothing is acknowledged until recovery has run (I-8)
//!
//! # Why every opening begins a new segment
//! What a crashed process left behind the last durable byte is not written over, so it can never be taken for
//! a record of today; the old segment's end is written into the new one's header instead. Where a whole file is
//! written again (`spares`), the old frames in it name another segment.

mod directory;
pub mod disk;
mod follow;
mod frame;
mod index;
mod layout;
mod options;
mod reader;
mod recovery;
mod retention;
mod segment;
mod shared;
mod spares;
mod verify;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use event::limits::RECORD_BYTES_MAX;
use event::{Batch, Offset, Partition, Position, StreamName};
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use self::directory::{create_directories, take_lock};
use self::disk::{Disk, LocalDisk};
use self::follow::durable_bytes;
use self::frame::{Place, SegmentId};
use self::index::{Index, Indexed};
use self::reader::EmbeddedReader;
use self::recovery::{find, io_error};
use self::segment::{Segment, SegmentHeader};
use self::shared::{Shared, lock};
use self::writer::{Request, Writer};
use crate::{AppendError, Durability, Journal, JournalId, JournalReader, ReadError};

pub use self::frame::FrameHeader;
pub use self::options::EmbeddedOptions;
pub use self::recovery::{OpenError, Recovered};
pub use self::shared::Health;
pub use self::verify::{Dumped, Verified, dump, verify};

/// Groups of fewer bytes are encoded where the caller runs: at 4 GB/s (design.md §6) they take half a millisecond.
const ENCODED_INLINE_BYTES_MAX: usize = 2 << 20;

/// The journal in one directory of this machine.
#[derive(Debug)]
pub struct EmbeddedJournal {
    shared: Arc<Shared>,
    id: Uuid,
    recovered: Recovered,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as this journal may write; the system frees it when the process ends.
    _lock: Option<File>,
}

impl EmbeddedJournal {
    /// Opens a journal for writing, creates it when there is none, and recovers it after a crash.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process writes to it, [`OpenError::Damaged`] when something that was
    /// acknowledged is not readable.
    pub fn open(options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        create_directories(&LocalDisk, &options.directory)?;
        let locked = take_lock(&options.directory)?;
        Self::open_on(Arc::new(LocalDisk), options, Some(locked))
    }

    /// Opens a journal on some disk; tests use their own.
    ///
    /// # Errors
    /// As [`EmbeddedJournal::open`].
    #[doc(hidden)]
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: EmbeddedOptions,
        locked: Option<File>,
    ) -> Result<Arc<Self>, OpenError> {
        let directory = &options.directory;
        create_directories(&*disk, directory)?;
        spares::remove_left(&*disk, directory)?;
        let mut found = find(&*disk, directory, true)?;
        if let Some(unfinished) = &found.unfinished {
            disk.remove(unfinished).map_err(io_error("remove", unfinished))?;
        }
        found.make_durable()?;
        if let Some((_, last)) = found.index.segments.last_key_value() {
            // What it reserved may be all the room that the next one finds.
            last.segment.cut_reserved(last.end);
        }
        let id = found.journal.unwrap_or_else(Uuid::new_v4);
        let previous = found.index.segments.last_key_value();
        let header = SegmentHeader {
            id: SegmentId::new(previous.map_or(1, |(number, _)| number + 1)),
            generation: found.generation + 1,
            previous_end: previous.map_or(0, |(_, segment)| segment.end),
            journal: id,
            reused: false,
            starts: found.index.ends.clone(),
            bytes: 0,
        };
        let path = layout::segment(directory, header.id.number);
        let segment = Segment::create(&*disk, directory, header.clone(), options.segment_bytes, None);
        let segment = match segment {
            // On a full disk the journal opens all the same: readers and the sink are what makes room.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Segment::create(&*disk, directory, header, 0, None)
            }
            created => created,
        };
        let segment = segment.map_err(io_error("create", &path))?;
        let place = Place {
            segment: segment.header.id.number,
            byte: segment.header.bytes,
        };
        // The new header says where they end, so what was reserved beyond is not needed any more.
        let segments = found.index.segments.values();
        segments.for_each(|sealed| sealed.segment.cut_reserved(sealed.end));
        found
            .index
            .segments
            .insert(place.segment, Indexed::empty(segment.clone()));
        let durable = open_durable(&*disk, directory)?;
        durable
            .write_at(&durable_bytes(place), 0)
            .map_err(io_error("write", &layout::durable(directory)))?;
        let recovered = Recovered {
            bytes_cut: found.bytes_cut,
            generation: segment.header.generation,
            segments: found.index.segments.len(),
        };
        let shared = Arc::new(Shared::new(options, disk, found.index, Some(durable), None));
        let writer = Writer::new(Arc::clone(&shared), segment);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run());
        let thread = thread.map_err(io_error("start the writer of", &path))?;
        Ok(Arc::new(Self {
            shared,
            id,
            recovered,
            writer: Mutex::new(Some(thread)),
            _lock: locked,
        }))
    }

    /// Opens a journal for reading beside a process that may be writing to it, and follows that one: it shows what
    /// was durable when it was last asked for the end.
    ///
    /// # Errors
    /// [`OpenError`], as for writing; nothing on disk is changed.
    pub fn open_read_only(options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        let (found, _) = follow::look(&*disk, &options.directory)?;
        let path = layout::durable(&options.directory);
        let durable = match disk.open(&path, false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(io_error("open", &path))?),
        };
        let newest = found.index.segments.last_key_value();
        let followed = newest.map_or_else(Place::default, |(number, indexed)| Place {
            segment: *number,
            byte: indexed.end,
        });
        let recovered = Recovered {
            bytes_cut: 0,
            generation: found.generation,
            segments: found.index.segments.len(),
        };
        let shared = Arc::new(Shared::new(options, disk, found.index, durable, Some(followed)));
        let id = found.journal.unwrap_or_else(Uuid::nil);
        Ok(Arc::new(Self {
            shared,
            id,
            recovered,
            writer: Mutex::new(None),
            _lock: None,
        }))
    }

    /// What recovery found when this journal was opened.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Whether the journal takes records, now and whenever that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health()
    }

    /// Writes what waits, takes nothing more, and ends the writer thread.
    pub async fn close(self: &Arc<Self>) {
        let journal = Arc::clone(self);
        let joined = tokio::task::spawn_blocking(move || journal.join()).await;
        joined.expect("joining a thread does not panic");
    }

    fn enqueue(&self, records: Vec<(StreamName, Bytes)>) -> Result<Answer, AppendError> {
        let (done, answer) = oneshot::channel();
        self.shared
            .queue
            .push(Request { records, done }, self.shared.options.queue_bytes)?;
        Ok(answer)
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        match &*self.shared.health().borrow() {
            Health::ReadOnly => Err(AppendError::ReadOnly),
            Health::Poisoned(error) => Err(error.clone()),
            // The writer asks the disk again with every group.
            Health::Writable | Health::DiskReserve => Ok(()),
        }
    }

    fn join(&self) {
        self.shared.queue.close();
        if let Some(thread) = lock(&self.writer).take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}

/// Waits for one append.
type Answer = oneshot::Receiver<Result<Vec<Position>, AppendError>>;

impl Drop for EmbeddedJournal {
    /// The lock is given back only when the writer thread has written its last byte.
    fn drop(&mut self) {
        self.join();
    }
}

fn encode_all(group: &[Batch]) -> Result<Vec<(StreamName, Bytes)>, AppendError> {
    group.iter().map(encode).collect()
}

fn encode(batch: &Batch) -> Result<(StreamName, Bytes), AppendError> {
    if batch.partition != Partition(0) {
        return Err(AppendError::NoPartition {
            partition: batch.partition,
            partitions: 1,
        });
    }
    let payload = event::record::encode(batch).map_err(|error| AppendError::Encode {
        message: error.to_string(),
    })?;
    if payload.len() > RECORD_BYTES_MAX {
        let (record_bytes, limit_bytes) = (payload.len() as u64, RECORD_BYTES_MAX as u64);
        return Err(AppendError::TooLarge {
            record_bytes,
            limit_bytes,
        });
    }
    Ok((batch.stream.clone(), payload))
}

fn open_durable(disk: &dyn Disk, directory: &Path) -> Result<Arc<dyn disk::DiskFile>, OpenError> {
    let path = layout::durable(directory);
    match disk.create(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => disk.open(&path, true),
        created => created,
    }
    .map_err(io_error("open", &path))
}

impl Index {
    fn positions(&self, offset: Offset) -> Vec<Position> {
        vec![Position::new(Partition(0), offset)]
    }
}

impl Journal for EmbeddedJournal {
    fn id(&self) -> JournalId {
        JournalId(self.id.to_string())
    }

    fn stream_id(&self, _stream: &StreamName) -> JournalId {
        self.id()
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn partitions(&self, _stream: &StreamName) -> u32 {
        1
    }

    fn append(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Vec<Position>, AppendError>> {
        if group.is_empty() {
            return ready(Ok(Vec::new())).boxed();
        }
        async move {
            self.check_writable()?;
            let bytes: usize = group.iter().map(Batch::bytes).sum();
            let records = if bytes < ENCODED_INLINE_BYTES_MAX {
                encode_all(&group)?
            } else {
                let encoded = tokio::task::spawn_blocking(move || encode_all(&group)).await;
                encoded.map_err(|_| AppendError::Closed)??
            };
            self.enqueue(records)?.await.unwrap_or(Err(AppendError::Closed))
        }
        .boxed()
    }

    fn end<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            follow::refresh(&self.shared).await?;
            let index = lock(&self.shared.index);
            Ok(index.positions(index.end(stream)))
        }
        .boxed()
    }

    fn start<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Vec<Position>, ReadError>> {
        async move {
            follow::refresh(&self.shared).await?;
            let index = lock(&self.shared.index);
            Ok(index.positions(index.start(stream)))
        }
        .boxed()
    }

    fn reader<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Position,
    ) -> BoxFuture<'a, Result<Box<dyn JournalReader>, ReadError>> {
        async move {
            follow::refresh(&self.shared).await?;
            let reader = EmbeddedReader::open(Arc::clone(&self.shared), stream.clone(), from)?;
            Ok(Box::new(reader) as Box<dyn JournalReader>)
        }
        .boxed()
    }

    fn retain<'a>(
        &'a self,
        stream: &'a StreamName,
        stored: &'a [Position],
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        let (shared, stream, stored) = (Arc::clone(&self.shared), stream.clone(), stored.to_vec());
        async move {
            if shared.followed.is_some() {
                return Ok(());
            }
            let removed =
                tokio::task::spawn_blocking(move || retention::remove_stored(&shared, &stream, &stored))
                    .await;
            removed.map_err(|_| ReadError::Closed)?
        }
        .boxed()
    }
}
