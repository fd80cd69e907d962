//! One line in the learned shape, and everything that is nearly it.
//!
//! Each strange line comes after a usual one, so that an attempt is made to read it as expected
//! ([`super::verdict`] compares).

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use bytes::Bytes;
use event::StreamDeclaration;
use event::decode::{Decoder, Format};
use event::limits::LINE_BYTES_MAX;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lines::declarations;
use super::verdict::of_lines;

const USUAL: &str = "{\"n\":17,\"x\":-1.25,\"yes\":true,\"text\":\"abc é\",\"kind\":\"b c\",\"user\":\"d290f1ee-6c54-4b01-90e6-d701748f0851\",\"at\":\"2024-02-29T09:30:00.125Z\",\"ms\":1725959553001,\"meta\":{\"page\":\"p\",\"deep\":{\"count\":3}},\"doc\":{\"a\":[1,{\"b\":null}],\"c\":\"d\"}}";

fn streams(names: &[&str]) -> Vec<Arc<StreamDeclaration>> {
    let mut streams = declarations();
    streams.retain(|stream| names.contains(&stream.name.as_str()));
    assert_eq!(streams.len(), names.len());
    streams
}

/// Every line after the usual one, all in one body.
fn after_usual(stream: &Arc<StreamDeclaration>, lines: &[Vec<u8>]) {
    for some in lines.chunks(400) {
        let mut body = Vec::new();
        for line in some {
            body.extend_from_slice(USUAL.as_bytes());
            body.push(b'\n');
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        assert_eq!(of_lines(stream, &body, || body.len()), Ok(()), "{}", stream.name);
    }
}

#[test]
fn each_byte_may_be_any_other_or_gone_or_doubled() {
    let meaningful: Vec<u8> = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        (0..=255).collect()
    } else {
        b"\x00\t\r\x1f \"',-./019:;=Eez[\\]nt{}\x7f\x80\xc3\xff".to_vec()
    };
    let usual = USUAL.as_bytes();
    let mut lines = Vec::new();
    for at in 0..usual.len() {
        let (before, after) = (&usual[..at], &usual[at + 1..]);
        lines.extend([[before, after].concat(), before.to_vec(), usual[at..].to_vec()]);
        for byte in meaningful.iter().filter(|byte| **byte != b'\n') {
            lines.push([before, &[*byte], after].concat());
            lines.push([before, &[*byte], &usual[at..]].concat());
        }
    }
    for stream in streams(&["every_keep"]) {
        after_usual(&stream, &lines);
    }
}

#[test]
fn each_character_of_a_uuid_or_a_moment_may_be_any_byte() {
    let usual = USUAL.as_bytes();
    let mut lines = Vec::new();
    for text in ["d290f1ee-6c54", "2024-02-29T"] {
        let from = USUAL.find(text).expect("it is there");
        for at in from..from + 37 {
            for byte in (0..=255).filter(|byte| *byte != b'\n') {
                lines.push([&usual[..at], &[byte], &usual[at + 1..]].concat());
            }
        }
    }
    for stream in streams(&["types_ignore"]) {
        after_usual(&stream, &lines);
    }
}

/// Bit for bit what `str::parse` makes of the same text.
#[test]
fn numbers_are_the_nearest_doubles_and_exact_integers() {
    let seed = 20_291_122;
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        3_000_000
    } else {
        30_000
    };
    println!("seed {seed}, {rounds} numbers");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let declared = "[s]\n[s.fields]\nx = \"float\"\nn = { type = \"int\", optional = true }";
    let streams = event::stream::parse_streams(&declared.parse().expect("TOML")).expect("right");
    let stream = Arc::new(streams[0].clone());
    let mut numbers = Vec::new();
    for _ in 0..rounds {
        let digits = |random: &mut ChaCha8Rng, most: usize| -> String {
            let count = random.random_range(1..=most);
            (0..count)
                .map(|_| char::from(random.random_range(b'0'..=b'9')))
                .collect()
        };
        let whole = digits(&mut random, 20);
        let whole = whole.trim_start_matches('0');
        let mut number = if random.random_bool(0.3) { "-" } else { "" }.to_owned();
        number += if whole.is_empty() { "0" } else { whole };
        if random.random_bool(0.8) {
            number += &format!(".{}", digits(&mut random, 20));
        }
        if random.random_bool(0.1) {
            number += &format!("e{}", random.random_range(-330..300));
        }
        numbers.push(number);
    }
    let body: String = numbers
        .iter()
        .map(|number| {
            let n = if number.contains(['.', 'e']) || number.len() > 18 {
                "null"
            } else {
                number
            };
            format!("{{\"x\":{number},\"n\":{n}}}\n")
        })
        .collect();
    let mut decoder = Decoder::new(stream, Format::Ndjson);
    decoder
        .push(Bytes::from(body))
        .expect("lines are never refused whole");
    let decoded = decoder.finish().expect("lines are never refused whole");
    // Beyond the largest double.
    numbers.retain(|number| number.parse::<f64>().is_ok_and(f64::is_finite));
    assert_eq!(decoded.accepted as usize, numbers.len());
    let rows = decoded.batches.iter().flat_map(|batch| {
        let (x, n) = (
            batch.column(0).as_primitive::<Float64Type>(),
            batch.column(1).as_primitive::<arrow_array::types::Int64Type>(),
        );
        x.values().iter().zip(n.iter())
    });
    for (number, (x, n)) in numbers.iter().zip(rows) {
        assert_eq!(
            x.to_bits(),
            number.parse::<f64>().expect("a number").to_bits(),
            "{number}"
        );
        assert!(n.is_none_or(|n| number.parse() == Ok(n)), "{number} is not {n:?}");
    }
}

#[test]
fn lines_around_the_limit_are_judged_the_same() {
    let mut lines = Vec::new();
    for length in LINE_BYTES_MAX - 2..=LINE_BYTES_MAX + 3 {
        for end in ["\"}}", "\"}}\r", "\"}} \r", "é\"}}", "\\n\"}}", "\"}"] {
            let begin = "{\"n\":1,\"meta\":{\"page\":\"p\"},\"doc\":{\"a\":\"";
            let inside = "x".repeat(length - begin.len() - end.len());
            lines.push(format!("{begin}{inside}{end}").into_bytes());
        }
    }
    let usual = USUAL.as_bytes().to_vec();
    for stream in streams(&["every_keep", "types_ignore"]) {
        for line in &lines {
            let body = [usual.as_slice(), line, usual.as_slice(), line].join(&b'\n');
            for chunk in [body.len(), 1 << 18] {
                assert_eq!(of_lines(&stream, &body, || chunk), Ok(()), "{} bytes", line.len());
            }
        }
    }
}

/// Arrays and objects in a value whose first levels were learned.
#[test]
fn levels_around_the_limit_are_judged_the_same() {
    let usual = "{\"n\":1,\"meta\":{\"page\":\"p\"},\"doc\":{\"a\":[{\"b\":[1]}]}}";
    let mut lines = Vec::new();
    for levels in 59..68 {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"b\":", "}")] {
            let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let empty = format!(
                "{}{}",
                open.repeat(levels).trim_end_matches(':'),
                close.repeat(levels)
            );
            for value in [value, empty.replace("\"a\"}", "}").replace("\"b\"}", "}")] {
                for begin in [
                    "\"doc\":",
                    "\"doc\":{\"a\":",
                    "\"doc\":{\"a\":[[",
                    "\"meta\":{\"page\":\"p\",\"z\":",
                ] {
                    let end = begin.replace(|byte| !matches!(byte, '{' | '['), "");
                    let end: String = end
                        .chars()
                        .rev()
                        .map(|open| if open == '{' { '}' } else { ']' })
                        .collect();
                    lines.push(format!("{{\"n\":1,{begin}{value}{end}}}"));
                }
            }
        }
    }
    // The learned object below as many arrays.
    for levels in 59..66 {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        lines.push(format!("{{\"n\":1,\"doc\":{{\"a\":{open}{{\"b\":1}}{close}}}}}"));
    }
    for stream in streams(&["every_keep", "types_ignore"]) {
        for line in &lines {
            let body = [usual, line, usual, line, line].join("\n");
            assert_eq!(
                of_lines(&stream, body.as_bytes(), || body.len()),
                Ok(()),
                "{line}"
            );
        }
    }
}

#[test]
fn moments_at_the_ends_of_days_and_years_are_judged_the_same() {
    let dates = [
        "0000-12-31",
        "0001-01-01",
        "1969-12-31",
        "2016-12-31",
        "2024-02-29",
        "2023-02-29",
        "9999-12-31",
    ];
    let times = [
        "00:00:00", "23:59:59", "23:59:60", "23:59:61", "24:00:00", "23:60:00",
    ];
    let zones = ["Z", "z", "+00:00", "-00:00", "+00:01", "-00:01", "-23:59"];
    let mut lines = Vec::new();
    for (date, time, zone) in dates
        .iter()
        .flat_map(|date| times.map(|time| (date, time)))
        .flat_map(|(date, time)| zones.map(|zone| (date, time, zone)))
    {
        for fraction in ["", ".9", ".999999", ".9999999", ".99999999", "."] {
            lines.push(
                USUAL
                    .replace(
                        "2024-02-29T09:30:00.125Z",
                        &format!("{date}T{time}{fraction}{zone}"),
                    )
                    .into_bytes(),
            );
        }
    }
    for stream in streams(&["types_ignore"]) {
        after_usual(&stream, &lines);
    }
}
