//! Parameters of a URL as events: the same verdict as the same values in JSON.

use event::decode::{BodyError, Decoded, Format, ParameterDecoder};
use event::json::EventWriter;
use event::{RejectCode, StreamDeclaration, UnknownFields};
use serde_json::{Value, json};

use crate::{decode_chunks, stream};

fn decode(stream: &StreamDeclaration, parameters: &[(&str, &str)]) -> Result<Decoded, BodyError> {
    ParameterDecoder::new(stream).decode(parameters)
}

fn row(stream: &StreamDeclaration, decoded: &Decoded) -> Value {
    assert_eq!(decoded.accepted, 1, "{:?}", decoded.rejects);
    let mut text = Vec::new();
    let writer = EventWriter::new(stream, &decoded.batches[0]);
    writer.write(0, &mut text).expect("the stream's own row");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn texts_become_values_of_the_declared_types() {
    let stream = stream(UnknownFields::Reject);
    let decoded = decode(
        &stream,
        &[
            ("n", "+007"),
            ("wide", "-9223372036854775808"),
            ("x", ".5"),
            ("yes", "1"),
            ("text", "a \"b\"\n\\é"),
            ("kind", "b\n"),
            ("user", "D290F1EE-6C54-4B01-90E6-D701748F0851"),
            ("at", "2024-09-10T09:12:33.001Z"),
            ("ms", "1725959553001"),
            ("meta.page", "top"),
        ],
    );
    assert_eq!(
        row(&stream, &decoded.expect("parameters")),
        json!({
            "n": 7, "wide": i64::MIN, "x": 0.5, "yes": true, "text": "a \"b\"\n\\é", "kind": "b\n",
            "user": "d290f1ee-6c54-4b01-90e6-d701748f0851", "at": "2024-09-10T09:12:33.001000Z", "ms": 1725959553001_i64,
            "meta": {"page": "top"},
        })
    );
    let json = decode(&stream, &[("n", "1"), ("meta", "{\"a\":[1]}"), ("yes", "false")]);
    assert_eq!(
        row(&stream, &json.expect("parameters")),
        json!({"n": 1, "meta": {"a": [1]}, "yes": false})
    );
}

#[test]
fn a_text_that_is_no_value_of_its_field_is_rejected_with_what_was_expected() {
    let stream = stream(UnknownFields::Reject);
    for (name, text, code) in [
        ("n", "", RejectCode::TypeMismatch),
        ("n", "one", RejectCode::TypeMismatch),
        ("n", "1.0", RejectCode::TypeMismatch),
        ("n", "1 ", RejectCode::TypeMismatch),
        ("n", "--1", RejectCode::TypeMismatch),
        ("n", "1001", RejectCode::OutOfRange),
        ("wide", "9223372036854775808", RejectCode::OutOfRange),
        ("x", "NaN", RejectCode::TypeMismatch),
        ("x", "inf", RejectCode::TypeMismatch),
        ("x", "", RejectCode::TypeMismatch),
        ("x", "1e400", RejectCode::OutOfRange),
        ("x", "-1e400", RejectCode::OutOfRange),
        ("yes", "yes", RejectCode::TypeMismatch),
        ("text", "longer than sixteen", RejectCode::TooLarge),
        ("kind", "c", RejectCode::UnknownValue),
        ("user", "d290f1ee", RejectCode::TypeMismatch),
        ("at", "yesterday", RejectCode::InvalidTimestamp),
        ("ms", "soon", RejectCode::TypeMismatch),
        ("other", "1", RejectCode::UnknownField),
    ] {
        let mut parameters = vec![(name, text)];
        if name != "n" {
            parameters.push(("n", "1"));
        }
        let decoded = decode(&stream, &parameters).expect("parameters");
        assert_eq!(
            (decoded.accepted, decoded.rejects.total()),
            (0, 1),
            "{name}={text}"
        );
        let reject = &decoded.rejects.described[0];
        assert_eq!(
            (reject.code, reject.field.as_deref(), reject.line),
            (code, Some(name), 1),
            "{name}={text}"
        );
    }
    let missing = decode(&stream, &[]).expect("parameters").rejects;
    assert_eq!(missing.described[0].code, RejectCode::MissingField);
}

#[test]
fn a_name_that_is_given_twice_and_json_that_is_none_are_errors() {
    let stream = stream(UnknownFields::Keep);
    for parameters in [
        [("n", "1"), ("n", "1")],
        [("other", "1"), ("other", "2")],
        [("n", "1"), ("meta", "{")],
        [("n", "1"), ("meta", "{\"a\":1,\"a\":2}")],
        [("n", "1"), ("meta", "1,\"text\":\"smuggled\"")],
    ] {
        let error = decode(&stream, &parameters).expect_err("refused");
        assert!(matches!(error, BodyError::BadParameters { .. }), "{error}");
    }
}

#[test]
fn unknown_parameters_are_treated_as_unknown_fields_are() {
    let parameters = [("n", "1"), ("utm\"", "x&y")];
    let kept = stream(UnknownFields::Keep);
    let decoded = decode(&kept, &parameters).expect("parameters");
    assert_eq!(row(&kept, &decoded), json!({"n": 1, "utm\"": "x&y"}));
    let same = decode_chunks(&kept, Format::Json, &[b"{\"n\":1,\"utm\\\"\":\"x&y\"}"]).expect("JSON");
    assert_eq!(decoded.batches, same.batches);
    let ignored = decode(&stream(UnknownFields::Ignore), &parameters).expect("parameters");
    assert_eq!((ignored.accepted, ignored.fields_ignored), (1, 1));
    let rejected = decode(&stream(UnknownFields::Reject), &parameters).expect("parameters");
    assert_eq!(rejected.rejects.described[0].code, RejectCode::UnknownField);
}
