//! Processes that were thought dead: what they had begun is refused, or counts, and never both.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use event::{FieldDeclaration, FieldType, Offset, Partition, Position};
use lake::{
    Advance, CommitError, Disk, DiskFile, Lake, LakeError, LakeOptions, LocalDisk, SyncPoint, WriterOptions,
};

use crate::fixture::{append, compact, declaration, rows_below, write};
use crate::place::{Place, Reader, assert_whole};
use crate::s3::Bucket;

fn advance(partition: u32, from: u64, to: u64) -> Advance {
    Advance {
        partition: Partition(partition),
        from: Offset(from),
        to: Offset(to),
    }
}

async fn who_wakes_up_is_refused(place: Place) {
    let zombie = place.open().await.expect("opens");
    append(&zombie, 0, 0, 2).await.expect("appended");
    let written = write(&zombie, 0, 2, 5).expect("written");
    // It sleeps; another one takes its partition over.
    let heir = place.open().await.expect("opens");
    append(&heir, 0, 2, 4).await.expect("appended");
    let refused = zombie.commit(vec![written], &[advance(0, 2, 5)]).await;
    let Err(CommitError::Moved { from, stored }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (from, stored),
        (Position::new(Partition(0), Offset(2)), Offset(4))
    );
    // What is its own still goes on, and so does what it gets back.
    append(&zombie, 1, 0, 3).await.expect("appended");
    append(&zombie, 0, 4, 6).await.expect("appended");
    let refused = append(&heir, 0, 4, 5).await.expect_err("it has moved again");
    assert!(matches!(refused, CommitError::Moved { .. }), "{refused}");

    let snapshot = place.follow().await.snapshot().await.expect("a snapshot");
    let events = Reader::default().events(&snapshot).await.expect("whole");
    assert_whole(&events, &[(0, 6), (1, 3)]);
    drop((zombie, heir));
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_is_refused_in_a_directory() {
    who_wakes_up_is_refused(Place::directory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_is_refused_in_a_bucket() {
    if let Some(bucket) = Bucket::create().await {
        who_wakes_up_is_refused(Place::Bucket(bucket)).await;
    }
}

/// A disk that stops at the next commit until it is told to go on.
#[derive(Debug)]
struct Sleeping {
    inner: LocalDisk,
    armed: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Sleeping {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: LocalDisk,
            armed: Mutex::new(None),
        })
    }

    /// Stops the next commit. Gives who is told that it sleeps, and who wakes it up.
    fn arm(&self) -> (Receiver<()>, Sender<()>) {
        let (asleep, is_asleep) = channel();
        let (wake, woken) = channel();
        *self.armed.lock().expect("whole") = Some((asleep, woken));
        (is_asleep, wake)
    }
}

#[derive(Debug)]
struct Shared(Arc<Sleeping>);

impl Disk for Shared {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.inner.create(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let armed = self.0.armed.lock().expect("whole").take();
        if let Some((asleep, woken)) = armed {
            asleep.send(()).expect("the test waits");
            woken.recv().expect("the test wakes it");
        }
        self.0.inner.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.inner.remove(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.0.inner.create_directory(path)
    }
    fn sync_directory(&self, path: &Path, point: SyncPoint) -> io::Result<()> {
        self.0.inner.sync_directory(path, point)
    }
}

/// The log goes on past the zombie's version, and the entries that it knew expire, before its put is made.
async fn sleep_past_the_log(partition_moves: bool) {
    let place = Place::directory();
    let disk = Sleeping::new();
    let zombie = place
        .open_on(Arc::new(Shared(Arc::clone(&disk))))
        .await
        .expect("opens");
    append(&zombie, 7, 0, 1).await.expect("appended");
    let file = write(&zombie, 7, 1, 3).expect("written");
    let (asleep, wake) = disk.arm();
    let mut sleeping = tokio::task::JoinSet::new();
    let table = Arc::clone(&zombie);
    sleeping.spawn(async move { table.commit(vec![file], &[advance(7, 1, 3)]).await });
    tokio::task::spawn_blocking(move || asleep.recv().expect("it sleeps"))
        .await
        .expect("it sleeps");

    let other = place.open().await.expect("opens");
    for offset in 0..60 {
        append(&other, 0, offset, offset + 1).await.expect("appended");
    }
    if partition_moves {
        append(&other, 7, 1, 2).await.expect("appended");
    }
    // The first one writes a checkpoint, which it may find old enough already.
    let mut expired = 0;
    for _ in 0..2 {
        expired += other.vacuum().await.expect("vacuumed").log_files_deleted;
    }
    assert!(expired > 40, "{expired} entries expired");

    wake.send(()).expect("it waits");
    let committed = sleeping.join_next().await.expect("one").expect("it ends");
    let end = if partition_moves {
        assert!(
            matches!(
                committed,
                Err(CommitError::Moved {
                    stored: Offset(2),
                    ..
                })
            ),
            "{committed:?}"
        );
        2
    } else {
        let after = committed.expect("it is made on top of the newest version");
        assert_eq!(after.position(Partition(7)).offset, Offset(3));
        3
    };
    append(&zombie, 7, end, end + 1).await.expect("it goes on");
    append(&other, 0, 60, 61).await.expect("so does the other one");
    for table in [&zombie, &other, &place.follow().await] {
        let snapshot = table.snapshot().await.expect("a snapshot");
        let events = Reader::default().events(&snapshot).await.expect("whole");
        assert_whole(&events, &[(0, 61), (7, end + 1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_sleeps_until_its_version_has_expired_is_made_once_more() {
    sleep_past_the_log(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_sleeps_until_its_version_has_expired_is_refused_when_its_partition_moved() {
    sleep_past_the_log(true).await;
}

async fn two_merges_at_once(place: Place) {
    let first = place.open().await.expect("opens");
    for offset in 0..8 {
        append(&first, 0, offset, offset + 1).await.expect("appended");
    }
    let before = first.snapshot().await.expect("a snapshot");
    let known = Reader::default().events(&before).await.expect("whole");
    let second = place.open().await.expect("opens");
    let (one, two) = tokio::join!(compact(&first), compact(&second));
    // Whoever comes second may find sources gone while it reads.
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    compact(&first).await.expect("compacted");
    let after = first.snapshot().await.expect("a snapshot");
    assert!(after.files.len() < before.files.len());
    let events = Reader::default().events(&after).await.expect("whole");
    assert_eq!(events, known);
    drop((first, second));
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_merges_at_once_leave_one_result_in_a_directory() {
    two_merges_at_once(Place::directory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_merges_at_once_leave_one_result_in_a_bucket() {
    if let Some(bucket) = Bucket::create().await {
        two_merges_at_once(Place::Bucket(bucket)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_begin_with_a_new_column_at_once_all_have_it() {
    let place = Place::directory();
    let opened = place.open().await.expect("opens");
    append(&opened, 0, 0, 1).await.expect("appended");
    let mut later = declaration();
    later.fields.push(FieldDeclaration {
        name: "later".to_owned(),
        kind: FieldType::String { max_bytes: 64 },
        optional: true,
        description: String::new(),
        path: vec!["later".to_owned()],
    });
    let open = || async {
        let lake = Lake::open(place.options()).await.expect("opens");
        lake.table(Arc::new(later.clone())).await.expect("opens")
    };
    let tables = futures::future::join_all((0..4).map(|_| open())).await;
    for (partition, table) in (1..).zip(&tables) {
        append(table, partition, 0, 2).await.expect("appended");
    }
    // Who runs an older declaration still writes its columns.
    append(&opened, 0, 1, 2).await.expect("appended");
    let snapshot = tables[0].snapshot().await.expect("a snapshot");
    assert!(snapshot.schema.column_with_name("later").is_some());
    assert_eq!(snapshot.end_index(), 5 * rows_below(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_keeps_what_another_process_is_about_to_commit() {
    let place = Place::directory();
    let (writing, other) = (
        place.open().await.expect("opens"),
        place.open().await.expect("opens"),
    );
    append(&other, 1, 0, 1).await.expect("appended");
    let waiting = write(&writing, 0, 0, 2).expect("written");
    let open = {
        let mut open = writing.writer(&WriterOptions::default()).expect("a writer");
        open.write(&crate::fixture::record(writing.declaration(), 0, 2, 3_000))
            .expect("written");
        open
    };
    let directory = &writing.snapshot().await.expect("a snapshot").directory;
    let files = std::fs::read_dir(directory.local().expect("a directory")).expect("listed");
    let files = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let parquet = files.filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(parquet, 3, "the one that is open is there to be removed");
    assert_eq!(other.vacuum().await.expect("vacuumed").files_deleted, 0);
    writing
        .commit(vec![waiting], &[advance(0, 0, 2)])
        .await
        .expect("its file is there");
    let open = open.finish().expect("finished");
    writing
        .commit(vec![open], &[advance(0, 2, 3)])
        .await
        .expect("its file is there");

    // What is older than a minute nobody commits any more.
    let given_up = write(&writing, 0, 3, 4).expect("written");
    let snapshot = other.snapshot().await.expect("a snapshot");
    let path = snapshot
        .directory
        .local()
        .expect("a directory")
        .join(&given_up.path);
    let file = std::fs::File::options().write(true).open(&path).expect("opens");
    let old = SystemTime::now() - Duration::from_secs(120);
    file.set_modified(old).expect("can be set");
    assert_eq!(other.vacuum().await.expect("vacuumed").files_deleted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_share_a_directory_is_refused_while_others_do() {
    let place = Place::directory();
    let shared = Lake::open(place.options()).await.expect("opens");
    let alone = LakeOptions {
        shared: false,
        ..place.options()
    };
    let refused = Lake::open(alone.clone()).await.expect_err("in use");
    assert!(matches!(refused, LakeError::Locked { .. }), "{refused}");
    drop(shared);
    Lake::open(alone).await.expect("free");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_names_the_journal_that_fills_it() {
    let place = Place::directory();
    let stream = Arc::new(declaration());
    let lake = Lake::open(place.options()).await.expect("opens");
    let table = lake
        .table_of(Arc::clone(&stream), "topic-1")
        .await
        .expect("opens");
    append(&table, 0, 0, 2).await.expect("appended");
    // Whoever only asks for the table gets the one that is open.
    let same = lake.table(Arc::clone(&stream)).await.expect("open already");
    assert!(Arc::ptr_eq(&table, &same));
    let refused = lake
        .table_of(Arc::clone(&stream), "topic-2")
        .await
        .expect_err("another journal");
    assert!(matches!(refused, LakeError::OtherJournal { .. }), "{refused}");
    let start = [Position::new(Partition(0), Offset(1))];
    lake.adopt_of(Arc::clone(&stream), "topic-2", &start)
        .await
        .expect("adopted");
    let table = lake.table_of(stream, "topic-2").await.expect("opens");
    assert_eq!(table.snapshot().await.expect("a snapshot").positions, start);
    append(&table, 0, 1, 3).await.expect("appended");
}
