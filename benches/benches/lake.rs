//! Columns → one durable Parquet file, as the sink writes it. Throughput is of the JSON that the rows came from.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event::{Offset, schema};
use lake::WriterOptions;
use server::load::generate::Starter;
use tokio::runtime::Runtime;

/// A file of so much JSON is measured: enough for the costs of a file to be small beside those of its rows.
const BODY_BYTES: usize = 32 << 20;

fn encode(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory");
    let journal = benches::open_journal(&directory.path().join("journal")).expect("a journal");
    let tables = directory.path().join("lake");
    let opened = benches::open_lake(&tables, journal.as_ref());
    let lake = runtime.block_on(opened).expect("a lake");
    let mut group = criterion.benchmark_group("lake");
    group.sample_size(10);
    for starter in [Starter::Running, Starter::Activity, Starter::Tracking] {
        let stream = benches::stream(starter);
        let table = runtime
            .block_on(lake.table(Arc::clone(&stream)))
            .expect("a table");
        let body = benches::body(starter, BODY_BYTES);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let batches = benches::batches(starter, body).expect("accepted");
        let rows: Vec<RecordBatch> = batches
            .iter()
            .zip(0..)
            .map(|(batch, offset)| schema::place(batch, Offset(offset), &stream).expect("rows for the lake"))
            .collect();
        group.bench_function(format!("parquet_{}", starter.name()), |bencher| {
            bencher.iter(|| {
                let mut writer = table.writer(&WriterOptions::default()).expect("a writer");
                for rows in &rows {
                    writer.write(rows).expect("written");
                }
                let file = writer.finish().expect("durable");
                let path = directory
                    .path()
                    .join("lake")
                    .join(starter.name())
                    .join(&file.path);
                std::fs::remove_file(path).expect("removed");
            });
        });
    }
    group.finish();
}

criterion_group!(all, encode);
criterion_main!(all);
