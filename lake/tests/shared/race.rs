//! Writers that append at once and die at any time, merges and vacuums between them, and a reader that follows.
//!
//! Method: each writer has partitions of its own, commits a few records at a time, and its task is dropped at random
//! moments and begun anew. What it had begun then goes on beside it, as that of a process that only seemed dead. The
//! reader compares each version with the one before: what had an index has it still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event::Partition;
use lake::{CommitError, CompactOptions, Fault, LakeError, Table, WriterOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use crate::fixture::{append, rows_below};
use crate::place::{Place, Reader, assert_whole};
use crate::s3::Bucket;

const SEED: u64 = 20_261_121;
const WRITERS: u32 = 4;
const PARTITIONS_EACH: u32 = 2;
/// Between two rounds of maintenance.
const REST: Duration = Duration::from_millis(20);

fn soak() -> bool {
    std::env::var_os("TIDEMILL_SOAK").is_some()
}

/// Brings partitions to their ends, one commit after the other.
async fn write(place: &Place, partitions: &[u32], end: u64, seed: u64) -> Result<(), LakeError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let table = place.open().await?;
    loop {
        let snapshot = table.snapshot().await?;
        let left: Vec<_> = partitions
            .iter()
            .map(|partition| (*partition, snapshot.position(Partition(*partition)).offset.0))
            .filter(|(_, stored)| *stored < end)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let (partition, from) = left[random.random_range(0..left.len())];
        let to = end.min(from + random.random_range(1..4));
        match append(&table, partition, from, to).await {
            Ok(after) => assert!(after.position(Partition(partition)).offset.0 >= to),
            // What a task that was dropped had begun.
            Err(CommitError::Moved { .. }) => {}
            Err(error) => {
                let error = LakeError::from(error);
                assert_eq!(error.fault(), Fault::Outage, "{error}");
            }
        }
    }
}

/// Writes until all is there, however often it is killed.
async fn write_and_die(
    place: Arc<Place>,
    partitions: Vec<u32>,
    end: u64,
    seed: u64,
    longest: Duration,
) -> u32 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut deaths = 0;
    loop {
        // Longer and longer, so that a busy machine comes to an end, too.
        let life = longest.mul_f64(random.random_range(0.1..1.0)) * (1 + deaths / 4);
        let life_seed = random.random();
        match tokio::time::timeout(life, write(&place, &partitions, end, life_seed)).await {
            Ok(Ok(())) => return deaths,
            Ok(Err(error)) => assert_eq!(error.fault(), Fault::Outage, "{error}"),
            Err(_) => {}
        }
        deaths += 1;
    }
}

/// Nothing that is removed stays for who still reads it here, so that reading fails now and then.
async fn patiently<T, F: Future<Output = Result<T, LakeError>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.fault(), Fault::Outage, "{error}"),
        }
    }
}

/// Merges and vacuums until all is written.
async fn maintain(place: Arc<Place>, done: Arc<AtomicBool>) -> u64 {
    let table = patiently(|| place.open()).await;
    let options = CompactOptions {
        small_bytes: 1 << 20,
        target_bytes: 8 << 20,
    };
    let mut merged = 0;
    while !done.load(Ordering::Relaxed) {
        // Another one may have merged and removed what this one reads.
        if let Ok(report) = table.compact(&options, &WriterOptions::default()).await {
            merged += report.files_removed;
        }
        patiently(|| table.vacuum()).await;
        // So that writers come to their turn on a busy machine.
        tokio::time::sleep(REST).await;
    }
    merged
}

/// Follows until all is written: nothing that has an index gets another one.
async fn follow(table: Arc<Table>, done: Arc<AtomicBool>) -> u64 {
    let (mut reader, mut known, mut versions) = (Reader::default(), Vec::new(), 0);
    loop {
        let last = done.load(Ordering::Relaxed);
        let snapshot = patiently(|| table.snapshot()).await;
        if let Some(events) = reader.events(&snapshot).await {
            assert!(
                events.len() >= known.len(),
                "rows went, at version {}",
                snapshot.version
            );
            assert_eq!(
                events[..known.len()],
                known[..],
                "an index changed, at version {}",
                snapshot.version
            );
            known = events;
            versions += 1;
        }
        if last {
            return versions;
        }
        tokio::task::yield_now().await;
    }
}

async fn race(place: Place, end: u64, longest_life: Duration) {
    println!("seed {SEED}");
    let place = Arc::new(place);
    let done = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    // They all begin with the same table, which nobody has made.
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let partitions = (0..PARTITIONS_EACH)
            .map(|number| writer * PARTITIONS_EACH + number)
            .collect();
        let seed = SEED + u64::from(writer);
        writers.spawn(write_and_die(
            Arc::clone(&place),
            partitions,
            end,
            seed,
            longest_life,
        ));
    }
    let mut maintainers = JoinSet::new();
    for _ in 0..2 {
        maintainers.spawn(maintain(Arc::clone(&place), Arc::clone(&done)));
    }
    let following = patiently(|| place.try_follow()).await;
    others.spawn(follow(following, Arc::clone(&done)));
    let deaths: u32 = writers.join_all().await.into_iter().sum();
    done.store(true, Ordering::Relaxed);
    let merged: u64 = maintainers.join_all().await.into_iter().sum();
    let versions: u64 = others.join_all().await.into_iter().sum();

    let table = place.follow().await;
    let snapshot = table.snapshot().await.expect("a snapshot");
    let partitions = WRITERS * PARTITIONS_EACH;
    let ends: Vec<_> = (0..partitions).map(|partition| (partition, end)).collect();
    let events = Reader::default()
        .events(&snapshot)
        .await
        .expect("every listed file is there");
    assert_whole(&events, &ends);
    assert_eq!(snapshot.end_index(), u64::from(partitions) * rows_below(end));
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
    println!(
        "{} versions, {deaths} deaths, {merged} files merged, {versions} versions looked at, {} rows",
        snapshot.version,
        events.len()
    );
    Arc::into_inner(place).expect("nobody else").remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_there_once_in_a_shared_directory_whoever_dies() {
    let end = if soak() { 400 } else { 25 };
    race(Place::directory(), end, Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_there_once_in_a_bucket_whoever_dies() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let end = if soak() { 150 } else { 10 };
    race(Place::Bucket(bucket), end, Duration::from_millis(1_500)).await;
}
