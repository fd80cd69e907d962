//! Generated events are valid, ever later, never the same twice, and the same for the same seed.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use event::StreamDeclaration;
use event::decode::{Decoder, Format};

use super::*;

fn lines(starter: Starter, count: usize, options: GeneratorOptions) -> Vec<u8> {
    let mut generator = Generator::new(starter, options);
    let mut out = Vec::new();
    for _ in 0..count {
        generator.write_event(&mut out);
    }
    out
}

#[test]
fn the_decoder_accepts_every_event_of_every_stream() {
    for starter in Starter::ALL {
        let declaration = StreamDeclaration::starters()
            .into_iter()
            .find(|stream| stream.name.as_str() == starter.name())
            .expect("a starter stream");
        let mut decoder = Decoder::new(Arc::new(declaration), Format::Ndjson);
        let body = lines(starter, 50_000, GeneratorOptions::default());
        decoder.push(Bytes::from(body)).expect("NDJSON");
        let decoded = decoder.finish().expect("NDJSON");
        assert_eq!(
            (decoded.accepted, decoded.rejects.total()),
            (50_000, 0),
            "{starter:?}: {:?}",
            decoded.rejects
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    for starter in Starter::ALL {
        let one = GeneratorOptions { users: 50, seed: 7 };
        let other = GeneratorOptions { users: 50, seed: 8 };
        assert_eq!(lines(starter, 200, one), lines(starter, 200, one));
        assert_ne!(lines(starter, 200, one), lines(starter, 200, other));
    }
}

#[test]
fn no_line_comes_twice_and_times_rise() {
    for starter in Starter::ALL {
        let mut generator = Generator::new(starter, GeneratorOptions { users: 1, seed: 3 });
        let (mut seen, mut before) = (HashSet::new(), 0);
        for _ in 0..20_000 {
            let mut line = Vec::new();
            let ms = generator.write_event(&mut line);
            assert!(ms > before, "{starter:?}");
            before = ms;
            assert!(seen.insert(line), "{starter:?}");
        }
    }
}

#[test]
fn the_number_of_users_bounds_the_users() {
    let body = lines(Starter::Running, 20_000, GeneratorOptions { users: 40, seed: 5 });
    let users: HashSet<&[u8]> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| &line[12..48])
        .collect();
    assert_eq!(users.len(), 40);
}

#[test]
fn an_unknown_stream_is_named() {
    let error = "walking".parse::<Starter>().expect_err("unknown").to_string();
    assert!(
        error.contains("`walking`") && error.contains("running"),
        "{error}"
    );
}
