//! Every type and every nasty value comes back as it went in.

use event::{FieldType, TimeUnit};

use super::world::{World, field, int, one, optional, options, shared_url, stream, text};

#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_nasty_value_comes_back_as_it_went_in() {
    let Some(url) = shared_url("every_type_and_nasty_value_comes_back_as_it_went_in") else {
        return;
    };
    let world = World::new(&url).await;
    let float = FieldType::Float {
        min: f64::MIN,
        max: f64::MAX,
    };
    let us = FieldType::Timestamp {
        unit: Some(TimeUnit::Microseconds),
    };
    let kind = FieldType::Enum {
        values: vec!["a".to_owned(), "b'\\\n".to_owned()],
    };
    let stream = stream(
        "types",
        vec![
            field("n", int()),
            optional("yes", FieldType::Bool),
            optional("x", float),
            optional("note", text()),
            optional("kind", kind),
            optional("user", FieldType::Uuid),
            optional("at", FieldType::Timestamp { unit: None }),
            optional("us", us),
            optional("meta", FieldType::Json),
        ],
    );
    let id = "d290f1ee-6c54-4b01-90e6-d701748f0851";
    let lines = [
        format!(
            r#"{{"n":-9223372036854775808,"yes":true,"x":-0.0,"note":"","kind":"b'\\\n","user":"{id}","at":"0001-01-01T00:00:00Z","us":-62135596800000000,"meta":null}}"#
        ),
        r#"{"n":9223372036854775807,"yes":false,"x":5e-324,"note":"a\tb\\c\"d'e\n\u0001\u007f é 😀 \\N \\. ","kind":"a","at":"9999-12-31T23:59:59.999999Z","us":253402300799999999,"meta":{"z":1,"a":[1e300,12345678901234567890,"\ud83d\ude00"],"":{}},"other":{"deep":[true]}}"#.to_owned(),
        r#"{"n":0,"x":1.7976931348623157e308,"at":"1999-12-31T23:59:59.999999+00:00","us":0,"meta":"text"}"#.to_owned(),
        format!(r#"{{"n":1,"note":"{}"}}"#, "ж".repeat(30_000)),
    ];
    world.append(&stream, &lines).await;
    world.run(std::slice::from_ref(&stream), options()).await;

    let found = world
        .rows(
            "SELECT n, yes, x, left(note, 40), length(note), kind, \"user\", at AT TIME ZONE 'UTC', us AT TIME ZONE 'UTC', \
             meta, _extra, extract(epoch FROM _received_at)::text, _trace_id, _partition, _offset, _row \
             FROM types ORDER BY _row",
        )
        .await;
    let end = |row: &str| {
        ["1700000000.123456", &"07".repeat(16), "0", "0", row]
            .map(str::to_owned)
            .to_vec()
    };
    let expected = [
        vec![
            "-9223372036854775808",
            "t",
            "-0",
            "",
            "0",
            "b'\\\n",
            id,
            "0001-01-01 00:00:00",
            "0001-01-01 00:00:00",
            "null",
            "null",
        ],
        vec![
            "9223372036854775807",
            "f",
            "5e-324",
            "a\tb\\c\"d'e\n\u{1}\u{7f} é 😀 \\N \\. ",
            "23",
            "a",
            "null",
            "9999-12-31 23:59:59.999999",
            "9999-12-31 23:59:59.999999",
            r#"{"": {}, "a": [BIG, 12345678901234567890, "😀"], "z": 1}"#,
            r#"{"other": {"deep": [true]}}"#,
        ],
        vec![
            "0",
            "null",
            "1.7976931348623157e+308",
            "null",
            "null",
            "null",
            "null",
            "1999-12-31 23:59:59.999999",
            "1970-01-01 00:00:00",
            r#""text""#,
            "null",
        ],
        vec![
            "1",
            "null",
            "null",
            "жжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжжж",
            "30000",
            "null",
            "null",
            "null",
            "null",
            "null",
            "null",
        ],
    ];
    // 1e300 as PostgreSQL prints a NUMERIC.
    let big = format!("1{}", "0".repeat(300));
    for (row, expected) in expected.into_iter().enumerate() {
        let mut expected: Vec<String> = expected.iter().map(|value| value.replace("BIG", &big)).collect();
        expected.extend(end(&row.to_string()));
        assert_eq!(found[row], expected, "row {row}");
    }
    assert_eq!(found.len(), 4);
    let types = world
        .rows(
            "SELECT string_agg(format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'types'::regclass AND attnum > 0",
        )
        .await;
    assert_eq!(
        types[0][0],
        "bigint,boolean,double precision,text,text,uuid,timestamp with time zone,timestamp with time zone,jsonb,\
         jsonb,timestamp with time zone,text,integer,bigint,integer"
    );
    assert_eq!(
        one(&world.admin, "SELECT count(*) FROM tidemill_refused").await,
        0
    );
    world.drop_schema().await;
}
