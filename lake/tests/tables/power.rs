//! I-2, I-3 and I-8 when the power is cut at any step, and when any call of the disk fails.
//!
//! Method: one script of commits, compaction, restart, vacuum and retention runs on a disk that remembers each step.
//! For every prefix of the steps what was not fsynced is dropped, torn and reordered; then the table is opened:
//! what was acknowledged is there, each row once, and every listed file is whole. Leaving out any one of the named
//! fsyncs must break that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event::{Partition, StreamDeclaration};
use lake::{LakeError, SyncPoint, Table};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixture::{FIRST_TIME, append, compact, declaration, rows_below, table_on};
use crate::simulated::{Loss, Model, Shared, SimulatedDisk, Step, Trouble, UnsyncedDisk};

const SEED: u64 = 20_261_121;
/// Where the lake lies below what is there already: two directories have to be made.
const ROOT: &str = "data/lake";
/// The link (commit) whose answer gets lost: the third append.
const LOST_ANSWER: usize = 4;

fn soak() -> bool {
    std::env::var_os("TIDEMILL_SOAK").is_some()
}

fn stream() -> StreamDeclaration {
    StreamDeclaration {
        retention: Some(Duration::from_secs(1)),
        ..declaration()
    }
}

async fn open(root: &Path, disk: &Arc<SimulatedDisk>) -> Result<Arc<Table>, LakeError> {
    let table = table_on(&root.join(ROOT), stream(), Arc::new(Shared(Arc::clone(disk)))).await?;
    // The sink tells the journal at once.
    for position in &table.snapshot().await?.positions {
        disk.acknowledge(position.partition.0, position.offset.0);
    }
    Ok(table)
}

async fn append_one(
    table: &Table,
    disk: &SimulatedDisk,
    partition: u32,
    from: u64,
    to: u64,
) -> Result<(), LakeError> {
    append(table, partition, from, to).await?;
    disk.acknowledge(partition, to);
    Ok(())
}

/// Everything that a table lives through. Stops at the first error.
async fn script(root: &Path, disk: &Arc<SimulatedDisk>) -> Result<(), LakeError> {
    let table = open(root, disk).await?;
    append_one(&table, disk, 0, 0, 1).await?;
    append_one(&table, disk, 0, 1, 2).await?;
    append_one(&table, disk, 1, 0, 1).await?;
    append_one(&table, disk, 0, 2, 3).await?;
    compact(&table).await?;
    drop(table);
    let table = open(root, disk).await?;
    append_one(&table, disk, 0, 3, 4).await?;
    table.vacuum().await?;
    append_one(&table, disk, 1, 1, 3).await?;
    table.expire(FIRST_TIME + 3_500_000_000).await?;
    table.vacuum().await?;
    append_one(&table, disk, 0, 4, 6).await
}

/// The last offsets that somebody was told.
fn acknowledged(steps: &[Step]) -> BTreeMap<u32, u64> {
    let told = steps.iter().filter_map(|step| match step {
        Step::Acknowledge { partition, offset } => Some((*partition, *offset)),
        _ => None,
    });
    told.collect()
}

/// What is wrong with the table that is left in a directory.
async fn look(root: &Path, acknowledged: &BTreeMap<u32, u64>) -> Result<(), String> {
    let table = table_on(&root.join(ROOT), stream(), Arc::new(UnsyncedDisk)).await;
    let table = table.map_err(|error| format!("the table does not open: {error}"))?;
    let snapshot = table.snapshot().await.map_err(|error| error.to_string())?;
    for (partition, offset) in acknowledged {
        let stored = snapshot.position(Partition(*partition)).offset.0;
        if stored < *offset {
            return Err(format!(
                "partition {partition} was told {offset}, there is {stored}"
            ));
        }
    }
    let rows: u64 = snapshot
        .positions
        .iter()
        .map(|position| rows_below(position.offset.0))
        .sum();
    if snapshot.end_index() != rows {
        return Err(format!(
            "there are {} rows, the positions say {rows}",
            snapshot.end_index()
        ));
    }
    let report = table.verify().await.map_err(|error| error.to_string())?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(problem.clone()),
    }
}

async fn look_after_power_cut(model: &Model, loss: Loss, seed: u64, steps: &[Step]) -> Result<(), String> {
    let left = tempfile::tempdir().expect("a directory");
    model.leave(left.path(), loss, &mut ChaCha8Rng::seed_from_u64(seed));
    look(left.path(), &acknowledged(steps)).await
}

async fn run(trouble: Trouble) -> Vec<Step> {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = SimulatedDisk::new(directory.path(), trouble, 0);
    script(directory.path(), &disk).await.expect("nothing fails");
    disk.steps()
}

/// The process ends after some steps, another one opens the table, and then the power is cut.
async fn restart_then_power_cut(steps: &[Step], skipped: Option<SyncPoint>) -> Result<(), String> {
    let model = Model::after(steps);
    let directory = tempfile::tempdir().expect("a directory");
    model.leave(directory.path(), Loss::None, &mut ChaCha8Rng::seed_from_u64(SEED));
    let trouble = Trouble {
        skipped,
        ..Trouble::default()
    };
    let disk = SimulatedDisk::new(directory.path(), trouble, 1_000_000);
    let opened = open(directory.path(), &disk).await;
    opened.map_err(|error| format!("the table does not open: {error}"))?;
    let later = disk.steps();
    look_after_power_cut(&model.and_then(&later), Loss::All, SEED, &later).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut_at_any_step() {
    println!("seed {SEED}");
    let steps = run(Trouble {
        lost_answer: Some(LOST_ANSWER),
        ..Trouble::default()
    })
    .await;
    let seeds = if soak() { 40 } else { 1 };
    for end in 0..=steps.len() {
        let steps = &steps[..end];
        let model = Model::after(steps);
        for loss in [Loss::All, Loss::None] {
            let found = look_after_power_cut(&model, loss, SEED, steps).await;
            assert_eq!(
                found,
                Ok(()),
                "after step {end}, {:?}, loss {loss:?}",
                steps.last()
            );
        }
        for seed in SEED..SEED + seeds {
            let found = look_after_power_cut(&model, Loss::Some, seed, steps).await;
            assert_eq!(found, Ok(()), "after step {end}, {:?}, seed {seed}", steps.last());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_process_tells_survives_a_power_cut() {
    let steps = run(Trouble::default()).await;
    for end in 0..=steps.len() {
        let found = restart_then_power_cut(&steps[..end], None).await;
        assert_eq!(found, Ok(()), "after step {end}, {:?}", steps[..end].last());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_while_the_log_expires_loses_nothing() {
    println!("seed {SEED}");
    let directory = tempfile::tempdir().expect("a directory");
    let disk = SimulatedDisk::new(directory.path(), Trouble::default(), 0);
    let table = open(directory.path(), &disk).await.expect("opens");
    for offset in 0..52 {
        append_one(&table, &disk, 0, offset, offset + 1)
            .await
            .expect("appended");
    }
    let begin = disk.steps().len();
    // The first one writes a checkpoint, the second one finds it old enough.
    for _ in 0..2 {
        table.vacuum().await.expect("vacuumed");
    }
    append_one(&table, &disk, 0, 52, 53).await.expect("appended");
    let steps = disk.steps();
    let removed = steps[begin..]
        .iter()
        .filter(|step| matches!(step, Step::Remove { .. }))
        .count();
    assert!(removed > 40, "only {removed} entries expired");
    for end in begin..=steps.len() {
        let steps = &steps[..end];
        let model = Model::after(steps);
        for loss in [Loss::All, Loss::Some, Loss::None] {
            let found = look_after_power_cut(&model, loss, SEED + end as u64, steps).await;
            assert_eq!(
                found,
                Ok(()),
                "after step {end}, {:?}, loss {loss:?}",
                steps.last()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_out_any_fsync_loses_something() {
    for point in SyncPoint::ALL {
        let steps = run(Trouble {
            skipped: Some(point),
            lost_answer: Some(LOST_ANSWER),
            ..Trouble::default()
        })
        .await;
        let mut lost = None;
        for end in 0..=steps.len() {
            let steps = &steps[..end];
            let mut found = look_after_power_cut(&Model::after(steps), Loss::All, SEED, steps).await;
            if point == SyncPoint::OpenedLog && found.is_ok() {
                found = restart_then_power_cut(steps, Some(point)).await;
            }
            if let Err(problem) = found {
                lost = Some((end, problem));
                break;
            }
        }
        let (end, problem) = lost.unwrap_or_else(|| panic!("nothing is lost without {point:?}"));
        println!("without {point:?}, after step {end}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_nothing_is_lost_and_the_table_goes_on_after_a_restart() {
    let mut failing_call = 0;
    loop {
        let directory = tempfile::tempdir().expect("a directory");
        let trouble = Trouble {
            failing_call: Some(failing_call),
            ..Trouble::default()
        };
        let disk = SimulatedDisk::new(directory.path(), trouble, 0);
        let ended = script(directory.path(), &disk).await;
        let Some(what) = disk.failed() else {
            ended.expect("nothing failed");
            break;
        };
        if what == "sync" {
            let error = ended.expect_err("a failed fsync is no success");
            assert!(
                matches!(error, LakeError::SyncFailed { .. }),
                "call {failing_call}: {error}"
            );
        }
        let told = acknowledged(&disk.steps());
        let found = look(directory.path(), &told).await;
        assert_eq!(found, Ok(()), "call {failing_call} failed to {what}");

        let table = table_on(&directory.path().join(ROOT), stream(), Arc::new(UnsyncedDisk)).await;
        let table = table.expect("opens after a restart");
        for (partition, end) in [(0, 8), (1, 4)] {
            let stored = table
                .snapshot()
                .await
                .expect("a snapshot")
                .position(Partition(partition))
                .offset
                .0;
            append(&table, partition, stored, end).await.expect("goes on");
        }
        let snapshot = table.snapshot().await.expect("a snapshot");
        assert_eq!(
            snapshot.end_index(),
            rows_below(8) + rows_below(4),
            "call {failing_call}"
        );
        failing_call += 1;
    }
    println!("{failing_call} calls failed in turn");
    assert!(failing_call > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_fsync_nothing_more_is_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = SimulatedDisk::new(directory.path(), Trouble::default(), 0);
    script(directory.path(), &disk).await.expect("nothing fails");
    // Each fsync of the first append.
    let mut calls = 0;
    let mut tried = 0;
    while tried < 4 {
        let directory = tempfile::tempdir().expect("a directory");
        let trouble = Trouble {
            failing_call: Some(calls),
            ..Trouble::default()
        };
        calls += 1;
        let disk = SimulatedDisk::new(directory.path(), trouble, 0);
        let Ok(table) = open(directory.path(), &disk).await else {
            continue;
        };
        if append(&table, 0, 0, 1).await.is_ok() || disk.failed() != Some("sync") {
            continue;
        }
        tried += 1;
        for _ in 0..3 {
            let error = LakeError::from(append(&table, 0, 0, 1).await.expect_err("poisoned"));
            assert!(matches!(error, LakeError::SyncFailed { .. }), "{error}");
        }
        assert!(compact(&table).await.is_err());
        assert!(table.vacuum().await.is_err());
        assert!(matches!(table.sync_failed().await, LakeError::SyncFailed { .. }));
    }
}
