//! Figures, not promises: `cargo test --release --workspace --test kafka -- --ignored --nocapture measure`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use event::{Batch, Offset, Partition, Position};
use futures::stream::{self, StreamExt};
use journal::Journal;
use journal::contract::batch;
use rand::{RngExt, SeedableRng};

use super::{Topics, brokers, name};

/// Values that do not repeat, so that nothing is cheaper than it would be.
fn random(bytes: usize, seed: u64) -> Batch {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let rows = 32_768.min(bytes / 8);
    let columns = (0..bytes / 8 / rows).map(|column| {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.random())));
        (format!("c{column}"), values)
    });
    let mut made = batch("a", 0, rows as u32);
    made.rows = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).expect("columns of one length");
    made
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute, and measures only on a machine that does nothing else"]
async fn measure_appends_ends_and_reads() {
    let Some(brokers) = brokers() else { return };
    for (bytes, in_flight) in [(512 << 10, 4), (512 << 10, 16), (2 << 20, 8), (4 << 20, 4)] {
        let topics = Topics::new(&brokers);
        let journal = topics.open(&["a"]).await;
        let batches: Vec<_> = (0..16).map(|seed| random(bytes, seed)).collect();
        journal.append(vec![batches[0].clone()]).await.expect("appends");
        let total = 512 << 20;
        let begun = Instant::now();
        let mut took: Vec<Duration> = stream::iter(0..total / bytes)
            .map(|n| {
                let (journal, batch) = (&journal, batches[n % 16].clone());
                async move {
                    let begun = Instant::now();
                    journal.append(vec![batch]).await.expect("appends");
                    begun.elapsed()
                }
            })
            .buffer_unordered(in_flight)
            .collect()
            .await;
        let rate = total as f64 / 1e6 / begun.elapsed().as_secs_f64();
        took.sort();
        let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        println!(
            "append {} KiB × {in_flight}: {rate:.0} MB/s, p50 {half:?}, p99 {most:?}",
            bytes >> 10
        );

        let mut reader = journal
            .reader(&name("a"), Position::new(Partition(0), Offset(0)))
            .await
            .expect("opens");
        let end = journal.end(&name("a")).await.expect("known")[0].offset;
        let (begun, mut read) = (Instant::now(), 0);
        while reader.position().offset < end {
            let records = reader.next(8 << 20).await.expect("reads");
            read += records.iter().map(journal::Record::bytes).sum::<usize>();
        }
        println!(
            "read: {:.0} MB/s",
            read as f64 / 1e6 / begun.elapsed().as_secs_f64()
        );
    }
    let topics = Topics::new(&brokers);
    let journal = topics.open(&["a"]).await;
    let mut ends = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        journal.end(&name("a")).await.expect("known");
        ends.push(begun.elapsed());
    }
    ends.sort();
    println!("end: p50 {:?}, p99 {:?}", ends[250], ends[495]);
    let mut small = Vec::new();
    let mut fresh = Vec::new();
    for n in 0..200 {
        let begun = Instant::now();
        let position = journal.append(vec![batch("a", n, 1)]).await.expect("appends")[0];
        small.push(begun.elapsed());
        let begun = Instant::now();
        let from = Position::new(Partition(0), Offset(position.offset.0 - 1));
        let mut reader = journal.reader(&name("a"), from).await.expect("opens");
        reader.next(1).await.expect("reads");
        fresh.push(begun.elapsed());
    }
    small.sort();
    fresh.sort();
    println!("append of one row: p50 {:?}, p99 {:?}", small[100], small[198]);
    println!(
        "open a reader and read one record: p50 {:?}, p99 {:?}",
        fresh[100], fresh[198]
    );
}
