//! What a commit and following it cost in a table of 2,000 files. Ignored: it measures, and says so on the output.
//! `cargo test --release -p lake --test tables speed -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Offset, Partition};
use lake::{Advance, Disk, Lake, LakeOptions, LocalDisk};

use crate::fixture::{append, declaration, lake, write};
use crate::simulated::UnsyncedDisk;

const FILES: u64 = 2_000;
const ROUNDS: u64 = 100;

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
        let options = LakeOptions {
            root: directory.path().to_owned(),
            journal: String::new(),
            read_only: true,
            keep_removed: Duration::ZERO,
        };
        let begun = Instant::now();
        let follower = Lake::open(options).await.expect("opens");
        let follower = follower.table(Arc::new(declaration())).await.expect("opens");
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
        for (what, mut times) in [
            ("commit", commits),
            ("refresh", refreshes),
            ("unchanged", unchanged),
        ] {
            times.sort();
            println!(
                "  {what}: p50 {:?}, p99 {:?}, max {:?}",
                times[times.len() / 2],
                times[times.len() * 99 / 100],
                times[times.len() - 1]
            );
        }
    }
    let table = crate::fixture::table(directory.path()).await;
    append(&table, 0, next, next + 1).await.expect("appended");
}
