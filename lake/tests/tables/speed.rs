//! What a commit and following it cost in a table of 2,000 files. Ignored: it measures, and says so on the output.
//! `cargo test --release --workspace --test tables speed -- --ignored --nocapture`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Offset, Partition};
use lake::{Advance, Disk, Lake, LakeOptions, LocalDisk, Table, WriterOptions};

use crate::fixture::{append, declaration, lake, write};
use crate::simulated::UnsyncedDisk;

const FILES: u64 = 2_000;
const ROUNDS: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn encoding_and_merging_a_million_events() {
    let stream = event::StreamDeclaration::starters()
        .into_iter()
        .find(|stream| stream.name.as_str() == "running")
        .expect("a starter stream");
    let directory = tempfile::tempdir().expect("a directory");
    let lake = lake(directory.path(), Arc::new(UnsyncedDisk))
        .await
        .expect("opens");
    let table = lake.table(Arc::new(stream.clone())).await.expect("opens");
    let records: Vec<_> = (0..128).map(|offset| running(&stream, offset)).collect();
    let begun = Instant::now();
    for (file, records) in records.chunks(16).enumerate() {
        let mut writer = table.writer(&WriterOptions::default()).expect("a writer");
        records
            .iter()
            .for_each(|rows| writer.write(rows).expect("written"));
        let advance = Advance {
            partition: Partition(0),
            from: Offset(file as u64 * 16),
            to: Offset(file as u64 * 16 + 16),
        };
        let written = writer.finish().expect("finished");
        table.commit(vec![written], &[advance]).await.expect("committed");
    }
    let rows = 128 * 8_192;
    println!("encoded: {} ns an event", begun.elapsed().as_nanos() / rows);
    let begun = Instant::now();
    let merged = crate::fixture::compact(&table).await.expect("compacted");
    println!(
        "merged {merged} files: {} ns an event",
        begun.elapsed().as_nanos() / rows
    );
}

/// A record of 8,192 events of 100,000 users.
fn running(stream: &event::StreamDeclaration, offset: i64) -> arrow_array::RecordBatch {
    use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    let numbers = offset * 8_192..(offset + 1) * 8_192;
    let mixed = |number: i64| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let schema = event::schema::lake(stream);
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let numbers = numbers.clone();
        match field.name().as_str() {
            "user_id" => Arc::new(StringArray::from_iter_values(numbers.map(|number| {
                let user = u128::from(mixed(number) % 100_000) * 0x1234_5678_9abc_def1_2345;
                uuid::Uuid::from_u128(user).to_string()
            }))),
            "timestamp" | "_received_at" => {
                let moments = TimestampMicrosecondArray::from_iter_values(
                    numbers.map(|number| crate::fixture::FIRST_TIME + number * 1_000),
                );
                Arc::new(moments.with_timezone("UTC"))
            }
            "_trace_id" => Arc::new(StringArray::from_iter_values(
                numbers.map(|_| format!("{offset:032x}")),
            )),
            "_partition" => Arc::new(Int32Array::from_value(0, 8_192)),
            "_offset" => Arc::new(Int64Array::from_value(offset, 8_192)),
            "_row" => Arc::new(Int32Array::from_iter_values(0..8_192)),
            _ => Arc::new(Int64Array::from_iter_values(
                numbers.map(|number| (mixed(number) % 10_000) as i64),
            )),
        }
    });
    arrow_array::RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("columns")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn commits_and_refreshes_with_2_000_files() {
    let disks: [(&str, Arc<dyn Disk>); 2] = [
        ("without fsync", Arc::new(UnsyncedDisk)),
        ("with fsync", Arc::new(LocalDisk)),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let mut next = 0;
    for (name, disk) in disks {
        let lake = lake(directory.path(), disk).await.expect("opens");
        let table = lake.table(Arc::new(declaration())).await.expect("opens");
        if next == 0 {
            let files = (0..FILES).map(|offset| write(&table, 0, offset, offset + 1).expect("written"));
            let advance = Advance {
                partition: Partition(0),
                from: Offset(0),
                to: Offset(FILES),
            };
            table
                .commit(files.collect(), &[advance])
                .await
                .expect("committed");
            next = FILES;
        }
        // As maintenance does every minute: commits since the newest checkpoint are what a commit reads again.
        for _ in 0..60 {
            append(&table, 0, next, next + 1).await.expect("appended");
            next += 1;
        }
        table.vacuum().await.expect("vacuumed");
        let begun = Instant::now();
        let follower = follower(directory.path()).await;
        let opened = begun.elapsed();
        let (mut commits, mut refreshes, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let file = write(&table, 0, next, next + 1).expect("written");
            let advance = Advance {
                partition: Partition(0),
                from: Offset(next),
                to: Offset(next + 1),
            };
            next += 1;
            let begun = Instant::now();
            table.commit(vec![file], &[advance]).await.expect("committed");
            commits.push(begun.elapsed());
            let begun = Instant::now();
            let found = follower.snapshot().await.expect("a snapshot");
            refreshes.push(begun.elapsed());
            assert_eq!(found.files.len() as u64, next);
            let begun = Instant::now();
            follower.snapshot().await.expect("a snapshot");
            unchanged.push(begun.elapsed());
        }
        println!("{name}, {} files: opened in {opened:?}", next);
        print("commit", commits);
        print("refresh", refreshes);
        print("unchanged", unchanged);
    }
    let table = crate::fixture::table(directory.path()).await;
    append(&table, 0, next, next + 1).await.expect("appended");
}

/// Somebody else who reads the table.
async fn follower(root: &Path) -> Arc<Table> {
    let options = LakeOptions {
        root: root.to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: String::new(),
        read_only: true,
        shared: false,
        keep_removed: Duration::ZERO,
    };
    let lake = Lake::open(options).await.expect("opens");
    lake.table(Arc::new(declaration())).await.expect("opens")
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("  {what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
}
