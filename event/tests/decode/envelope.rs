//! Enveloped bodies: the same rows and rejects as the bare array gives, wherever the chunks are cut, and the whole
//! body or nothing when the envelope is none.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use event::decode::{BodyError, Decoded, Decoder, Envelope, Format};
use event::json::EventWriter;
use event::limits::{BATCH_BYTES_TARGET, ENVELOPE_BYTES_MAX, RECORD_BYTES_MAX};
use event::{FieldType, Reject, StreamDeclaration, UnknownFields, schema};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::{decode_chunks, field, model, stream, strict};

fn envelope(fields: &[(&str, &str)]) -> Arc<Envelope> {
    let named = |(member, field): &(&str, &str)| ((*member).to_owned(), (*field).to_owned());
    Arc::new(Envelope {
        member: "events".to_owned(),
        fields: fields.iter().map(named).collect(),
    })
}

fn decode(
    stream: &StreamDeclaration,
    envelope: &Arc<Envelope>,
    chunks: &[&[u8]],
) -> Result<Decoded, BodyError> {
    let mut decoder = Decoder::enveloped(stream, Arc::clone(envelope));
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk))?;
    }
    decoder.finish()
}

/// Every accepted row as a JSON object.
fn rows(stream: &StreamDeclaration, decoded: &Decoded) -> Vec<Value> {
    let texts = texts(stream, decoded);
    let parsed = texts.iter().map(|text| serde_json::from_str(text).expect("JSON"));
    parsed.collect()
}

/// The same as it is written: a `json` value may have numbers that no parser takes.
fn texts(stream: &StreamDeclaration, decoded: &Decoded) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in &decoded.batches {
        assert_eq!(batch.schema(), schema::wire(stream));
        let writer = EventWriter::new(stream, batch);
        for row in 0..batch.num_rows() {
            let mut text = Vec::new();
            writer.write(row, &mut text).expect("the stream's own rows");
            rows.push(String::from_utf8(text).expect("UTF-8"));
        }
    }
    assert_eq!(rows.len() as u64, decoded.accepted);
    rows
}

/// The members of every row, each as its own text; the rejects; how many fields were ignored.
type Outcome = (Vec<Map<String, Value>>, Vec<Reject>, u64);

fn outcome(stream: &StreamDeclaration, decoded: Result<Decoded, BodyError>) -> Option<Outcome> {
    let decoded = decoded.ok()?;
    let rows = texts(stream, &decoded);
    let rows = rows
        .iter()
        .map(|row| strict::members(row).expect("an object"))
        .collect();
    Some((rows, decoded.rejects.described, decoded.fields_ignored))
}

/// What the model makes of an enveloped body: the outcome of the bare array, with the one copied member in it.
fn expected(stream: &StreamDeclaration, body: &[u8]) -> Option<Outcome> {
    let members = strict::members(std::str::from_utf8(body).ok()?)?;
    let events = members.get("events")?.as_str()?;
    if !events.starts_with('[') {
        return None;
    }
    let app = match members.get("app").and_then(Value::as_str).unwrap_or("null") {
        "null" => None,
        text => {
            let text: String = serde_json::from_str(text).ok()?;
            Some(text).filter(|text| text.len() <= 16).map(Some)?
        }
    };
    let (mut rows, rejects, ignored) =
        outcome(stream, decode_chunks(stream, Format::Json, &[events.as_bytes()]))?;
    for row in &mut rows {
        if let (Some(app), None) = (&app, row.get("text")) {
            row.insert("text".to_owned(), json!(json!(app).to_string()));
        }
    }
    Some((rows, rejects, ignored))
}

/// The envelope against the bare array, with members in any order, mutated, in two chunks cut anywhere.
#[test]
fn an_enveloped_body_gives_what_the_bare_array_gives() {
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        1_000_000
    } else {
        20_000
    };
    let seed = 20_261_121;
    println!("seed {seed}, {rounds} bodies");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let envelope = envelope(&[("app", "text")]);
    let (mut read, mut refused) = (0, 0);
    for round in 0..rounds {
        let unknown = [UnknownFields::Reject, UnknownFields::Keep, UnknownFields::Ignore][round % 3];
        let stream = stream(unknown);
        let events: Vec<_> = (0..random.random_range(0..4))
            .map(|_| model::line(&mut random))
            .collect();
        let mut members = vec![
            format!("\"events\": [{}]", events.join(",")),
            "\"appVersion\":{\"a\":[1,{\"events\":[]}],\"b\":\"]}\\\"\"}".to_owned(),
            "\"app\":\"shop\"".to_owned(),
            "\"\\u0065vent\":[{}]".to_owned(),
        ];
        for at in (1..members.len()).rev() {
            members.swap(at, random.random_range(0..=at));
        }
        members.truncate(random.random_range(1..=members.len()));
        let mut body = format!(" {{{}}}\n", members.join(" ,")).into_bytes();
        for _ in 0..[0, 0, 1, 1, 2][random.random_range(0..5)] {
            model::mutate(&mut body, &mut random);
        }
        let cut = random.random_range(0..=body.len());
        let found = decode(&stream, &envelope, &[&body[..cut], &body[cut..]]);
        let expected = expected(&stream, &body);
        let shown = format!("{} cut at {cut}: {found:?}", String::from_utf8_lossy(&body));
        let found = outcome(&stream, found);
        *if found.is_some() { &mut read } else { &mut refused } += 1;
        assert!(found == expected, "{expected:?} expected of {shown}");
    }
    println!("{read} read, {refused} refused");
    assert!(read > rounds / 10 && refused > rounds / 10);
}

#[test]
fn an_envelope_may_be_split_at_every_byte() {
    let stream = stream(UnknownFields::Reject);
    let envelope = envelope(&[("a\"pp", "text"), ("n", "wide")]);
    let body = "\t{ \"n\" : 7,\"x\":{\"y\":[\"\\\\\\\"]}\"]}, \"\\u0065vents\" : [ {\"n\":1,\"text\":\"own \\u00e9\"} ,\
                {\"n\":\"bad\"}, 5,{\"n\":2 , \"page\":1},{\"n\":3} ] ,\"a\\\"pp\":\"sh\\u00f6p\" } \r\n"
        .as_bytes();
    let decoded = decode(&stream, &envelope, &[body]);
    let shown = decoded.as_ref().map(|decoded| rows(&stream, decoded));
    let whole = outcome(&stream, decode(&stream, &envelope, &[body])).expect("an envelope");
    assert_eq!(
        shown.expect("an envelope"),
        [
            json!({"n": 1, "wide": 7, "text": "own é"}),
            json!({"n": 3, "wide": 7, "text": "shöp"}),
        ]
    );
    let lines: Vec<_> = whole.1.iter().map(|reject| reject.line).collect();
    assert_eq!(lines, [2, 3, 4]);
    for cut in 0..=body.len() {
        let found = decode(&stream, &envelope, &[&body[..cut], &body[cut..]]);
        assert_eq!(outcome(&stream, found).as_ref(), Some(&whole), "cut at {cut}");
    }
    let bytes: Vec<_> = body.chunks(1).collect();
    assert_eq!(outcome(&stream, decode(&stream, &envelope, &bytes)), Some(whole));
    // And what is only a beginning is never taken for the whole.
    let end = body.iter().rposition(|byte| *byte == b'}').expect("a brace");
    for cut in 0..=end {
        assert!(
            decode(&stream, &envelope, &[&body[..cut]]).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn what_is_no_envelope_is_refused_whole() {
    let stream = stream(UnknownFields::Reject);
    let envelope = envelope(&[("app", "text")]);
    let deep = |levels: usize| {
        format!(
            "{{\"events\":[],\"x\":{}{}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let (deepest, too_deep) = (deep(63), deep(64));
    for good in ["{\"events\":[]}", "{\"events\":[],\"app\":null}", &deepest] {
        let decoded = decode(&stream, &envelope, &[good.as_bytes()]).expect(good);
        assert_eq!((decoded.accepted, decoded.rejects.total()), (0, 0), "{good}");
    }
    for (body, json) in [
        ("{}", true),
        ("{\"event\":[]}", true),
        ("{\"x\":{\"events\":[]}}", true),
        ("{\"x\":\"events\",\"y\":[]}", true),
        ("{\"events\":null}", true),
        ("{\"events\":{}}", true),
        ("{\"events\":\"[]\"}", true),
        ("[{\"events\":[]}]", true),
        ("[]", true),
        ("\"events\"", true),
        ("{\"events\":[{\"n\":1}],\"app\":5}", true),
        ("{\"app\":\"longer than sixteen\",\"events\":[]}", true),
        ("", false),
        ("{", false),
        ("{\"events\":[{\"n\":1}]", false),
        ("{\"events\":[{\"n\":1}}", false),
        ("{\"events\":[{\"n\":1},]}", false),
        ("{\"events\":[{\"n\":1}],}", false),
        ("{\"events\":[{\"n\":1}]} {}", false),
        ("{\"events\":[{\"n\":1}]}]", false),
        ("{\"events\":[{\"n\":1}] \"app\":\"x\"}", false),
        ("{\"events\":[{\"n\":1}],\"events\":[]}", false),
        ("{\"events\":[{\"n\":1}],\"\\u0065vents\":[]}", false),
        ("{\"events\":[],\"x\":1,\"\\u0078\":2}", false),
        ("{\"events\":[],\"x\":{\"y\":1,\"y\":2}}", false),
        ("{\"events\":[],\"x\":\"\\ud800\"}", false),
        ("{\"events\":[],\"x\":01}", false),
        ("{\"events\":[],\"x\":]}", false),
        ("{\"events\":[],\"x\":[}]}", false),
        ("{\"events\":[],x:1}", false),
        ("{\"events\" []}", false),
        ("{\"events\"::[]}", true),
        ("{:\"events\":[]}", false),
        (&too_deep, false),
    ] {
        let error = decode(&stream, &envelope, &[body.as_bytes()]).expect_err(body);
        assert_eq!(
            !matches!(error, BodyError::NotJson { .. }),
            json,
            "{body}: {error}"
        );
    }
    let bad_text = [b"{\"events\":[],\"x\":\"\xff\"}".as_slice()];
    assert!(matches!(
        decode(&stream, &envelope, &bad_text),
        Err(BodyError::NotJson { .. })
    ));
}

#[test]
fn an_error_names_the_byte_of_the_body() {
    let stream = stream(UnknownFields::Reject);
    for body in [
        "{\"x\":01,\"events\":[{\"n\":1},{\"n\":2}]}",
        "{\"events\":[{\"n\":1},{\"n\":2}],\"x\":01}",
    ] {
        let error = decode(&stream, &envelope(&[]), &[body.as_bytes()]).expect_err(body);
        // The scanner stands behind the zero.
        let at = body.find("01").expect("there") + 1;
        assert!(
            error.to_string().contains(&format!("(byte {at})")),
            "{body}: {error}"
        );
    }
}

/// A field of every type, one row with a value of its own and one without, the members before or after the events.
#[test]
fn members_of_every_type_go_into_events_that_have_none_of_their_own() {
    let declared = stream(UnknownFields::Keep);
    let members = [
        ("wide", "-9223372036854775808", "1"),
        ("x", "1.5", "0.25"),
        ("yes", "true", "false"),
        ("text", "\"shop\"", "\"own\""),
        ("kind", "\"b\\n\"", "\"a\""),
        (
            "user",
            "\"d290f1ee-6c54-4b01-90e6-d701748f0851\"",
            "\"00000000-0000-4000-8000-000000000001\"",
        ),
        ("at", "\"2024-09-10T09:12:33Z\"", "\"2025-01-01T00:00:00Z\""),
        ("ms", "1725959553001", "5"),
        ("meta", "{\"a\":[1,\"é\"]}", "[2]"),
    ];
    for (name, given, own) in members {
        let envelope = envelope(&[("copied", name)]);
        let events = format!("\"events\":[{{\"n\":1}},{{\"n\":2,\"{name}\":{own}}},{{\"n\":3}}]");
        let copied = format!("\"copied\":{given}");
        for body in [format!("{{{copied},{events}}}"), format!("{{{events},{copied}}}")] {
            let rows = rows(
                &declared,
                &decode(&declared, &envelope, &[body.as_bytes()]).expect(&body),
            );
            let bare = format!(
                "[{{\"n\":1,\"{name}\":{given}}},{{\"n\":2,\"{name}\":{own}}},{{\"n\":3,\"{name}\":{given}}}]"
            );
            let bare = decode_chunks(&declared, Format::Json, &[bare.as_bytes()]).expect("JSON");
            assert_eq!(rows, self::rows(&declared, &bare), "{body}");
        }
    }
}

#[test]
fn a_required_field_may_come_from_the_envelope_or_from_every_event() {
    let mut declared = stream(UnknownFields::Reject);
    declared
        .fields
        .push(field("app", FieldType::String { max_bytes: 8 }, false));
    let envelope = envelope(&[("appName", "app")]);
    let read = |body: &str| decode(&declared, &envelope, &[body.as_bytes()]);
    let accepted = |body: &str| read(body).map(|decoded| (decoded.accepted, decoded.rejects.total()));
    assert_eq!(accepted("{\"events\":[{\"n\":1}],\"appName\":\"a\"}"), Ok((1, 0)));
    assert_eq!(accepted("{\"events\":[{\"n\":1,\"app\":\"b\"}]}"), Ok((1, 0)));
    // A row that is rejected for another reason needs none.
    assert_eq!(accepted("{\"events\":[{\"n\":1,\"app\":\"b\"},{}]}"), Ok((1, 1)));
    assert_eq!(accepted("{\"events\":[],\"appName\":null}"), Ok((0, 0)));
    for body in [
        "{\"events\":[{\"n\":1}]}",
        "{\"events\":[{\"n\":1,\"app\":\"b\"},{\"n\":2}],\"appName\":null}",
    ] {
        let error = read(body).expect_err(body).to_string();
        assert!(error.contains("`appName`") && error.contains("`app`"), "{error}");
    }
    // What is required without the envelope stays required.
    let error = read("{\"events\":[{}],\"appName\":\"a\"}")
        .expect("an envelope")
        .rejects;
    assert_eq!(error.described[0].field.as_deref(), Some("n"));
}

#[test]
fn what_is_around_the_events_is_bounded() {
    let stream = stream(UnknownFields::Reject);
    let around = |bytes: usize| format!("{{\"events\":[{{\"n\":1}}],\"x\":\"{}\"}}", "y".repeat(bytes));
    let frame = around(0).len() - "{\"n\":1}".len();
    let read = |body: String| {
        let chunks: Vec<_> = body.as_bytes().chunks(70_000).collect();
        decode(&stream, &envelope(&[]), &chunks).map(|decoded| decoded.accepted)
    };
    assert_eq!(read(around(ENVELOPE_BYTES_MAX - frame)), Ok(1));
    assert!(matches!(
        read(around(ENVELOPE_BYTES_MAX - frame + 1)),
        Err(BodyError::NoEnvelope { .. })
    ));
}

/// A long text that goes into many small events: the caller learns the size first, and no batch outgrows a record.
#[test]
fn a_value_for_many_events_is_announced_and_cut_into_records() {
    let mut declared = stream(UnknownFields::Reject);
    let kind = FieldType::String { max_bytes: 60_000 };
    declared.fields.push(field("app", kind, true));
    let text = "y".repeat(50_000);
    let events = vec!["{\"n\":1}"; 1_000].join(",");
    let body = format!("{{\"events\":[{events}],\"appName\":\"{text}\"}}");
    let mut decoder = Decoder::enveloped(&declared, envelope(&[("appName", "app")]));
    decoder.push(Bytes::from(body)).expect("JSON");
    let announced = decoder.end().expect("an envelope");
    assert!(announced >= 1_000 * text.len(), "{announced}");
    assert!(
        decoder.closed_batches().is_empty(),
        "nothing is copied before the caller has agreed"
    );
    let decoded = decoder.finish().expect("an envelope");
    assert_eq!(decoded.accepted, 1_000);
    let rows: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 1_000);
    for batch in &decoded.batches {
        let app = batch.column_by_name("app").expect("declared").as_string::<i32>();
        assert!(app.null_count() == 0 && app.value_data().len() <= BATCH_BYTES_TARGET);
        assert!(app.iter().all(|value| value == Some(&text)));
        let batch = event::Batch {
            stream: declared.name.clone(),
            partition: event::Partition(0),
            version: 1,
            spans: vec![event::Span {
                rows: batch.num_rows() as u32,
                trace_id: event::TraceId::random(),
                received_at: 0,
                idempotency_key: None,
                producer: None,
            }],
            rows: batch.clone(),
        };
        let record = event::record::encode(&batch).expect("encodable");
        assert!(record.len() <= RECORD_BYTES_MAX);
    }
}

#[test]
fn events_of_an_envelope_are_read_where_they_lie() {
    let stream = stream(UnknownFields::Reject);
    let events = vec!["{\"n\":1,\"text\":\"0123456789\"}"; 10_000].join(",");
    let body = format!("{{\"app\":\"x\",\"events\":[{events}]}}");
    let mut decoder = Decoder::enveloped(&stream, envelope(&[("app", "text")]));
    decoder.push(Bytes::from(body)).expect("JSON");
    let decoded = decoder.finish().expect("an envelope");
    assert_eq!((decoded.accepted, decoded.bytes_copied), (10_000, 0));
}
