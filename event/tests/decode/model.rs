//! The oracle: serde_json for syntax and values, and a few plain lines for what it does not judge.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use event::{FieldDeclaration, FieldType, StreamDeclaration};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use super::strict::{members, object_of};

/// Microseconds of the years 1 to 9999.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// The values of an accepted line, in the order of the fields; `None` when it is not accepted.
pub(crate) fn expected(line: &[u8], stream: &StreamDeclaration) -> Option<Vec<Option<Value>>> {
    let text = std::str::from_utf8(line).ok()?;
    // One document: what an element's end would cut off must not be judged away.
    let object: Map<String, Value> = members(text)?;
    stream
        .fields
        .iter()
        .map(|field| value(field, text, &object))
        .collect::<Option<Vec<_>>>()
}

fn value(field: &FieldDeclaration, _line: &str, object: &Map<String, Value>) -> Option<Option<Value>> {
    let mut raw = object
        .get(&field.path[0])
        .and_then(Value::as_str)
        .unwrap_or("null")
        .to_owned();
    for key in &field.path[1..] {
        if raw == "null" {
            break;
        }
        raw = object_of(&raw)?
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("null")
            .to_owned();
    }
    if raw == "null" {
        return field.optional.then_some(None);
    }
    let text = || serde_json::from_str::<String>(&raw).ok();
    let integer = || {
        raw.bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit())
            .then(|| raw.parse::<i64>().ok())?
    };
    let value = match &field.kind {
        FieldType::Bool => Value::from(serde_json::from_str::<bool>(&raw).ok()?),
        FieldType::Int { min, max } => Value::from(integer().filter(|n| (min..=max).contains(&n))?),
        FieldType::Float { min, max } => {
            let number: f64 = if raw.starts_with('"') {
                None
            } else {
                raw.parse().ok()
            }?;
            Value::from(Some(number).filter(|x| x.is_finite() && (min..=max).contains(&x))?)
        }
        FieldType::String { max_bytes } => Value::from(text().filter(|text| text.len() <= *max_bytes)?),
        FieldType::Enum { values } => Value::from(text().filter(|text| values.contains(text))?),
        FieldType::Uuid => {
            let text = text().filter(|text| text.len() == 36)?;
            Value::from(uuid::Uuid::try_parse(&text).ok()?.to_string())
        }
        FieldType::Timestamp { unit: None } => {
            let micros = chrono::DateTime::parse_from_rfc3339(&text()?)
                .ok()?
                .timestamp_micros();
            Value::from(Some(micros).filter(|micros| YEARS.contains(micros))?)
        }
        FieldType::Timestamp { unit: Some(_) } => {
            let micros = integer()?.checked_mul(1_000)?;
            Value::from(Some(micros).filter(|micros| YEARS.contains(micros))?)
        }
        FieldType::Json => Value::from(raw),
    };
    Some(Some(value))
}

pub(crate) fn compare(
    expected: &[Option<Value>],
    batch: &RecordBatch,
    stream: &StreamDeclaration,
    line: &[u8],
) {
    for (field, expected) in stream.fields.iter().zip(expected) {
        let column = batch.column_by_name(&field.name).expect("declared");
        let found = column.is_valid(0).then(|| match &field.kind {
            FieldType::Bool => Value::from(column.as_boolean().value(0)),
            FieldType::Int { .. } => Value::from(column.as_primitive::<Int64Type>().value(0)),
            FieldType::Float { .. } => Value::from(column.as_primitive::<Float64Type>().value(0)),
            FieldType::Timestamp { .. } => {
                Value::from(column.as_primitive::<TimestampMicrosecondType>().value(0))
            }
            FieldType::Uuid => Value::from(
                uuid::Uuid::from_slice(column.as_fixed_size_binary().value(0))
                    .expect("16 bytes")
                    .to_string(),
            ),
            _ => Value::from(column.as_string::<i32>().value(0)),
        });
        assert_eq!(
            found,
            *expected,
            "field {} of {}",
            field.name,
            String::from_utf8_lossy(line)
        );
    }
}

/// An event that is mostly right.
pub(crate) fn line(random: &mut ChaCha8Rng) -> String {
    let mut members = vec![format!(
        "\"n\":{}",
        pick(
            random,
            &["1", "-5", "0", "-0", "1000", "1001", "1.0", "null", "12e1"]
        )
    )];
    let mut add = |name: &str, values: &[&str]| {
        if random.random_bool(0.4) {
            let value = pick(random, values);
            members.push(format!("\"{name}\":{value}"));
        }
    };
    add(
        "wide",
        &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "7",
            "100000000000000000000",
        ],
    );
    add(
        "x",
        &[
            "1.5",
            "-0.0",
            "1e300",
            "1e301",
            "1e400",
            "3",
            "123456789012345678901234567890",
            "\"1\"",
            "4.9e-324",
        ],
    );
    add("yes", &["true", "false", "\"true\""]);
    add(
        "text",
        &[
            "\"\"",
            "\"abc\"",
            "\"\\u00e9\\n\"",
            "\"0123456789abcdef\"",
            "\"0123456789abcdefg\"",
            "\"é😀\"",
            "5",
        ],
    );
    add("kind", &["\"a\"", "\"b\\n\"", "\"\\u0061\"", "\"c\""]);
    add(
        "user",
        &[
            "\"d290f1ee-6c54-4b01-90e6-d701748f0851\"",
            "\"D290F1EE-6C54-4B01-90E6-D701748F0851\"",
            "\"d290f1ee\"",
        ],
    );
    add(
        "at",
        &[
            "\"1970-01-01T00:00:07Z\"",
            "\"1970-01-01T00:00:60Z\"",
            "\"1970-01-01T00:00:61Z\"",
            "\"\"",
        ],
    );
    add(
        "ms",
        &["0", "1725959553001", "-1", "253402300799999", "253402300800000"],
    );
    add(
        "meta",
        &[
            "{\"page\":\"p\",\"a\":[1,{\"b\":1e999}]}",
            "{}",
            "{\"page\":5}",
            "null",
            "{\"page\":\"12345678\"}",
            "[1]",
            "{ \"x\" : 1 }",
        ],
    );
    add(
        "other",
        &["1", "{\"a\":[true,null,\"\\u0000\"]}", "\"\\ud83d\\ude00\""],
    );
    // The order of an event's keys is the sender's business.
    for at in (1..members.len()).rev() {
        members.swap(at, random.random_range(0..=at));
    }
    format!("{{{}}}", members.join(pick(random, &[",", ", ", " ,\t"])))
}

/// Mostly the first one, which is always right.
fn pick<'a>(random: &mut ChaCha8Rng, values: &[&'a str]) -> &'a str {
    if random.random_bool(0.7) {
        values[0]
    } else {
        values[random.random_range(0..values.len())]
    }
}

/// Changes, removes, doubles or inserts something at random, mostly characters that mean something.
pub(crate) fn mutate(line: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let at = random.random_range(0..line.len().max(1));
    let meaningful = b"{}[]\",:\\ /0123456789-+.eEtrufalsn\n\t\x00\x1f\x7f\xc3\xa9\xff";
    let byte = meaningful[random.random_range(0..meaningful.len())];
    match random.random_range(0..5) {
        0 if at < line.len() => line[at] = byte,
        1 if at < line.len() => drop(line.remove(at)),
        2 if at < line.len() => {
            let to = (at + random.random_range(1..12)).min(line.len());
            let piece = line[at..to].to_vec();
            line.splice(at..at, piece);
        }
        _ => line.insert(at.min(line.len()), byte),
    }
}
