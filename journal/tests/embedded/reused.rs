//! Files of segments that were removed are written again, and nobody ever takes for a record what they held before.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use event::{Offset, Partition, Position, StreamName};
use journal::contract::{batch, read_all, rows};
use journal::embedded::{EmbeddedJournal, verify};
use journal::{Journal, ReadError};

use crate::Folder;

const SEGMENT_BYTES: u64 = 64 << 10;

fn stream() -> StreamName {
    StreamName::parse("s").expect("allowed")
}

/// Files of a directory with an ending, the oldest first.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).expect("listed");
    let paths = listed.map(|entry| entry.expect("entry").path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    found.sort();
    found
}

fn is_reused(segment: &Path) -> bool {
    std::fs::read(segment).expect("readable")[10] == 1
}

async fn append(journal: &EmbeddedJournal, records: std::ops::Range<i64>) {
    for n in records {
        let appended = journal.append(vec![batch("s", 100 * n, 100)]).await;
        appended.expect("appends");
    }
}

async fn retain(journal: &EmbeddedJournal, offset: u64) {
    let stored = [Position::new(Partition(0), Offset(offset))];
    journal.retain(&stream(), &stored).await.expect("retains");
}

/// A journal whose last segment is in a file that was another's, with records up to the offset.
async fn with_reused(folder: &Folder) -> (std::sync::Arc<EmbeddedJournal>, i64) {
    let journal = folder.journal();
    append(&journal, 0..200).await;
    retain(&journal, 200).await;
    let mut end = 200;
    while !is_reused(&folder.last_segment()) {
        append(&journal, end..end + 1).await;
        end += 1;
    }
    append(&journal, end..end + 5).await;
    (journal, end + 5)
}

/// The records of a directory's copy, opened as after a kill: from the oldest offset on, and the bytes that were cut.
async fn reopened(copy: &Folder) -> (u64, usize, u64) {
    let journal = copy.journal();
    let start = journal.start(&stream()).await.expect("known")[0].offset;
    let records = read_all(&*journal, &stream(), start).await;
    for (record, n) in records.iter().zip(start.0 as i64..) {
        assert_eq!(rows(record), (100 * n..100 * n + 100).collect::<Vec<_>>());
    }
    (start.0, records.len(), journal.recovered().bytes_cut)
}

/// A copy of a journal's files while it is open, as a kill leaves them.
fn killed(folder: &Folder) -> Folder {
    let copy = Folder::new(SEGMENT_BYTES);
    std::fs::create_dir_all(copy.options().directory).expect("created");
    for entry in std::fs::read_dir(folder.options().directory).expect("listed") {
        let path = entry.expect("entry").path();
        let to = copy.options().directory.join(path.file_name().expect("a name"));
        std::fs::copy(&path, to).expect("copied");
    }
    copy
}

#[tokio::test]
async fn the_files_of_removed_segments_are_written_again() {
    let folder = Folder::new(SEGMENT_BYTES);
    let directory = folder.options().directory;
    let journal = folder.journal();
    let (mut again, mut most) = (HashSet::new(), 0);
    for round in 0..20 {
        append(&journal, 100 * round..100 * (round + 1)).await;
        let reused = files(&directory, "segment").into_iter();
        again.extend(reused.filter(|path| is_reused(path)));
        verify(&directory).expect("whole");
        retain(&journal, 100 * (round as u64 + 1)).await;
        most = most.max(files(&directory, "spare").len());
    }
    let again = again.len();
    assert!(
        again > 10 && (1..=4).contains(&most),
        "{again} times, {most} spare files"
    );
    let start = journal.start(&stream()).await.expect("known")[0].offset;
    append(&journal, 2_000..2_050).await;
    let records = read_all(&*journal, &stream(), start).await;
    assert_eq!(records.len() as u64, 2_050 - start.0);
    drop(journal);
    assert_eq!(reopened(&folder).await.1, records.len());
    assert_eq!(
        files(&directory, "spare"),
        [] as [PathBuf; 0],
        "an opening begins without"
    );
}

#[tokio::test]
async fn after_a_kill_a_reused_segment_has_its_own_records_and_no_older_ones() {
    let folder = Folder::new(SEGMENT_BYTES);
    let (journal, end) = with_reused(&folder).await;
    let (start, records, cut) = reopened(&killed(&folder)).await;
    assert_eq!((start as i64 + records as i64, cut), (end, 0));

    // A record that was begun and not finished is cut, and as much is reported.
    let torn = killed(&folder);
    std::fs::remove_file(torn.options().directory.join("durable")).expect("removed");
    let last = torn.last_segment();
    let mut bytes = std::fs::read(&last).expect("readable");
    let frames = own_frames(&bytes);
    let (from, to) = *frames.last().expect("frames");
    bytes[to - 200] ^= 1;
    std::fs::write(&last, &bytes).expect("written");
    let (_, left, cut) = reopened(&torn).await;
    assert_eq!((left, cut), (records - 1, (to - from) as u64));

    // An older frame, whole, right where the next one would begin.
    let stale = killed(&folder);
    let mut bytes = std::fs::read(stale.last_segment()).expect("readable");
    let older = bytes[to..].windows(4).position(|four| four == b"TMFR");
    let older = to + older.expect("frames of the earlier segment");
    bytes.copy_within(older.., to);
    std::fs::write(stale.last_segment(), &bytes).expect("written");
    assert_eq!(reopened(&stale).await, (start, records, 0));

    // Bytes that somebody has sent and that look like a frame of this very segment, who does not know its secret.
    let forged = killed(&folder);
    let mut bytes = std::fs::read(forged.last_segment()).expect("readable");
    let mut frame = bytes[from..to].to_vec();
    frame[54..62].fill(0);
    frame[40..48].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let payload = 128 + u32::from_le_bytes(frame[8..12].try_into().expect("four bytes")) as usize;
    let crc = crc32c::crc32c(&frame[8..payload]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    for at in [to, to + 128] {
        bytes[at..at + frame.len()].copy_from_slice(&frame);
    }
    std::fs::write(forged.last_segment(), &bytes).expect("written");
    assert_eq!(reopened(&forged).await, (start, records, 0));
    drop(journal);
}

/// They look like something that one may remove on a full disk.
#[tokio::test]
async fn a_spare_file_that_somebody_removed_is_not_missed() {
    let folder = Folder::new(SEGMENT_BYTES);
    let journal = folder.journal();
    append(&journal, 0..200).await;
    retain(&journal, 200).await;
    let spares = files(&folder.options().directory, "spare");
    assert!(!spares.is_empty());
    for path in spares {
        std::fs::remove_file(path).expect("removed");
    }
    append(&journal, 200..500).await;
    let start = journal.start(&stream()).await.expect("known")[0].offset;
    assert_eq!(
        read_all(&*journal, &stream(), start).await.len() as u64,
        500 - start.0
    );
}

/// Where the frames of a segment's own lie in its file.
fn own_frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let (mut at, mut found) = (u32_at(12), Vec::new());
    while bytes.get(at..at + 4) == Some(b"TMFR") && u64_at(at + 32) == u64_at(16) {
        let next = at + (128 + u32_at(at + 8)).next_multiple_of(64);
        found.push((at, next));
        at = next;
    }
    found
}

#[tokio::test]
async fn damage_below_what_was_acknowledged_is_refused_in_a_reused_segment_as_well() {
    let folder = Folder::new(SEGMENT_BYTES);
    let (_journal, _) = with_reused(&folder).await;
    let damaged = killed(&folder);
    std::fs::remove_file(damaged.options().directory.join("durable")).expect("removed");
    let mut bytes = std::fs::read(damaged.last_segment()).expect("readable");
    let (from, _) = own_frames(&bytes)[1];
    bytes[from + 300] ^= 1;
    std::fs::write(damaged.last_segment(), &bytes).expect("written");
    let refused = EmbeddedJournal::open(damaged.options()).err();
    assert!(refused.is_some_and(|error| error.to_string().contains("damaged at byte")));
}

/// A reader of another process holds nothing back; it is told what is gone, and never that the journal is damaged.
#[tokio::test]
async fn a_reader_beside_the_writer_is_told_when_what_it_reads_is_written_over() {
    let folder = Folder::new(SEGMENT_BYTES);
    let writer = folder.journal();
    append(&writer, 0..200).await;
    let follower = EmbeddedJournal::open_read_only(folder.options()).expect("opens beside the writer");
    let mut readers = Vec::new();
    for begun in [true, false] {
        let reader = follower.reader(&stream(), Position::default()).await;
        let mut reader = reader.expect("is there");
        if begun {
            assert_eq!(reader.next(1).await.expect("readable").len(), 1);
        }
        readers.push(reader);
    }
    retain(&writer, 200).await;
    append(&writer, 200..500).await;
    let now = writer.start(&stream()).await.expect("known")[0].offset;
    for mut reader in readers {
        let asked = reader.position().offset;
        match reader.next(1 << 20).await {
            Err(ReadError::Gone { start, .. }) => {
                assert!(asked < start && start <= now, "{asked} {start} {now}")
            }
            read => panic!("{read:?}"),
        }
    }
    let end = follower.end(&stream()).await.expect("known")[0].offset;
    assert_eq!(end, Offset(500));
    let start = follower.start(&stream()).await.expect("known")[0].offset;
    assert_eq!(start, now);
    assert_eq!(
        read_all(&*follower, &stream(), start).await.len() as u64,
        500 - start.0
    );
}
