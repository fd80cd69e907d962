//! Generated values of every type and form, right and wrong.

use event::{FieldType, TimeUnit};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A value of a field; an `odd` one may be wrong, or right in a form that few write.
pub(crate) fn of(kind: &FieldType, odd: bool, random: &mut ChaCha8Rng, depth: usize, out: &mut Vec<u8>) {
    match kind {
        FieldType::Bool => put(out, pick(random, &["true", "false"])),
        FieldType::Int { .. } if odd => number(random, out),
        FieldType::Int { min, max } => {
            let (min, max) = ((*min).max(-200), (*max).min(100_000_000_000));
            put(out, &random.random_range(min..=max).to_string());
        }
        FieldType::Float { .. } if odd => number(random, out),
        FieldType::Float { .. } => float(random, out),
        FieldType::String { max_bytes } => string(random, odd, *max_bytes, out),
        FieldType::Enum { .. } if odd => string(random, true, 8, out),
        FieldType::Enum { values } => put(
            out,
            &format!("\"{}\"", values[random.random_range(0..values.len())]),
        ),
        FieldType::Uuid => uuid(random, odd, out),
        FieldType::Timestamp { unit: None } => timestamp(random, odd, out),
        FieldType::Timestamp { .. } if odd => number(random, out),
        FieldType::Timestamp { unit: Some(unit) } => {
            let seconds = random.random_range(-10_000_000_000..300_000_000_000_i64);
            let scale = match unit {
                TimeUnit::Seconds => 1,
                TimeUnit::Milliseconds => 1_000,
                TimeUnit::Microseconds => 1_000_000,
            };
            put(out, &(seconds * scale).to_string());
        }
        FieldType::Json => json(random, depth, 3, out),
    }
}

/// Any value, which may be no JSON.
pub(crate) fn any(random: &mut ChaCha8Rng, depth: usize, out: &mut Vec<u8>) {
    match random.random_range(0..9) {
        0 => number(random, out),
        1 => string(random, true, 16, out),
        2 => uuid(random, true, out),
        3 => timestamp(random, true, out),
        4 => json(random, depth, 3, out),
        // Nested around the limit.
        5 => {
            let levels = 62_usize.saturating_sub(depth) + random.random_range(0..5);
            let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")][random.random_range(0..3)];
            let levels = levels / open.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
            put(out, &format!("{}1{}", open.repeat(levels), close.repeat(levels)));
        }
        _ => put(
            out,
            pick(
                random,
                &[
                    "null",
                    "true",
                    "false",
                    "nul",
                    "truex",
                    "True",
                    "",
                    "{}",
                    "[]",
                    "[ ]",
                    "{ }",
                    "[1,]",
                    "{\"a\":1,}",
                    "{\"a\":1,\"a\":2}",
                    "{\"a\":1,\"\\u0061\":2}",
                    "[{\"b\":{\"c\":1,\"c\":1}}]",
                    "[[[{}],{}],1]",
                    "1 ",
                    "{\"a\":[1,{\"b\":2}]",
                    "\"\\ud800\"",
                    "\"\\udc00x\"",
                    "-",
                    "+1",
                    "NaN",
                    "[1 2]",
                    "{\"a\" :1}",
                    "[{},\n{}]",
                ],
            )
            .replace('\n', "\t")
            .as_str(),
        ),
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn pick<'a>(random: &mut ChaCha8Rng, texts: &[&'a str]) -> &'a str {
    texts[random.random_range(0..texts.len())]
}

fn digits(random: &mut ChaCha8Rng, count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        out.push(b"0123456789"[random.random_range(0..10)]);
    }
}

fn float(random: &mut ChaCha8Rng, out: &mut Vec<u8>) {
    if random.random_bool(0.3) {
        out.push(b'-');
    }
    out.push(b"12"[random.random_range(0..2)]);
    out.push(b'.');
    let count = random.random_range(1..20);
    digits(random, count, out);
}

/// Numbers of every form.
fn number(random: &mut ChaCha8Rng, out: &mut Vec<u8>) {
    const FORMS: &[&str] = &[
        "-0",
        "0",
        "-0.0",
        "0.0",
        "1e5",
        "1E-5",
        "1e+05",
        "007",
        "-01",
        "1.",
        ".5",
        "-",
        "--1",
        "1e",
        "1e400",
        "1e-400",
        "00",
        "0.",
        "0.1e1",
        "1.5e",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "4.9e-324",
        "2.2250738585072011e-308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "9007199254740993",
        "9007199254740993.0",
        "0.1",
        "12345678",
        "123456789012345",
        "1234567890123456",
        "12345678.1234567",
        "0.0000001",
        "1_0",
        "1f",
        "0x1",
        "1,0",
    ];
    if random.random_bool(0.3) {
        return put(out, pick(random, FORMS));
    }
    if random.random_bool(0.3) {
        out.push(b'-');
    }
    let count = random.random_range(1..21);
    digits(random, count, out);
    if random.random_bool(0.5) {
        out.push(b'.');
        let count = random.random_range(0..21);
        digits(random, count, out);
    }
    if random.random_bool(0.3) {
        put(out, pick(random, &["e", "E"]));
        put(out, pick(random, &["", "+", "-"]));
        let count = random.random_range(0..4);
        digits(random, count, out);
    }
}

fn string(random: &mut ChaCha8Rng, odd: bool, max_bytes: usize, out: &mut Vec<u8>) {
    let around = [0, 1, 14, 15, 16, 17, 30, 31, 32, 33, max_bytes];
    let length = around[random.random_range(0..around.len())].min(max_bytes + usize::from(odd));
    out.push(b'"');
    let from = out.len();
    while out.len() - from < length {
        if !odd || random.random_bool(0.7) {
            out.push(b"abc/ 'xyz}]{[:,0"[random.random_range(0..16)]);
            continue;
        }
        let piece: &[&[u8]] = &[
            b"\\n",
            b"\\\"",
            b"\\\\",
            b"\\/",
            b"\\u00e9",
            b"\\u0000",
            b"\\ud83d\\ude00",
            b"\\ud800",
            b"\\udc00\\ud800",
            b"\\x",
            b"\\u12g4",
            "é".as_bytes(),
            "😀".as_bytes(),
            b"\t",
            b"\x1f",
            b"\x7f",
            b"\xff",
            b"\xc3",
            b"\"",
        ];
        out.extend_from_slice(piece[random.random_range(0..piece.len())]);
    }
    out.push(b'"');
}

fn uuid(random: &mut ChaCha8Rng, odd: bool, out: &mut Vec<u8>) {
    let id = uuid::Uuid::from_u128(random.random());
    let text = if random.random_bool(0.2) {
        id.to_string().to_uppercase()
    } else {
        id.to_string()
    };
    let mut text = text.into_bytes();
    if odd && random.random_bool(0.8) {
        // Never a newline, which would make two lines of one.
        text[random.random_range(0..36)] = random.random_range(11..=255);
    } else if odd {
        text.truncate(random.random_range(0..36));
    }
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
}

fn timestamp(random: &mut ChaCha8Rng, odd: bool, out: &mut Vec<u8>) {
    let dates = [
        "2024-02-29",
        "2024-03-01",
        "1970-01-01",
        "0001-01-01",
        "9999-12-31",
    ];
    let wrong = [
        "2023-02-29",
        "0000-01-01",
        "2024-13-01",
        "2024-00-10",
        "2024-1-011",
        "2024-02-30",
        "2024/02/28",
        "20240-2-01",
    ];
    let from = out.len();
    out.push(b'"');
    let date = if odd {
        pick(random, &wrong)
    } else {
        pick(random, &dates)
    };
    put(out, if random.random_bool(0.7) { dates[0] } else { date });
    put(
        out,
        if odd {
            pick(random, &["T", "t", " ", "_"])
        } else {
            "T"
        },
    );
    let part = |random: &mut ChaCha8Rng, end: u32| random.random_range(0..end + u32::from(odd));
    let time = format!(
        "{:02}:{:02}:{:02}",
        part(random, 24),
        part(random, 60),
        part(random, 61)
    );
    put(out, &time);
    if random.random_bool(0.6) {
        out.push(b'.');
        let least = usize::from(!odd);
        let count = random.random_range(least..11);
        digits(random, count, out);
    }
    let zones = ["Z", "Z", "+00:00", "-00:00", "+02:00", "-23:59", "z"];
    let wrong = ["", "+00:60", "+24:00", "+0000", "Zx", "UTC", "+00"];
    put(
        out,
        if odd {
            pick(random, &wrong)
        } else {
            pick(random, &zones)
        },
    );
    out.push(b'"');
    if odd && random.random_bool(0.5) {
        let at = random.random_range(from..out.len());
        out[at] = random.random_range(11..=255);
    }
}

/// A value that is JSON, with objects in one shape and objects whose keys are data.
fn json(random: &mut ChaCha8Rng, depth: usize, levels: usize, out: &mut Vec<u8>) {
    if depth > 60 {
        return put(out, "1");
    }
    match random.random_range(0..if levels == 0 { 4 } else { 8 }) {
        0 => put(out, &random.random_range(-50..100_000_000_i64).to_string()),
        1 => put(out, pick(random, &["true", "false", "null", "1e999", "-0.5"])),
        2 | 3 => string(random, false, 40, out),
        4 => {
            out.push(b'[');
            for at in 0..random.random_range(0..4) {
                put(out, if at > 0 { "," } else { "" });
                json(random, depth + 1, levels - 1, out);
            }
            out.push(b']');
        }
        5 => {
            // Keys that are data.
            out.push(b'{');
            for at in 0..random.random_range(0..3) {
                put(out, if at > 0 { "," } else { "" });
                put(out, &format!("\"{}{at}\":", random.random_range(0..500)));
                json(random, depth + 1, levels - 1, out);
            }
            out.push(b'}');
        }
        _ => {
            out.push(b'{');
            let mut first = true;
            for key in ["page", "count", "deep", "a", "list"] {
                if random.random_bool(0.6) {
                    put(out, if first { "" } else { "," });
                    first = false;
                    put(out, &format!("\"{key}\":"));
                    json(random, depth + 1, levels - 1, out);
                }
            }
            out.push(b'}');
        }
    }
}
