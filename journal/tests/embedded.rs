//! The embedded journal keeps the contract, and refuses or repairs what a crash or a bad disk leaves.

mod embedded {
    mod golden;
    mod reused;
}

use std::path::Path;
use std::sync::Arc;

use event::{Offset, Partition, Position, StreamName};
use futures::future::{BoxFuture, FutureExt, join_all};
use journal::contract::{self, Harness, batch, read_all, rows};
use journal::embedded::{EmbeddedJournal, EmbeddedOptions, OpenError, verify};
use journal::{AppendError, Batcher, Journal};

struct Folder {
    folder: tempfile::TempDir,
    segment_bytes: u64,
}

impl Folder {
    fn new(segment_bytes: u64) -> Self {
        Self {
            folder: tempfile::tempdir().expect("temporary folder"),
            segment_bytes,
        }
    }

    fn options(&self) -> EmbeddedOptions {
        let mut options = EmbeddedOptions::new(self.folder.path().join("journal"));
        (options.segment_bytes, options.disk_reserve_bytes) = (self.segment_bytes, 0);
        options
    }

    fn journal(&self) -> Arc<EmbeddedJournal> {
        EmbeddedJournal::open(self.options()).expect("opens")
    }

    fn last_segment(&self) -> std::path::PathBuf {
        let files = std::fs::read_dir(self.options().directory)
            .expect("listed")
            .map(|entry| entry.expect("entry").path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
            .max()
            .expect("a segment")
    }
}

impl Harness for Folder {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Journal>> {
        async { self.journal() as Arc<dyn Journal> }.boxed()
    }

    /// Dropping it without closing leaves the files as they are, which is what a kill does to them.
    fn kill(&self, journal: Arc<dyn Journal>) -> BoxFuture<'_, ()> {
        async { drop(journal) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract_of_a_journal() {
    contract::all(&Folder::new(128 << 10)).await;
    contract::all(&Folder::new(64 << 20)).await;
}

#[tokio::test]
async fn a_second_writer_is_refused_and_readers_are_not() {
    let folder = Folder::new(1 << 20);
    let journal = folder.journal();
    journal.append(vec![batch("s", 0, 3)]).await.expect("appends");
    assert!(matches!(
        EmbeddedJournal::open(folder.options()),
        Err(OpenError::Locked { .. })
    ));
    let reader = EmbeddedJournal::open_read_only(folder.options()).expect("opens beside the writer");
    let stream = StreamName::parse("s").expect("allowed");
    assert_eq!(rows(&read_all(&*reader, &stream, Offset(0)).await[0]), [0, 1, 2]);
    assert!(matches!(
        reader.append(vec![batch("s", 3, 1)]).await,
        Err(AppendError::ReadOnly)
    ));
    assert_eq!(reader.id(), journal.id());
    journal.close().await;
    assert!(matches!(
        journal.append(vec![batch("s", 3, 1)]).await,
        Err(AppendError::Closed)
    ));
}

/// Small requests of many callers share records; each is answered with the position of its own rows.
#[tokio::test(flavor = "multi_thread")]
async fn the_batcher_merges_what_comes_while_a_write_is_under_way() {
    let folder = Folder::new(64 << 20);
    let journal = folder.journal();
    let batcher = Batcher::new(Arc::clone(&journal) as Arc<dyn Journal>);
    let requests = (0..500).map(|n| batcher.append(vec![batch("small", n, 1), batch("other", n, 1)]));
    let positions: Vec<_> = join_all(requests)
        .await
        .into_iter()
        .map(|done| done.expect("appends"))
        .collect();
    let stream = StreamName::parse("small").expect("allowed");
    let records = read_all(&*journal, &stream, Offset(0)).await;
    assert!(records.len() < 250, "{} records for 500 requests", records.len());
    let mut found: Vec<_> = records.iter().flat_map(rows).collect();
    for (n, positions) in positions.iter().enumerate() {
        assert!(rows(&records[positions[0].offset.0 as usize - 1]).contains(&(n as i64)));
    }
    found.sort_unstable();
    assert_eq!(found, (0..500).collect::<Vec<_>>());
}

/// On one thread all of them wait before the first is written.
#[tokio::test]
async fn an_event_each_of_ten_thousand_connections_waits_and_is_not_refused() {
    let folder = Folder::new(64 << 20);
    let journal = folder.journal();
    let batcher = Batcher::new(Arc::clone(&journal) as Arc<dyn Journal>);
    let requests = (0..10_000).map(|n| batcher.append(vec![batch("small", n, 1)]));
    let refused = join_all(requests).await.into_iter().find_map(Result::err);
    assert!(refused.is_none(), "{refused:?}");
}

#[tokio::test]
async fn what_waits_is_bounded_and_taken_again_when_it_is_written() {
    let folder = Folder::new(64 << 20);
    let journal = folder.journal();
    let batcher = Batcher::new(Arc::clone(&journal) as Arc<dyn Journal>);
    // 66,000 of at least 4 KiB each are more than 256 MiB.
    let requests = (0..66_000).map(|n| batcher.append(vec![batch("small", n, 1)]));
    let answers = join_all(requests).await;
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(AppendError::QueueFull { .. })));
    assert_eq!(refused.count(), 66_000 - 65_536);
    batcher
        .append(vec![batch("small", 0, 1)])
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn segments_that_every_stream_is_past_are_removed() {
    let folder = Folder::new(64 << 10);
    let journal = folder.journal();
    let (a, b) = (
        StreamName::parse("a").expect("allowed"),
        StreamName::parse("b").expect("allowed"),
    );
    for n in 0..200 {
        journal
            .append(vec![batch("a", n, 100), batch("b", n, 100)])
            .await
            .expect("appends");
    }
    let stored = |offset| [Position::new(Partition(0), Offset(offset))];
    journal.retain(&a, &stored(200)).await.expect("retains");
    assert_eq!(
        journal.start(&a).await.expect("known")[0].offset,
        Offset(0),
        "stream b is not stored yet"
    );
    journal.retain(&b, &stored(150)).await.expect("retains");
    let start = journal.start(&b).await.expect("known")[0];
    assert!(
        start.offset > Offset(100) && start.offset <= Offset(150),
        "{start}"
    );
    let gone = journal.reader(&b, Position::default()).await.err().expect("gone");
    assert!(matches!(gone, journal::ReadError::Gone { .. }), "{gone}");
    drop(journal);
    let reopened = folder.journal();
    assert_eq!(reopened.start(&b).await.expect("known")[0], start);
    assert_eq!(
        read_all(&*reopened, &b, start.offset).await.len() as u64,
        200 - start.offset.0
    );
}

#[tokio::test]
async fn nothing_is_written_into_the_disk_reserve() {
    let folder = Folder::new(1 << 20);
    let mut options = folder.options();
    options.disk_reserve_bytes = u64::MAX / 2;
    let journal = EmbeddedJournal::open(options).expect("opens");
    let refused = journal.append(vec![batch("s", 0, 1)]).await;
    assert!(
        matches!(refused, Err(AppendError::DiskReserve { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        &*journal.health().borrow(),
        journal::embedded::Health::DiskReserve
    ));
}

async fn filled(folder: &Folder, records: i64) -> StreamName {
    let journal = folder.journal();
    for n in 0..records {
        journal.append(vec![batch("s", n, 1)]).await.expect("appends");
    }
    journal.close().await;
    StreamName::parse("s").expect("allowed")
}

/// Bytes of the journal's frames, so that what is cut or flipped lies among them.
fn written(path: &Path) -> usize {
    let bytes = std::fs::read(path).expect("readable");
    bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1
}

/// Cuts the last segment at every byte of its last 4 KiB: either the start is refused, because an intact frame
/// or the published end says that more was durable, or exactly the records before the cut are there.
#[tokio::test]
async fn a_segment_cut_at_any_byte_is_recovered_or_refused() {
    let folder = Folder::new(1 << 20);
    let stream = filled(&folder, 30).await;
    let path = folder.last_segment();
    let whole = std::fs::read(&path).expect("readable");
    let end = written(&path);
    let step = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        1
    } else {
        31
    };
    for cut in (end - 4_096..=end).step_by(step) {
        let other = Folder::new(1 << 20);
        std::fs::create_dir_all(other.options().directory).expect("created");
        std::fs::write(
            other.options().directory.join(path.file_name().expect("a name")),
            &whole[..cut],
        )
        .expect("written");
        let journal = other.journal();
        let found: Vec<_> = read_all(&*journal, &stream, Offset(0))
            .await
            .iter()
            .flat_map(rows)
            .collect();
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "cut at {cut}");
        assert!(
            found.len() >= 10 && (cut < end || found.len() == 30),
            "cut at {cut}: {} records",
            found.len()
        );
        journal
            .append(vec![batch("s", found.len() as i64, 1)])
            .await
            .expect("goes on");
    }
}

/// Flips bits: never a wrong record. What was acknowledged before the last group is refused, not skipped.
#[tokio::test]
async fn flipped_bits_never_become_records() {
    let folder = Folder::new(1 << 20);
    let stream = filled(&folder, 12).await;
    let path = folder.last_segment();
    let whole = std::fs::read(&path).expect("readable");
    let end = written(&path);
    let step = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        1
    } else {
        13
    };
    let (mut refused, mut recovered) = (0, 0);
    for at in (0..end).step_by(step) {
        let other = Folder::new(1 << 20);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::create_dir_all(other.options().directory).expect("created");
        std::fs::write(
            other.options().directory.join(path.file_name().expect("a name")),
            &bytes,
        )
        .expect("written");
        match EmbeddedJournal::open(other.options()) {
            Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
            Ok(journal) => {
                recovered += 1;
                let found: Vec<_> = read_all(&*journal, &stream, Offset(0))
                    .await
                    .iter()
                    .flat_map(rows)
                    .collect();
                assert!(
                    found.len() >= 11,
                    "byte {at}: {} acknowledged records were skipped",
                    12 - found.len()
                );
                assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "byte {at}");
            }
        }
    }
    assert!(
        refused > 0 && recovered > 0,
        "{refused} refused, {recovered} recovered"
    );
}

#[tokio::test]
async fn verify_counts_what_is_there_and_names_what_is_damaged() {
    let folder = Folder::new(64 << 10);
    filled(&folder, 300).await;
    let directory = folder.options().directory;
    let verified = verify(&directory).expect("whole");
    assert_eq!((verified.records, verified.rows), (300, 300));
    assert!(verified.segments > 1, "{verified:?}");
    let first = directory.join(format!("{:020}.segment", 1));
    let mut bytes = std::fs::read(&first).expect("readable");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&first, bytes).expect("written");
    assert!(matches!(verify(&directory), Err(OpenError::Damaged { .. })));
}

/// A reader in another process follows the writer: through rolls, removed segments and a restart.
#[tokio::test]
async fn a_reader_beside_the_writer_sees_what_is_durable_as_it_comes() {
    let folder = Folder::new(64 << 10);
    let stream = StreamName::parse("s").expect("allowed");
    let writer = folder.journal();
    writer.append(vec![batch("s", 0, 1)]).await.expect("appends");
    let follower = EmbeddedJournal::open_read_only(folder.options()).expect("opens beside the writer");
    let mut reader = follower
        .reader(&stream, Position::default())
        .await
        .expect("is there");
    let follows = async move {
        let mut found = Vec::new();
        while found.len() < 400 {
            found.extend(reader.next(10_000).await.expect("readable").iter().flat_map(rows));
        }
        found
    };
    let mut following = tokio::task::JoinSet::new();
    following.spawn(follows);
    for n in 1..200 {
        writer.append(vec![batch("s", n, 1)]).await.expect("appends");
        let end = follower.end(&stream).await.expect("known")[0];
        assert_eq!(
            end.offset,
            Offset(n as u64 + 1),
            "what was acknowledged is visible at once"
        );
    }
    writer.close().await;
    drop(writer);
    let writer = folder.journal();
    for n in 200..400 {
        writer.append(vec![batch("s", n, 1)]).await.expect("appends");
    }
    let found = following.join_next().await.expect("one task").expect("follows");
    assert_eq!(found, (0..400).collect::<Vec<_>>());
    let stored = [Position::new(Partition(0), Offset(400))];
    writer.retain(&stream, &stored).await.expect("retains");
    writer.append(vec![batch("s", 400, 1)]).await.expect("appends");
    let start = writer.start(&stream).await.expect("known");
    assert!(start[0].offset > Offset(200), "{start:?}");
    for n in 401..600 {
        writer.append(vec![batch("s", n, 1)]).await.expect("appends");
    }
    let seen = follower.start(&stream).await.expect("known")[0];
    assert!(
        seen.offset > Offset(200),
        "the follower lets removed segments go: {seen:?}"
    );
}

/// Every opening begins a segment; what it reserves is given back.
#[tokio::test]
async fn restarts_do_not_use_up_the_disk() {
    let folder = Folder::new(8 << 20);
    for n in 0..10 {
        let journal = folder.journal();
        journal.append(vec![batch("s", n, 1)]).await.expect("appends");
        drop(journal);
    }
    let journal = folder.journal();
    let lengths: Vec<_> = std::fs::read_dir(folder.options().directory)
        .expect("listed")
        .map(|entry| entry.expect("entry").metadata().expect("known").len())
        .collect();
    assert!(lengths.iter().sum::<u64>() < 9 << 20, "{lengths:?}");
    let stream = StreamName::parse("s").expect("allowed");
    assert_eq!(read_all(&*journal, &stream, Offset(0)).await.len(), 10);
}

/// Whoever holds a reader can read again what it was opened at: a query that takes long, or a client that does.
#[tokio::test]
async fn nothing_is_removed_under_an_open_reader() {
    let folder = Folder::new(64 << 10);
    let journal = folder.journal();
    let stream = StreamName::parse("s").expect("allowed");
    for n in 0..200 {
        journal.append(vec![batch("s", n, 100)]).await.expect("appends");
    }
    let held = Position::new(Partition(0), Offset(100));
    let holder = journal.reader(&stream, held).await.expect("is there");
    let stored = [Position::new(Partition(0), Offset(200))];
    journal.retain(&stream, &stored).await.expect("retains");
    let start = journal.start(&stream).await.expect("known")[0];
    assert!(Offset(0) < start.offset && start.offset <= held.offset, "{start}");
    assert_eq!(read_all(&*journal, &stream, held.offset).await.len(), 100);
    drop(holder);
    journal.retain(&stream, &stored).await.expect("retains");
    assert!(journal.start(&stream).await.expect("known")[0].offset > held.offset);
}

/// The published durable end says what was acknowledged, so what is missing below it refuses the start.
#[tokio::test]
async fn what_the_published_end_names_is_never_cut() {
    for damage in ["cut", "zeros", "flip"] {
        let folder = Folder::new(1 << 20);
        filled(&folder, 12).await;
        let path = folder.last_segment();
        let mut bytes = std::fs::read(&path).expect("readable");
        let end = written(&path);
        match damage {
            "cut" => bytes.truncate(end / 2),
            "zeros" => bytes[end - 3_000..end].fill(0),
            _ => bytes[end - 100] ^= 1,
        }
        std::fs::write(&path, bytes).expect("written");
        let refused = EmbeddedJournal::open(folder.options()).err();
        assert!(
            matches!(refused, Some(OpenError::Damaged { .. })),
            "{damage}: {refused:?}"
        );
        let found = verify(&folder.options().directory);
        assert!(
            matches!(found, Err(OpenError::Damaged { .. })),
            "{damage}: {found:?}"
        );
    }
}
