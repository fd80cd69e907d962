//! Appending to the embedded journal, each append durable (encoded, written, fdatasync): one request after the
//! other, and 64 at once that share their syncs.

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use event::Batch;
use journal::{Batcher, Journal};
use server::load::generate::Starter;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const CONCURRENT: usize = 64;

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory");
    let journal: Arc<dyn Journal> = benches::open_journal(directory.path()).expect("a journal");
    let mut group = criterion.benchmark_group("journal");

    let body = benches::body(Starter::Running, 1 << 20);
    let large = benches::batches(Starter::Running, body.clone()).expect("accepted");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("append_1mib", |bencher| {
        bencher.iter_batched(
            || large.clone(),
            |batches| forget(&runtime, &journal, batches),
            BatchSize::PerIteration,
        );
    });

    let small = benches::batches(Starter::Running, benches::events(Starter::Running, 1)).expect("accepted");
    // Its tasks live on the runtime that it is made in.
    let entered = runtime.enter();
    let batcher = Arc::new(Batcher::new(Arc::clone(&journal)));
    drop(entered);
    group.throughput(Throughput::Elements(CONCURRENT as u64));
    group.bench_function("append_64_single_events", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut appends = JoinSet::new();
                for _ in 0..CONCURRENT {
                    let (batcher, batch) = (Arc::clone(&batcher), small.clone());
                    appends.spawn(async move { batcher.append(batch).await });
                }
                while let Some(done) = appends.join_next().await {
                    done.expect("no panic").expect("appended");
                }
            });
        });
    });
    group.finish();
}

/// Appends, and lets the journal drop what it has: the disk is not to fill up while it is measured.
fn forget(runtime: &Runtime, journal: &Arc<dyn Journal>, batches: Vec<Batch>) {
    runtime.block_on(async {
        let stream = batches[0].stream.clone();
        let positions = journal.append(batches).await.expect("appended");
        journal.retain(&stream, &positions).await.expect("retained");
    });
}

criterion_group!(all, append);
criterion_main!(all);
