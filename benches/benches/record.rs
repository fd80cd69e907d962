//! The record codec: columns of a 1 MiB body of `running` → bytes of the journal, and back. Throughput is of the
//! JSON that they came from.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event::{Partition, record};
use server::load::generate::Starter;

fn codec(criterion: &mut Criterion) {
    let body = benches::body(Starter::Running, 1 << 20);
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let batches = benches::batches(Starter::Running, body).expect("accepted");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            for batch in &batches {
                black_box(record::encode(batch).expect("encodes"));
            }
        });
    });
    let records: Vec<_> = batches
        .iter()
        .map(|batch| record::encode(batch).expect("encodes"))
        .collect();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for bytes in &records {
                black_box(record::decode(Partition(0), bytes).expect("decodes"));
            }
        });
    });
    group.finish();
}

criterion_group!(all, codec);
criterion_main!(all);
