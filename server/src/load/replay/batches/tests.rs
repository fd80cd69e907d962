//! However lines and chunks fall, every line is sent once, in order, in the largest batch that is allowed.

use std::io::Write;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::options::{Source, Target};
use super::*;
use crate::load::generate::{GeneratorOptions, Starter};

fn options(source: Source, batch: BatchSize) -> Options {
    let target = Target::parse("http://127.0.0.1:1", Some("running")).expect("a target");
    Options {
        batch: Some(batch),
        ..Options::new(source, target)
    }
}

fn all(options: &Options) -> Vec<Batch> {
    let mut batches = Batches::new(options).expect("opens");
    std::iter::from_fn(|| batches.next().expect("reads")).collect()
}

fn sent(batches: &[Batch]) -> Vec<Vec<u8>> {
    let lines = batches
        .iter()
        .flat_map(|batch| batch.body.split(|byte| *byte == b'\n'));
    lines.filter(|line| !is_blank(line)).map(<[u8]>::to_vec).collect()
}

/// Goal: no cut loses, doubles or joins lines. Method: seeded files with lines of 1 byte to 3 MiB, blank ones
/// among them, in two files of which the first has no newline at its end, against a split of the whole.
#[test]
fn every_line_is_sent_once_in_order_within_the_batch_size() {
    for seed in 0..12 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u64| random.next_u64() % bound;
        let with_blanks = seed % 2 == 0;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for _ in 0..2_000 {
            let length = match below(500) {
                0 => below(3 << 20),
                1..20 => below(100_000),
                20..40 if with_blanks => 0,
                _ => 1 + below(300),
            };
            let mut line = vec![b'x'; usize::try_from(length).expect("small")];
            if !with_blanks && line.is_empty() {
                line.push(b'x');
            }
            if let Some(first) = line.first_mut() {
                *first = b'a' + u8::try_from(below(26)).expect("a letter");
            }
            lines.push(line);
        }
        let directory = tempfile::tempdir().expect("a directory");
        let half = lines.len() / 2;
        let files: Vec<_> = [("a", &lines[..half]), ("b", &lines[half..])]
            .into_iter()
            .map(|(name, lines)| {
                let path = directory.path().join(name);
                std::fs::write(&path, lines.join(&b'\n')).expect("write");
                path
            })
            .collect();
        lines.retain(|line| !line.is_empty());
        for batch in [
            BatchSize::Events(1),
            BatchSize::Events(7),
            BatchSize::Events(100_000),
            BatchSize::Bytes(1),
            BatchSize::Bytes(10_000),
            BatchSize::Bytes(1 << 20),
            BatchSize::Bytes(64 << 20),
        ] {
            let batches = all(&options(Source::Files(files.clone()), batch));
            let context = format!("seed {seed}, {batch:?}");
            assert!(sent(&batches) == lines, "{context}");
            let counted: u64 = batches.iter().map(|batch| batch.events).sum();
            assert_eq!(counted, lines.len() as u64, "{context}");
            assert!(
                batches.iter().zip(0..).all(|(batch, id)| batch.id == id),
                "{context}"
            );
            if !with_blanks {
                check_sizes(&batches, batch, &context);
            }
        }
    }
}

/// Every batch is as large as it may be.
fn check_sizes(batches: &[Batch], size: BatchSize, context: &str) {
    for pair in batches.windows(2) {
        match size {
            BatchSize::Events(events) => assert_eq!(pair[0].events, events, "{context}"),
            BatchSize::Bytes(bytes) => {
                let next = memchr::memchr(b'\n', &pair[1].body).map_or(0, |at| at + 1);
                let fits = pair[0].body.len() <= bytes || pair[0].events == 1;
                assert!(fits && pair[0].body.len() + next > bytes, "{context}");
            }
        }
    }
}

#[test]
fn generated_events_are_the_same_in_batches_of_any_size() {
    let source = || Source::Generated {
        starter: Starter::Tracking,
        count: 10_000,
        options: GeneratorOptions::default(),
    };
    let whole = sent(&all(&options(source(), BatchSize::Bytes(64 << 20))));
    assert_eq!(whole.len(), 10_000);
    for batch in [
        BatchSize::Events(1),
        BatchSize::Events(3_000),
        BatchSize::Bytes(2_000),
        BatchSize::Bytes(1 << 20),
    ] {
        let batches = all(&options(source(), batch));
        assert!(sent(&batches) == whole, "{batch:?}");
        check_sizes(&batches, batch, &format!("{batch:?}"));
    }
}

#[test]
fn a_line_that_no_body_may_carry_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("long");
    let mut file = std::fs::File::create(&path).expect("create");
    file.write_all(b"{}\n").expect("write");
    file.write_all(&vec![b'x'; event::limits::BODY_BYTES_MAX + 1])
        .expect("write");
    let mut batches = Batches::new(&options(Source::Files(vec![path]), BatchSize::Events(1))).expect("opens");
    let refused = std::iter::from_fn(|| batches.next().transpose()).any(|batch| batch.is_err());
    assert!(refused);
}
