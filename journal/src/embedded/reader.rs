//! Reading one stream forward, up to the durable end.
//!
//! Records are read into memory that is aligned as Arrow likes it, so the columns are used where they were
//! read to. They mostly come from the page cache; reading runs on the blocking pool all the same, because when
//! they do not, it takes milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_buffer::MutableBuffer;
use bytes::Bytes;
use event::{Offset, Partition, Position, StreamName};
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use super::disk::DiskFile;
use super::follow;
use super::frame::{FrameHeader, SegmentId};
use super::index::walk;
use super::layout::FRAME_HEADER_BYTES;
use super::segment::is_gone;
use super::shared::{Shared, lock};
use crate::{JournalReader, Payload, ReadError, Record};

/// Reads one stream of an embedded journal.
#[derive(Debug)]
pub(super) struct EmbeddedReader {
    shared: Arc<Shared>,
    stream: StreamName,
    next: Offset,
    groups: watch::Receiver<u64>,
    /// Its entry among the open readers.
    id: u64,
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        lock(&self.shared.readers).remove(&self.id);
    }
}

/// Where a record's frame is.
struct Located {
    segment: SegmentId,
    file: Arc<dyn DiskFile>,
    path: std::path::PathBuf,
    byte: u64,
    /// Where the durable frames of its segment end.
    end: u64,
}

/// What a stream's reader finds when a segment was removed under it, which happens beside another process's writer only.
fn gone(shared: &Shared, stream: &StreamName, offset: Offset, segment: u64) -> ReadError {
    ReadError::Gone {
        asked: Position::new(Partition(0), offset),
        start: lock(&shared.index).start_after(segment, stream),
    }
}

impl EmbeddedReader {
    /// A reader from a position on, which holds what lies there.
    pub(super) fn open(shared: Arc<Shared>, stream: StreamName, from: Position) -> Result<Self, ReadError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        if from.partition != Partition(0) {
            let partitions = 1;
            return Err(ReadError::NoPartition {
                asked: from,
                partitions,
            });
        }
        let groups = shared.groups(&stream);
        // Both locks: retention decides under them as well, so it sees this reader, or this one sees what is gone.
        let mut readers = lock(&shared.readers);
        let index = lock(&shared.index);
        let (start, end) = (index.start(&stream), index.end(&stream));
        if from.offset < start {
            return Err(ReadError::Gone { asked: from, start });
        }
        if from.offset > end {
            return Err(ReadError::PastEnd { asked: from, end });
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        readers.insert(id, (stream.clone(), from.offset));
        drop(index);
        drop(readers);
        Ok(Self {
            shared,
            stream,
            next: from.offset,
            groups,
            id,
        })
    }
}

impl JournalReader for EmbeddedReader {
    fn position(&self) -> Position {
        Position::new(Partition(0), self.next)
    }

    fn next(&mut self, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        async move {
            loop {
                self.groups.borrow_and_update();
                if lock(&self.shared.index).end(&self.stream) > self.next {
                    break;
                }
                if self.shared.followed.is_some() {
                    // Another process writes, and cannot wake us.
                    drop(tokio::time::timeout(follow::EVERY, self.groups.changed()).await);
                    follow::refresh(&self.shared).await?;
                } else {
                    self.groups.changed().await.map_err(|_| ReadError::Closed)?;
                }
            }
            let (shared, stream, from) = (Arc::clone(&self.shared), self.stream.clone(), self.next);
            let read = tokio::task::spawn_blocking(move || read(&shared, &stream, from, bytes_max)).await;
            let records = read.map_err(|_| ReadError::Closed)??;
            self.next = records.last().map_or(self.next, |record| record.offset.next());
            if let Some((_, at)) = lock(&self.shared.readers).get_mut(&self.id) {
                *at = self.next;
            }
            Ok(records)
        }
        .boxed()
    }
}

/// Reads records from an offset on, up to the durable end or about so many bytes, at least one.
fn read(
    shared: &Shared,
    stream: &StreamName,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut bytes, mut offset) = (Vec::new(), 0, from);
    while bytes < bytes_max {
        let Some(located) = locate(shared, stream, offset)? else {
            break;
        };
        let payload = match read_payload(&located, stream, offset) {
            Err(ReadError::Damaged { .. }) if is_gone(&*located.file, located.segment.number) => {
                return Err(gone(shared, stream, offset, located.segment.number));
            }
            read => read?,
        };
        bytes += payload.len();
        records.push(Record {
            partition: Partition(0),
            offset,
            payload: Payload::Record(payload),
        });
        offset = offset.next();
    }
    Ok(records)
}

/// Finds a record's frame; `None` at the durable end.
fn locate(shared: &Shared, stream: &StreamName, offset: Offset) -> Result<Option<Located>, ReadError> {
    loop {
        let (segment, end) = {
            let mut index = lock(&shared.index);
            if offset >= index.end(stream) {
                return Ok(None);
            }
            let start = index.start(stream);
            if offset < start {
                let asked = Position::new(Partition(0), offset);
                return Err(ReadError::Gone { asked, start });
            }
            let Some(found) = index.segment_of(stream, offset) else {
                return Ok(None);
            };
            let (file, path) = (Arc::clone(&found.segment.file), found.segment.path.clone());
            let end = found.end;
            if found.walked() {
                let missing = || damaged(&path, 0, &format!("offset {offset} of `{stream}` is not in it"));
                let byte = found.find(stream, offset).ok_or_else(missing)?;
                return Ok(Some(Located {
                    segment: found.segment.header.id,
                    file,
                    path,
                    byte,
                    end,
                }));
            }
            (found.segment.clone(), end)
        };
        // A sealed segment that nobody has looked at: reading it must not hold up appends.
        let number = segment.header.id.number;
        let places = walk(&segment, end);
        if segment.is_gone() {
            return Err(gone(shared, stream, offset, number));
        }
        let places = places.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => damaged(&segment.path, 0, &error.to_string()),
            _ => ReadError::Io {
                operation: "read",
                path: segment.path.clone(),
                source: error,
            },
        })?;
        if let Some(found) = lock(&shared.index).segments.get_mut(&number) {
            found.set_places(places);
        }
    }
}

fn read_payload(located: &Located, stream: &StreamName, offset: Offset) -> Result<Bytes, ReadError> {
    let Located {
        file,
        path,
        byte,
        end,
        ..
    } = located;
    let io = |source| ReadError::Io {
        operation: "read",
        path: path.clone(),
        source,
    };
    let mut header_bytes = [0; FRAME_HEADER_BYTES];
    file.read_at(&mut header_bytes, *byte).map_err(io)?;
    let header = FrameHeader::parse(&header_bytes).filter(|header| {
        header.is_of(located.segment) && header.stream == *stream && header.offset == offset
    });
    let header = header.ok_or_else(|| damaged(path, *byte, "no frame of this record"))?;
    if byte + header.frame_bytes() > *end {
        return Err(damaged(path, *byte, "the frame is longer than its segment"));
    }
    let mut payload = MutableBuffer::from_len_zeroed(header.payload_bytes as usize);
    file.read_at(payload.as_slice_mut(), byte + FRAME_HEADER_BYTES as u64)
        .map_err(io)?;
    if !header.is_intact(&header_bytes, payload.as_slice()) {
        return Err(damaged(path, *byte, "the frame's checksum is wrong"));
    }
    Ok(Bytes::from_owner(Aligned(payload)))
}

/// Memory that stays aligned while `Bytes` hands it around.
struct Aligned(MutableBuffer);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn damaged(path: &std::path::Path, at: u64, message: &str) -> ReadError {
    ReadError::Damaged {
        path: path.to_owned(),
        at,
        message: message.to_owned(),
    }
}
