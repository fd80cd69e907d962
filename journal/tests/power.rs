//! What the embedded journal keeps when the power is cut at any moment, and when any operation of the disk fails.
//!
//! Method: a seeded script runs on a [`SimulatedDisk`], which records every write and sync. For every prefix of
//! that record disks are made as a power cut could leave them, and opened again. Whatever was acknowledged, or
//! could be read by somebody, by then must be there, at its offset; the model is a map. Then each place in the
//! code that syncs is left out in turn, and the same check must find a loss.

mod power {
    pub(crate) mod disk;
}

use std::collections::BTreeMap;
use std::sync::Arc;

use event::{Offset, Partition, Position, StreamName};
use journal::contract::{batch, rows};
use journal::embedded::disk::SyncPoint;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use journal::{AppendError, Journal};
use power::disk::SimulatedDisk;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STREAMS: [&str; 3] = ["a", "b", "c"];
const SEED: u64 = 20_261_121;

/// What a script notes between the disk's operations.
#[derive(Clone, Debug)]
enum Mark {
    /// A record was acknowledged, or somebody has read it: its stream, offset and rows.
    Kept(&'static str, u64, Vec<i64>),
    /// Records of a stream below an offset may go.
    Stored(&'static str, u64),
}

/// Records by stream and offset.
type Found = BTreeMap<(&'static str, u64), Vec<i64>>;

type TestDisk = SimulatedDisk<Mark>;

fn soak() -> bool {
    std::env::var_os("TIDEMILL_SOAK").is_some()
}

fn options() -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new("/data/journal");
    (options.segment_bytes, options.disk_reserve_bytes) = (12 << 10, 0);
    options
}

fn open(disk: &TestDisk) -> Result<Arc<EmbeddedJournal>, String> {
    EmbeddedJournal::open_on(Arc::new(disk.clone()), options(), None).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

fn name(stream: &str) -> StreamName {
    StreamName::parse(stream).expect("allowed")
}

/// Everything that can be read, by stream and offset.
async fn readable(journal: &EmbeddedJournal) -> Result<Found, String> {
    let mut found = Found::new();
    for stream in STREAMS {
        let of = name(stream);
        let (from, end) = (journal.start(&of).await, journal.end(&of).await);
        let (from, end) = (from.expect("known")[0], end.expect("known")[0]);
        let mut reader = journal
            .reader(&of, from)
            .await
            .map_err(|error| error.to_string())?;
        while reader.position().offset < end.offset {
            let records = reader.next(100_000).await.map_err(|error| error.to_string())?;
            found.extend(
                records
                    .iter()
                    .map(|record| ((stream, record.offset.0), rows(record))),
            );
        }
    }
    Ok(found)
}

/// Opens the journal and notes what can be read: a sink may have stored it from now on.
async fn reopened(disk: &TestDisk) -> Result<Arc<EmbeddedJournal>, String> {
    let journal = open(disk)?;
    for ((stream, offset), rows) in readable(&journal).await? {
        disk.mark(Mark::Kept(stream, offset, rows));
    }
    Ok(journal)
}

/// Appends random groups, removes what is stored now and then, and notes what was acknowledged.
async fn run(
    disk: &TestDisk,
    journal: &EmbeddedJournal,
    appends: usize,
    random: &mut impl Rng,
) -> Result<(), AppendError> {
    for _ in 0..appends {
        let group: Vec<_> = (0..random.random_range(1..=3))
            .map(|_| {
                let stream = STREAMS[random.random_range(0..STREAMS.len())];
                (
                    stream,
                    random.random_range(0..1_000_000),
                    random.random_range(1..=120),
                )
            })
            .collect();
        let batches = group
            .iter()
            .map(|(stream, first, rows)| batch(stream, *first, *rows));
        let positions = journal.append(batches.collect()).await?;
        for ((stream, first, rows), position) in group.into_iter().zip(positions) {
            let rows = (first..first + i64::from(rows)).collect();
            disk.mark(Mark::Kept(stream, position.offset.0 - 1, rows));
        }
        if random.random_range(0..8) == 0 {
            store(disk, journal).await;
        }
    }
    Ok(())
}

/// Says that everything is stored, so that several segments go at once.
async fn store(disk: &TestDisk, journal: &EmbeddedJournal) {
    let mut ends = Vec::new();
    for stream in STREAMS {
        let end = journal.end(&name(stream)).await.expect("known")[0].offset.0;
        disk.mark(Mark::Stored(stream, end));
        ends.push((stream, end));
    }
    for (stream, end) in ends {
        let stored = [Position::new(Partition(0), Offset(end))];
        // That it fails is tested where operations fail on purpose.
        drop(journal.retain(&name(stream), &stored).await);
    }
}

/// A life with a clean end, one that ends with a failed fsync, a kill, and one more.
async fn script(disk: &TestDisk, random: &mut impl Rng) {
    let journal = reopened(disk).await.expect("opens");
    run(disk, &journal, 30, random).await.expect("appends");
    drop(journal);

    let journal = reopened(disk).await.expect("opens");
    run(disk, &journal, 12, random).await.expect("appends");
    // The next group is written, and its fsync fails.
    disk.fail(Some(1));
    let failed = run(disk, &journal, 1, random).await;
    assert!(matches!(failed, Err(AppendError::Poisoned { .. })), "{failed:?}");
    disk.fail(None);
    drop(journal);

    let journal = reopened(disk).await.expect("opens");
    run(disk, &journal, 20, random).await.expect("appends");
}

/// Opens a disk after a power cut, and says what is wrong with it.
async fn check(disk: &TestDisk, marks: &[Mark]) -> Result<(), String> {
    let mut kept = BTreeMap::new();
    for mark in marks {
        match mark {
            Mark::Kept(stream, offset, rows) => drop(kept.insert((*stream, *offset), rows)),
            Mark::Stored(stream, end) => kept.retain(|(of, offset), _| of != stream || offset >= end),
        }
    }
    let journal = open(disk)?;
    let found = readable(&journal).await?;
    for (place, rows) in kept {
        if found.get(&place) != Some(rows) {
            return Err(format!(
                "{place:?} was acknowledged and is {:?}",
                found.get(&place)
            ));
        }
    }
    let positions = journal.append(vec![batch("a", 0, 1)]).await;
    positions
        .map(drop)
        .map_err(|error| format!("takes nothing: {error}"))
}

/// The first loss that power cuts after each operation of the script find.
async fn first_loss(disk: &TestDisk, cuts: usize) -> Option<String> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for operations in 0..=disk.operations() {
        for cut in 0..cuts {
            let (left, marks) = disk.after_power_cut(operations, &mut random);
            if let Err(loss) = check(&left, &marks).await {
                return Some(format!(
                    "power cut {cut} after {operations} operations, seed {SEED}: {loss}"
                ));
            }
        }
    }
    None
}

async fn recorded(seed: u64, left_out: Option<SyncPoint>) -> TestDisk {
    let disk = TestDisk::new();
    if let Some(point) = left_out {
        disk.leave_out(point);
    }
    script(&disk, &mut ChaCha8Rng::seed_from_u64(seed)).await;
    disk
}

#[tokio::test]
async fn what_was_acknowledged_or_read_survives_a_power_cut_at_any_moment() {
    let seeds = if soak() { 40 } else { 1 };
    let mut written_again = 0;
    for seed in SEED..SEED + seeds {
        let disk = recorded(seed, None).await;
        written_again += disk.renamed("segment");
        let loss = first_loss(&disk, if soak() { 12 } else { 3 }).await;
        assert_eq!(loss, None, "script {seed}");
    }
    assert!(written_again >= 3, "the script hardly writes files again");
}

/// Removing any single fsync from the code must fail a test: this one is what would fail.
#[tokio::test]
async fn every_fsync_is_needed() {
    for point in SyncPoint::ALL {
        let mut loss = None;
        for seed in SEED..SEED + 8 {
            let disk = recorded(seed, Some(point)).await;
            loss = first_loss(&disk, 6).await;
            if loss.is_some() {
                break;
            }
        }
        assert!(loss.is_some(), "nothing is lost without the fsync of {point:?}");
    }
}

/// Fails every operation of the script in turn: nothing is acknowledged after a failed write or fsync, and a
/// restart from what the cache or the disk holds has all that was acknowledged.
#[tokio::test]
async fn any_failed_operation_loses_nothing_that_was_acknowledged() {
    let appends = 60;
    let whole = TestDisk::new();
    whole.fail(None);
    let journal = reopened(&whole).await.expect("opens");
    run(&whole, &journal, appends, &mut ChaCha8Rng::seed_from_u64(SEED))
        .await
        .expect("appends");
    drop(journal);
    let operations = whole.counted();
    assert!(operations >= 200, "the script has only {operations} operations");

    for number in 0..operations {
        let (disk, mut random) = (TestDisk::new(), ChaCha8Rng::seed_from_u64(SEED));
        disk.fail(Some(number));
        if let Ok(journal) = reopened(&disk).await
            && let Err(error) = run(&disk, &journal, appends, &mut random).await
        {
            let again = journal.append(vec![batch("a", 0, 1)]).await;
            assert!(again.is_err(), "acknowledged after {error}, operation {number}");
        }
        disk.fail(None);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let (left, marks) = disk.after_power_cut(disk.operations(), &mut random);
        check(&left, &marks)
            .await
            .unwrap_or_else(|loss| panic!("operation {number}, then a power cut: {loss}"));
        check(&disk, &marks)
            .await
            .unwrap_or_else(|loss| panic!("operation {number}, then a kill: {loss}"));
    }
}

/// A full disk is not a broken one: it is said, nothing is acknowledged, and the journal goes on when there is room.
#[tokio::test]
async fn a_disk_without_room_for_a_segment_stops_nothing_for_good() {
    let disk = TestDisk::new();
    let journal = open(&disk).expect("opens");
    disk.fill(true);
    let mut refused = 0;
    for _ in 0..40 {
        match journal.append(vec![batch("a", 0, 100)]).await {
            Ok(_) => assert_eq!(refused, 0, "acknowledged on a full disk"),
            Err(AppendError::DiskReserve { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "the script does not fill a segment");
    disk.fill(false);
    let position = journal
        .append(vec![batch("a", 7, 1)])
        .await
        .expect("there is room again")[0];
    assert_eq!(position.offset.0, 40 - refused + 1);
    drop(journal);
    let found = readable(&open(&disk).expect("opens")).await.expect("readable");
    assert_eq!(found.len() as u64, position.offset.0);
}

/// What is kept to be written again is the first to go when others need the room.
#[tokio::test]
async fn spare_files_are_given_up_when_the_disk_is_nearly_full() {
    let disk = TestDisk::new();
    let with_reserve = EmbeddedOptions {
        disk_reserve_bytes: 1 << 20,
        ..options()
    };
    let journal = EmbeddedJournal::open_on(Arc::new(disk.clone()), with_reserve, None).expect("opens");
    for n in 0..40 {
        journal.append(vec![batch("a", n, 100)]).await.expect("appends");
    }
    store(&disk, &journal).await;
    assert!(disk.count("spare") > 0, "the script removes no segment");
    disk.set_free_bytes(1 << 19);
    let mut refused = false;
    for _ in 0..500 {
        // The system is asked a few times a second.
        match journal.append(vec![batch("a", 0, 1)]).await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(AppendError::DiskReserve { .. }) => {
                refused = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused, "the reserve is not kept");
    assert_eq!(disk.count("spare"), 0);
    store(&disk, &journal).await;
    assert_eq!(
        disk.count("spare"),
        0,
        "nothing is kept while the disk is nearly full"
    );
    disk.set_free_bytes(1 << 30);
    journal
        .append(vec![batch("a", 0, 1)])
        .await
        .expect("there is room again");
}

/// Opening needs room for a header only: who else could make room, if not those that read the journal?
#[tokio::test]
async fn a_journal_on_a_full_disk_opens_for_those_who_read_it() {
    let disk = TestDisk::new();
    let journal = open(&disk).expect("opens");
    journal.append(vec![batch("a", 0, 3)]).await.expect("appends");
    drop(journal);
    disk.fill(true);
    let journal = open(&disk).expect("opens on a full disk");
    let found = readable(&journal).await.expect("readable");
    assert_eq!(found.into_values().collect::<Vec<_>>(), [[0, 1, 2]]);
}
