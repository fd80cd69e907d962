//! An event that was decoded and written as JSON again decodes to the same columns.

use bytes::Bytes;
use event::decode::EventDecoder;
use event::json::EventWriter;
use event::stream::parse_streams;

fn round_trip(declaration: &str, line: &str) -> String {
    let table: toml::Table = declaration.parse().expect("TOML");
    let stream = parse_streams(&table).expect("a declaration").remove(0);
    let mut decoder = EventDecoder::new(&stream);
    let rows = decoder
        .decode(Bytes::from(line.to_owned()).as_ref())
        .expect("an event");
    let mut written = Vec::new();
    EventWriter::new(&stream, &rows)
        .write(0, &mut written)
        .expect("writes");
    let again = decoder.decode(&written).expect("what was written is an event");
    assert_eq!(rows, again, "{}", String::from_utf8_lossy(&written));
    String::from_utf8(written).expect("UTF-8")
}

#[test]
fn every_type_is_written_as_it_is_read() {
    let declaration = r#"
        [s.fields]
        flag = "bool"
        count = "int"
        share = "float"
        text = "string"
        kind = { type = "enum", values = ["a", "b"] }
        id = "uuid"
        at = "timestamp"
        second = { type = "timestamp", unit = "s" }
        milli = { type = "timestamp", unit = "ms" }
        any = "json"
        none = { type = "int", optional = true }
    "#;
    let line = r#"{"none":null,"any":{"b":[1,  2e400]},"milli":-1,"second":1709164800,"at":"2024-02-29T01:00:00.000001+01:00","id":"4BF92F35-77B3-4DA6-A3CE-929D0E0E4736","kind":"b","text":"a\"\u00fc\n\u0001","share":-2.5e-3,"count":-9223372036854775808,"flag":true}"#;
    let written = round_trip(declaration, line);
    assert_eq!(
        written,
        r#"{"flag":true,"count":-9223372036854775808,"share":-0.0025,"text":"a\"ü\n\u0001","kind":"b","id":"4bf92f35-77b3-4da6-a3ce-929d0e0e4736","at":"2024-02-29T00:00:00.000001Z","second":1709164800,"milli":-1,"any":{"b":[1,  2e400]}}"#
    );
}

#[test]
fn moments_of_every_kind_of_year_come_back() {
    let declaration = "[s.fields]\nat = \"timestamp\"";
    for moment in [
        "0001-01-01T00:00:00Z",
        "1600-02-29T23:59:59.999999Z",
        "1900-03-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "2000-12-31T12:00:00Z",
        "2100-02-28T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ] {
        let line = format!("{{\"at\":\"{moment}\"}}");
        assert_eq!(round_trip(declaration, &line), line);
    }
}

#[test]
fn nested_values_stand_where_they_came_from() {
    let declaration = r#"
        [s.fields]
        page = { type = "string", optional = true, from = "meta.page.url" }
        size = { type = "int", optional = true, from = "meta.size" }
        n = "int"
    "#;
    let written = round_trip(declaration, r#"{"n":1,"meta":{"size":3,"page":{"url":"x"}}}"#);
    assert_eq!(written, r#"{"meta":{"page":{"url":"x"},"size":3},"n":1}"#);
    assert_eq!(round_trip(declaration, r#"{"n":1}"#), r#"{"n":1}"#);
    let whole = r#"
        [s.fields]
        page = { type = "string", optional = true, from = "meta.page" }
        meta = { type = "json", optional = true }
    "#;
    let line = r#"{"meta":{"page":"x","more":[]}}"#;
    assert_eq!(round_trip(whole, line), line);
}

#[test]
fn kept_fields_are_written_at_the_end_and_only_once() {
    let declaration = r#"
        [s]
        unknown_fields = "keep"
        [s.fields]
        page = { type = "string", optional = true, from = "meta.page" }
        n = "int"
    "#;
    let line = r#"{"z":{"a":1},"meta":{"page":"x","more":1},"n":2,"b":"\u00e9"}"#;
    let written = round_trip(declaration, line);
    assert_eq!(
        written,
        r#"{"n":2,"z":{"a":1},"meta":{"page":"x","more":1},"b":"\u00e9"}"#
    );
}
