//! The decoder against an oracle (serde_json and a few lines of model), on generated and mutated bodies.

#[path = "decode/envelope.rs"]
mod envelope;
#[path = "decode/expected.rs"]
mod expected;
#[path = "decode/forms.rs"]
mod forms;
#[path = "decode/lines.rs"]
mod lines;
#[path = "decode/model.rs"]
mod model;
#[path = "decode/parameters.rs"]
mod parameters;
#[path = "decode/strict.rs"]
mod strict;
#[path = "decode/values.rs"]
mod values;
#[path = "decode/verdict.rs"]
mod verdict;

use std::sync::Arc;

use bytes::Bytes;
use event::decode::{BodyError, Decoded, Decoder, Format};
use event::limits::{BATCH_BYTES_TARGET, LINE_BYTES_MAX, RECORD_ROWS_MAX, REJECTS_DESCRIBED_MAX};
use event::{
    FieldDeclaration, FieldType, RejectCode, StreamDeclaration, StreamName, TimeUnit, UnknownFields,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn field(name: &str, kind: FieldType, optional: bool) -> FieldDeclaration {
    FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    }
}

/// One field of every type, some of them nested.
fn stream(unknown_fields: UnknownFields) -> StreamDeclaration {
    let mut page = field("page", FieldType::String { max_bytes: 8 }, true);
    page.path = vec!["meta".to_owned(), "page".to_owned()];
    StreamDeclaration {
        name: StreamName::parse("sample").expect("allowed"),
        version: 1,
        description: String::new(),
        routes: Vec::new(),
        time: None,
        key: None,
        unique: None,
        unknown_fields,
        topic: None,
        format: event::RecordFormat::Record,
        retention: None,
        rollup: None,
        fields: vec![
            field("n", FieldType::Int { min: -5, max: 1_000 }, false),
            field(
                "wide",
                FieldType::Int {
                    min: i64::MIN,
                    max: i64::MAX,
                },
                true,
            ),
            field(
                "x",
                FieldType::Float {
                    min: -1e300,
                    max: 1e300,
                },
                true,
            ),
            field("yes", FieldType::Bool, true),
            field("text", FieldType::String { max_bytes: 16 }, true),
            field(
                "kind",
                FieldType::Enum {
                    values: vec!["a".to_owned(), "b\n".to_owned()],
                },
                true,
            ),
            field("user", FieldType::Uuid, true),
            field("at", FieldType::Timestamp { unit: None }, true),
            field(
                "ms",
                FieldType::Timestamp {
                    unit: Some(TimeUnit::Milliseconds),
                },
                true,
            ),
            field("meta", FieldType::Json, true),
            page,
        ],
    }
}

fn decode_chunks(stream: &StreamDeclaration, format: Format, chunks: &[&[u8]]) -> Result<Decoded, BodyError> {
    let mut decoder = Decoder::new(Arc::new(stream.clone()), format);
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk))?;
    }
    decoder.finish()
}

fn decode(body: &[u8]) -> Decoded {
    decode_chunks(&stream(UnknownFields::Reject), Format::Ndjson, &[body])
        .expect("lines are never refused whole")
}

fn only_reject(line: &[u8]) -> (RejectCode, Option<String>) {
    let decoded = decode(line);
    assert_eq!(decoded.accepted, 0, "{}", String::from_utf8_lossy(line));
    assert_eq!(decoded.rejects.total(), 1, "{}", String::from_utf8_lossy(line));
    let reject = &decoded.rejects.described[0];
    (reject.code, reject.field.clone())
}

#[test]
fn every_code_is_reachable_and_names_its_field() {
    let cases: &[(&[u8], RejectCode, Option<&str>)] = &[
        (b"{\"n\":1", RejectCode::InvalidJson, None),
        (b"[]", RejectCode::InvalidJson, None),
        (b"{}", RejectCode::MissingField, Some("n")),
        (b"{\"n\":null}", RejectCode::MissingField, Some("n")),
        (b"{\"n\":\"1\"}", RejectCode::TypeMismatch, Some("n")),
        (b"{\"n\":1.0}", RejectCode::TypeMismatch, Some("n")),
        (b"{\"n\":1e2}", RejectCode::TypeMismatch, Some("n")),
        (b"{\"n\":1001}", RejectCode::OutOfRange, Some("n")),
        (
            b"{\"n\":1,\"wide\":9223372036854775808}",
            RejectCode::OutOfRange,
            Some("wide"),
        ),
        (
            b"{\"n\":1,\"wide\":-9223372036854775809}",
            RejectCode::OutOfRange,
            Some("wide"),
        ),
        (b"{\"n\":1,\"x\":1e400}", RejectCode::OutOfRange, Some("x")),
        (b"{\"n\":1,\"other\":1}", RejectCode::UnknownField, Some("other")),
        (
            b"{\"n\":1,\"kind\":\"c\"}",
            RejectCode::UnknownValue,
            Some("kind"),
        ),
        (
            b"{\"n\":1,\"text\":\"12345678901234567\"}",
            RejectCode::TooLarge,
            Some("text"),
        ),
        (
            b"{\"n\":1,\"user\":\"d290f1ee6c544b0190e6d701748f0851\"}",
            RejectCode::TypeMismatch,
            Some("user"),
        ),
        (
            b"{\"n\":1,\"at\":\"yesterday\"}",
            RejectCode::InvalidTimestamp,
            Some("at"),
        ),
        (
            b"{\"n\":1,\"ms\":9223372036854775807}",
            RejectCode::InvalidTimestamp,
            Some("ms"),
        ),
        (b"{\"n\":1,\"meta\":5}", RejectCode::TypeMismatch, Some("page")),
        (b"{\"n\":1,\"text\":\"\xff\"}", RejectCode::InvalidUtf8, None),
    ];
    for (line, code, field) in cases {
        let expected = (*code, field.map(str::to_owned));
        assert_eq!(only_reject(line), expected, "{}", String::from_utf8_lossy(line));
    }
    let mut long = b"{\"n\":1,\"text\":\"".to_vec();
    long.resize(LINE_BYTES_MAX + 1, b'a');
    assert_eq!(only_reject(&long).0, RejectCode::TooLarge);
    let reached: std::collections::BTreeSet<_> = cases.iter().map(|case| case.1).collect();
    assert_eq!(reached.len(), RejectCode::ALL.len());
}

/// Every text here is wrong by RFC 8259 or by our rule, wherever in an event it stands.
#[test]
fn what_is_not_json_is_refused_in_every_column() {
    let wrong: &[&str] = &[
        "",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "nul",
        "nulll",
        "True",
        "'a'",
        "\"a",
        "a\"",
        "\"\t\"",
        "\"\u{0}\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"a\":{\"b\":1,\"b\":1}}]",
        "1 2",
        "1\u{0}",
        "\"a\"b",
        "/**/1",
        "1//",
        "{\"a\":1}}",
        "[1]]",
        "\u{feff}1",
        "truefalse",
        "1,",
        ",1",
        "1e5x",
        "--1",
        "\u{a0}1",
    ];
    for wrong in wrong {
        for name in [
            "meta",
            "n",
            "x",
            "text",
            "at",
            "user",
            "yes",
            "kind",
            "ms",
            "undeclared",
        ] {
            let line = format!("{{\"n\":1,\"{name}\":{wrong}}}").replace("{\"n\":1,\"n\"", "{\"n\"");
            assert_eq!(only_reject(line.as_bytes()).0, RejectCode::InvalidJson, "{line}");
        }
    }
    for line in [
        "{\"n\":1,\"n\":1}",
        "{\"n\":1,\"\\u006e\":2}",
        "{\"n\":1}{\"n\":1}",
        "{\"n\":1} x",
        "\u{feff}{\"n\":1}",
    ] {
        assert_eq!(only_reject(line.as_bytes()).0, RejectCode::InvalidJson, "{line}");
    }
}

#[test]
fn what_only_looks_wrong_is_accepted() {
    let right = [
        " {\"n\" : 1 } ",
        "{\"n\":-0}",
        "{\"n\":1,\"wide\":-9223372036854775808}",
        "{\"n\":1,\"text\":\"\\u0000\\ud83d\\ude00\"}",
        "{\"n\":1,\"meta\":{\"big\":123456789012345678901234567890,\"x\":1e400,\"page\":null}}",
        "{\"\\u006e\":1}",
        "{\"n\":1,\"kind\":\"b\\n\"}",
        "{\"n\":1,\"user\":\"D290F1EE-6c54-4b01-90e6-d701748f0851\"}",
        "{\"n\":1,\"x\":-0}",
        "{\"n\":1,\"x\":null,\"meta\":{\"a\":{\"a\":1}}}",
        "{\"n\":1,\"text\":\"\u{7f}é\"}",
    ];
    for line in right {
        let decoded = decode(line.as_bytes());
        assert_eq!(decoded.accepted, 1, "{line}: {:?}", decoded.rejects.described);
    }
}

#[test]
fn depth_is_bounded_before_the_stack_is() {
    let nested = |levels: usize| {
        format!(
            "{{\"n\":1,\"meta\":{}{}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    // The event itself is the first level; `page` comes from inside of `meta`, so that needs an object.
    let inside = |levels: usize| {
        nested(levels - 2)
            .replace("\"meta\":", "\"meta\":{\"a\":")
            .replacen("}", "}}", 1)
    };
    assert_eq!(decode(inside(64).as_bytes()).accepted, 1);
    assert_eq!(only_reject(inside(65).as_bytes()).0, RejectCode::InvalidJson);
    for bomb in ["[".repeat(1_000_000), "{\"a\":".repeat(150_000), nested(500_000)] {
        assert_eq!(only_reject(bomb.as_bytes()).0, RejectCode::InvalidJson);
    }
}

#[test]
fn blank_lines_are_no_events_but_count_as_lines() {
    let decoded = decode(b"\n \r\n{\"n\":1}\r\n\n{\"n\":}\n{\"n\":2}");
    assert_eq!((decoded.accepted, decoded.rejects.total()), (2, 1));
    assert_eq!(decoded.rejects.described[0].line, 5);
}

#[test]
fn rejects_are_all_counted_and_the_first_thousand_described() {
    let decoded = decode("x\n".repeat(REJECTS_DESCRIBED_MAX + 5).as_bytes());
    assert_eq!(decoded.rejects.total() as usize, REJECTS_DESCRIBED_MAX + 5);
    assert_eq!(decoded.rejects.described.len(), REJECTS_DESCRIBED_MAX);
}

#[test]
fn batches_are_closed_at_the_bounds_of_a_record() {
    let mut narrow = stream(UnknownFields::Reject);
    narrow.fields.truncate(1);
    let body = "{\"n\":1}\n".repeat(RECORD_ROWS_MAX + 1);
    let decoded = decode_chunks(&narrow, Format::Ndjson, &[body.as_bytes()]).expect("decodes");
    let rows: Vec<_> = decoded
        .batches
        .iter()
        .map(arrow_array::RecordBatch::num_rows)
        .collect();
    assert_eq!(rows, [RECORD_ROWS_MAX, 1]);

    let wide = format!("{{\"n\":1,\"meta\":{{\"a\":\"{}\"}}}}\n", "x".repeat(1_000)).repeat(9_000);
    for batch in decode(wide.as_bytes()).batches {
        assert!(
            batch.get_array_memory_size() < 2 * BATCH_BYTES_TARGET,
            "{}",
            batch.get_array_memory_size()
        );
    }
}

#[test]
fn unknown_fields_are_kept_as_they_came_or_counted() {
    let line = b"{ \"a\" : [1, 2],\"n\":1,\"b\\u0062\":null,\"meta\":{\"z\":1}}";
    let kept = decode_chunks(&stream(UnknownFields::Keep), Format::Ndjson, &[line]).expect("decodes");
    let extra = kept.batches[0].column_by_name("_extra").expect("there");
    let extra = extra
        .as_any()
        .downcast_ref::<arrow_array::StringArray>()
        .expect("text");
    assert_eq!(extra.value(0), "{\"a\":[1, 2],\"b\\u0062\":null}");
    let ignored = decode_chunks(&stream(UnknownFields::Ignore), Format::Ndjson, &[line]).expect("decodes");
    assert_eq!((ignored.accepted, ignored.fields_ignored), (1, 2));
}

#[test]
fn an_uncompressed_body_is_not_copied_but_for_lines_that_straddle_chunks() {
    let body = "{\"n\":1,\"text\":\"abc\"}\n".repeat(1_000);
    let whole = decode(body.as_bytes());
    assert_eq!((whole.bytes_copied, whole.bytes_received), (0, body.len() as u64));
    let halves = body.as_bytes().split_at(body.len() / 2 + 3);
    let decoded = decode_chunks(
        &stream(UnknownFields::Reject),
        Format::Ndjson,
        &[halves.0, halves.1],
    );
    let copied = decoded.expect("decodes").bytes_copied;
    assert!(
        (1..=21).contains(&copied),
        "{copied} bytes copied for one straddling line"
    );
}

/// Splits one body at every byte, in both forms; nothing depends on where chunks end.
#[test]
fn a_body_may_be_split_at_every_byte() {
    let lines = "{\"n\":1,\"text\":\"a\\\"\\\\]}é\"}\r\n\n{\"n\":\"x\"}\n{\"n\":2,\"meta\":{\"page\":\"p\",\"a\":[{}]}}\n{\"n\":3";
    let array = " [ {\"n\":1,\"text\":\"a\\\"\\\\]}é\"} , {\"n\":\"x\"},5,{\"n\":2,\"meta\":{\"page\":\"p\",\"a\":[{}]}}\n] ";
    for (body, format) in [(lines, Format::Ndjson), (array, Format::Json)] {
        let expected =
            decode_chunks(&stream(UnknownFields::Reject), format, &[body.as_bytes()]).expect("decodes");
        assert_eq!(expected.accepted, 2);
        for at in 0..=body.len() {
            let (a, b) = body.as_bytes().split_at(at);
            let found = decode_chunks(&stream(UnknownFields::Reject), format, &[a, b]).expect("decodes");
            assert_eq!(found.batches, expected.batches, "split at {at}");
            assert_eq!(
                found.rejects.described, expected.rejects.described,
                "split at {at}"
            );
        }
        let bytes: Vec<_> = body.as_bytes().chunks(1).collect();
        let found = decode_chunks(&stream(UnknownFields::Reject), format, &bytes).expect("decodes");
        assert_eq!(found.batches, expected.batches);
    }
}

#[test]
fn a_document_that_is_not_json_is_refused_whole() {
    let wrong = [
        "",
        " ",
        "5",
        "\"a\"",
        "[",
        "[1",
        "[{\"n\":1}",
        "[{\"n\":1},]",
        "[,]",
        "[{\"n\":1} {\"n\":1}]",
        "{\"n\":1}{\"n\":1}",
        "{\"n\":1}]",
        "[{\"n\":1}]x",
        "[{\"n\":}]",
        "[{\"n\":1,\"n\":1}]",
        "{\"n\":1",
        "[1,2",
        "[\"a]",
        "[{\"n\":1}}]",
        "[nul]",
        "[\u{feff}]",
    ];
    for body in wrong {
        for chunks in [vec![body.as_bytes()], body.as_bytes().chunks(1).collect()] {
            let decoded = decode_chunks(&stream(UnknownFields::Reject), Format::Json, &chunks);
            assert!(matches!(decoded, Err(BodyError::NotJson { .. })), "{body}");
        }
    }
    for (body, accepted, rejected) in [
        ("[]", 0, 0),
        ("{\"n\":1}", 1, 0),
        (" [5 , {\"n\":1},\"]\"]\n", 1, 2),
        ("{}", 0, 1),
    ] {
        let decoded =
            decode_chunks(&stream(UnknownFields::Reject), Format::Json, &[body.as_bytes()]).expect(body);
        assert_eq!(
            (decoded.accepted, decoded.rejects.total()),
            (accepted, rejected),
            "{body}"
        );
    }
}

/// Generated events, and the same with a few bytes changed: the decoder accepts exactly what the model accepts,
/// and with the same values.
#[test]
fn the_decoder_agrees_with_the_oracle_on_generated_and_mutated_lines() {
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        2_000_000
    } else {
        60_000
    };
    let seed = 20_261_121;
    println!("seed {seed}, {rounds} lines");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let stream = stream(UnknownFields::Keep);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..rounds {
        let mut line = model::line(&mut random).into_bytes();
        for _ in 0..[0, 0, 1, 1, 2, 5][random.random_range(0..6)] {
            model::mutate(&mut line, &mut random);
        }
        let expected = model::expected(&line, &stream);
        let mut decoder = Decoder::new(Arc::new(stream.clone()), Format::Json);
        // As a document of one element, so that a newline inside does not make two lines of it.
        let body = [b"[", line.as_slice(), b"]"].concat();
        let found = decoder.push(Bytes::from(body)).and_then(|()| decoder.finish());
        let found = found
            .ok()
            .filter(|found| found.accepted == 1 && found.rejects.total() == 0);
        match (&expected, &found) {
            (Some(values), Some(found)) => {
                accepted += 1;
                model::compare(values, &found.batches[0], &stream, &line);
            }
            (None, None) => rejected += 1,
            _ => panic!(
                "{expected:?} expected of {}, decoder: {found:?}",
                String::from_utf8_lossy(&line)
            ),
        }
    }
    println!("{accepted} accepted, {rejected} rejected");
    assert!(
        accepted > rounds / 10 && rejected > rounds / 10,
        "one-sided: {accepted} accepted, {rejected} rejected"
    );
}

/// An element beyond the limit is a reject of its own, unless it makes the whole document something else than JSON.
#[test]
fn a_very_large_element_is_rejected_alone_and_refuses_the_document_when_it_is_no_json() {
    use event::decode::{Decoder, Format};
    let small = "{\"a\":1}";
    let large = |inside: &str| format!("{{\"a\":1,\"s\":\"{}\"}}", inside.repeat(LINE_BYTES_MAX / 2 + 1));
    for (element, whole) in [
        (large("xy"), true),
        (large("\\q"), false),
        (large("\u{1}y"), false),
    ] {
        let body = format!("[{small},{element},{small}]");
        for chunk in [body.len(), 100_000] {
            let declared = event::stream::parse_streams(&"[s.fields]\na = \"int\"".parse().expect("TOML"));
            let declared = std::sync::Arc::new(declared.expect("right").remove(0));
            let mut decoder = Decoder::new(declared, Format::Json);
            let pushed = body
                .as_bytes()
                .chunks(chunk)
                .try_for_each(|chunk| decoder.push(bytes::Bytes::copy_from_slice(chunk)));
            let decoded = pushed.and_then(|()| decoder.finish());
            match decoded {
                Ok(decoded) => assert!(whole && decoded.accepted == 2 && decoded.rejects.total() == 1),
                Err(error) => assert!(!whole, "{error}"),
            }
        }
    }
}
