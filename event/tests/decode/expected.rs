//! What a decoder has learned from earlier lines changes nothing but its speed.
//!
//! Method: bodies of generated lines, most of them in one shape, through one decoder; each of their lines alone through a
//! fresh one, which has learned nothing ([`super::verdict`]).

use std::sync::Arc;

use event::StreamDeclaration;
use event::decode::{Decoder, Envelope, EventDecoder, Format};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lines::{Lines, declarations};
use super::verdict::{of_elements, of_lines};

fn bodies() -> u64 {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        40_000
    } else {
        200
    }
}

fn of_joined(stream: &Arc<StreamDeclaration>, lines: &[Vec<u8>], chunk_seed: u64) -> Result<(), String> {
    let mut random = ChaCha8Rng::seed_from_u64(chunk_seed);
    let bound = [1, 7, 64, 1_000, 100_000, 10_000_000][random.random_range(0..6)];
    of_lines(stream, &lines.join(&b'\n'), || random.random_range(1..=bound))
}

/// Leaves out lines for as long as the rest still has a difference, so that a report can be read.
fn shortened(lines: &[Vec<u8>], differs: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let mut lines = lines.to_vec();
    let mut step = lines.len().div_ceil(2);
    while step > 0 {
        let mut at = 0;
        while at < lines.len() {
            let mut fewer = lines.clone();
            fewer.drain(at..(at + step).min(lines.len()));
            if differs(&fewer) {
                lines = fewer;
            } else {
                at += step;
            }
        }
        step /= 2;
    }
    lines
}

#[test]
fn a_line_is_judged_the_same_whatever_came_before_it() {
    let seed = 20_261_122;
    println!("seed {seed}, {} bodies", bodies());
    let streams = declarations();
    for body in 0..bodies() {
        let mut random = ChaCha8Rng::seed_from_u64(seed + body);
        let stream = &streams[random.random_range(0..streams.len())];
        let lines = Lines::new(stream, &mut random).body();
        if let Err(difference) = of_joined(stream, &lines, seed + body) {
            let few = shortened(&lines, |lines| of_joined(stream, lines, seed + body).is_err());
            let differs = of_joined(stream, &few, seed + body).expect_err("it is a difference still");
            let shown: Vec<_> = few.iter().map(|line| String::from_utf8_lossy(line)).collect();
            panic!(
                "seed {}, {}: {difference}\n{differs}\n{}",
                seed + body,
                stream.name,
                shown.join("\n")
            );
        }
    }
}

#[test]
fn an_element_is_judged_the_same_whatever_came_before_it() {
    let seed = 20_271_122;
    println!("seed {seed}, {} bodies", bodies() / 4);
    let streams = declarations();
    let envelope = Arc::new(Envelope {
        member: "events".to_owned(),
        fields: vec![("place".to_owned(), "text".to_owned())],
    });
    for body in 0..bodies() / 4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed + body);
        let stream = &streams[random.random_range(0..streams.len())];
        let elements = Lines::new(stream, &mut random).body();
        let envelope = random.random_bool(0.3).then_some(&envelope);
        let judged = |elements: &[Vec<u8>]| {
            let mut random = ChaCha8Rng::seed_from_u64(seed + body);
            let bound = [1, 50, 10_000, 10_000_000][random.random_range(0..4)];
            of_elements(stream, envelope, elements, || random.random_range(1..=bound))
        };
        if let Err(difference) = judged(&elements) {
            let few = shortened(&elements, |elements| judged(elements).is_err());
            let shown: Vec<_> = few.iter().map(|line| String::from_utf8_lossy(line)).collect();
            panic!(
                "seed {}, {}: {difference}\n{}",
                seed + body,
                stream.name,
                shown.join("\n")
            );
        }
    }
}

#[test]
fn a_message_is_judged_the_same_whatever_came_before_it() {
    let seed = 20_281_122;
    println!("seed {seed}, {} topics", bodies() / 4);
    let streams = declarations();
    for topic in 0..bodies() / 4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed + topic);
        let stream = &streams[random.random_range(0..streams.len())];
        let mut decoder = EventDecoder::new(stream);
        for message in Lines::new(stream, &mut random).body() {
            let together = decoder.decode(&message);
            let alone = EventDecoder::new(stream).decode(&message);
            assert_eq!(
                together,
                alone,
                "seed {}, {}: {}",
                seed + topic,
                stream.name,
                String::from_utf8_lossy(&message)
            );
        }
    }
}

/// Lines in the learned shape, split into chunks at every byte.
#[test]
fn a_body_in_the_learned_shape_may_be_split_at_every_byte() {
    let streams = declarations();
    for (number, stream) in (0..).zip(&streams) {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut lines = Lines::new(stream, &mut random).body();
        lines.retain(|line| line.len() < 300);
        lines.truncate(8);
        let body = lines.join(&b'\n');
        for at in 1..body.len() {
            let mut sizes = [at, body.len()].into_iter();
            let differs = of_lines(stream, &body, || sizes.next().unwrap_or(1));
            assert_eq!(
                differs,
                Ok(()),
                "{}, split at {at}: {}",
                stream.name,
                String::from_utf8_lossy(&body)
            );
        }
    }
}

fn same(fields: &str, lines: &[String]) {
    let streams = event::stream::parse_streams(&fields.parse().expect("TOML"));
    let stream = Arc::new(streams.expect("right").remove(0));
    let body = lines.join("\n").into_bytes();
    assert_eq!(of_lines(&stream, &body, || body.len()), Ok(()), "{fields}");
}

/// The first line teaches that a key is there, but not what is inside of its value.
#[test]
fn fields_inside_of_a_value_are_found_after_lines_where_it_was_null() {
    for json in ["", "m = { type = \"json\", optional = true }"] {
        let fields = format!(
            "[s]\nunknown_fields = \"keep\"\n[s.fields]\n{json}\np = {{ type = \"string\", optional = true, from = \"m.p\" }}"
        );
        for second in [
            "{\"m\":{\"p\":\"x\"}}",
            "{\"m\":{\"p\":5}}",
            "{\"m\":5}",
            "{\"m\":[{\"p\":1}]}",
        ] {
            let lines = ["{\"m\":null}", second, "{\"m\":{}}", second, second];
            same(&fields, &lines.map(|line| format!("{line}\n")));
        }
    }
}

/// So many objects were learned that none is left for the one that fields come from.
#[test]
fn fields_inside_of_a_value_are_found_after_more_objects_than_are_learned() {
    let fields = "[s]\n[s.fields]\ndoc = { type = \"json\", optional = true }\np = { type = \"string\", optional = true, from = \"m.p\" }";
    let object = |from: usize| {
        (from..from + 50)
            .map(|key| format!("\"k{key}\":{{}}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut lines: Vec<_> = (0..8)
        .map(|line| format!("{{\"doc\":{{\"o{line}\":{{{}}}}}}}", object(line)))
        .collect();
    for _ in 0..3 {
        lines.push("{\"m\":{\"p\":\"x\"}}".to_owned());
        lines.push("{\"doc\":1,\"m\":{\"p\":\"x\"}}".to_owned());
    }
    same(fields, &lines);
}

/// More levels than are learned lie above a field.
#[test]
fn fields_are_found_however_deep_they_are() {
    let path = (0..40).map(|level| format!("l{level}")).collect::<Vec<_>>();
    let fields = format!(
        "[s]\n[s.fields]\nn = {{ type = \"int\", optional = true, from = \"{}\" }}",
        path.join(".")
    );
    let open: String = path.iter().map(|key| format!("{{\"{key}\":")).collect();
    same(&fields, &vec![format!("{open}7{}", "}".repeat(path.len())); 5]);
}

/// How long this thread has been on a processor, whatever else runs: the kernel's own count, in nanoseconds.
fn processor_seconds() -> f64 {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanoseconds: u64 = counts
        .split(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .expect("a count");
    nanoseconds as f64 / 1e9
}

/// Lines that are nearly in the learned shape, so that an attempt goes far in vain, cost a few times what the scanner
/// takes. The same lines with a space in front are read by the scanner only.
#[test]
fn no_line_costs_many_times_what_the_scanner_takes() {
    let fields = "[s]\nunknown_fields = \"ignore\"\n[s.fields]\nn = { type = \"int\", optional = true }\ndoc = { type = \"json\", optional = true }";
    let streams = event::stream::parse_streams(&fields.parse().expect("TOML"));
    let stream = Arc::new(streams.expect("right").remove(0));
    let nested = |inner: &str, close: &str| {
        format!(
            "{{\"n\":1,\"doc\":{}{inner}{}}}",
            "{\"a\":".repeat(15),
            close.repeat(15)
        )
    };
    let numbers = format!("[{}1]", "1,".repeat(10_000));
    let keys = |from: usize| {
        (from..from + 20_000)
            .map(|key| format!("\"k{key}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let objects = |key: &str| {
        format!(
            "{{\"doc\":[{}]}}",
            vec![format!("{{\"{key}\":1}}"); 10_000].join(",")
        )
    };
    for (name, usual, strange) in [
        (
            "a space after each closing brace",
            nested(&numbers, "}"),
            nested(&numbers, " }"),
        ),
        ("the same in short", nested("1", "}"), nested("1", " }")),
        (
            "invalid inside",
            nested(&numbers, "}"),
            nested(&numbers.replace("1]", "x]"), "}"),
        ),
        (
            "many keys",
            format!("{{{}}}", keys(0)),
            format!("{{{}}}", keys(50_000)),
        ),
        ("unfamiliar objects", objects("a"), objects("b")),
    ] {
        let count = 1_000_000 / strange.len();
        let lines = |space: &str| {
            [vec![usual.clone(); 3], vec![format!("{space}{strange}"); count]]
                .concat()
                .join("\n")
        };
        let seconds = |body: &str| {
            let body = bytes::Bytes::copy_from_slice(body.as_bytes());
            // The kernel counts a tick at a time, so that one body is too short.
            let begun = processor_seconds();
            for _ in 0..20 {
                let mut decoder = Decoder::new(Arc::clone(&stream), Format::Ndjson);
                decoder.push(body.clone()).expect("lines are never refused whole");
            }
            processor_seconds() - begun
        };
        let (attempted, scanned) = (seconds(&lines("")), seconds(&lines(" ")));
        assert!(
            attempted < 6.0 * scanned,
            "{name}: {attempted} s, the scanner takes {scanned} s"
        );
    }
}
