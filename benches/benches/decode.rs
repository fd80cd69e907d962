//! NDJSON → columns on one core: flat events, events with a nested object, and deeper ones with optional members.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event::decode::{Decoder, Format};
use server::load::generate::Starter;

/// What hyper gives at once, about.
const CHUNK_BYTES: usize = 256 << 10;
const BODY_BYTES: usize = 4 << 20;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for starter in [Starter::Running, Starter::Activity, Starter::Tracking] {
        let stream = benches::stream(starter);
        let body = benches::body(starter, BODY_BYTES);
        let chunks: Vec<Bytes> = (0..body.len())
            .step_by(CHUNK_BYTES)
            .map(|at| body.slice(at..(at + CHUNK_BYTES).min(body.len())))
            .collect();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(starter.name(), |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::new(Arc::clone(&stream), Format::Ndjson);
                for chunk in &chunks {
                    decoder.push(chunk.clone()).expect("NDJSON");
                }
                black_box(decoder.finish().expect("NDJSON").accepted)
            });
        });
    }
    group.finish();
}

criterion_group!(all, decode);
criterion_main!(all);
