//! Values as the bytes that `COPY … BINARY` expects.

use std::sync::Arc;

use arrow_array::ArrayRef;
use event::{Offset, Partition};

use super::*;

fn rows(columns: Vec<ArrayRef>) -> Rows {
    let named = columns
        .into_iter()
        .enumerate()
        .map(|(index, array)| (format!("c{index}"), array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(named).expect("columns of one length");
    let mut rows = Rows::new(Partition(0), Offset(0));
    rows.push(batch, Offset(1));
    rows
}

fn encode(rows: &Rows, range: Range<usize>, wires: &[Wire], screen: Screen) -> Tuples {
    let columns: Vec<Sent> = wires
        .iter()
        .enumerate()
        .map(|(column, wire)| Sent {
            source: Source::Lake(column),
            wire: *wire,
        })
        .collect();
    let encoder = Encoder {
        stream: &StreamDeclaration::rejects(),
        columns: &columns,
        numbered: false,
        screen,
    };
    encoder.encode(rows, range).expect("the types fit")
}

fn refused(tuples: &Tuples) -> Vec<(usize, &str)> {
    let refused = tuples.unwritable.iter();
    refused
        .map(|refused| (refused.row, refused.refusal.code.as_str()))
        .collect()
}

#[test]
fn a_tuple_has_the_documented_bytes() {
    let id = "d290f1ee-6c54-4b01-90e6-d701748f0851";
    let rows = rows(vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int32Array::from(vec![-2, 7])),
        Arc::new(StringArray::from(vec![Some("aé"), Some("")])),
        Arc::new(StringArray::from(vec![None, Some("{}")])),
        Arc::new(TimestampMicrosecondArray::from(vec![EPOCH + 1, i64::MIN]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some(id), None])),
    ]);
    let wires = [
        Wire::Bool,
        Wire::Int4,
        Wire::Text,
        Wire::Jsonb,
        Wire::Moment,
        Wire::Uuid,
    ];
    let uuid = uuid::Uuid::parse_str(id).expect("a uuid");
    let first = [
        &[0, 6][..],
        &[0, 0, 0, 1, 1],
        &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe],
        &[0, 0, 0, 3, b'a', 0xc3, 0xa9],
        &NULL,
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 16],
        uuid.as_bytes(),
    ]
    .concat();
    let second = [
        &[0, 6][..],
        &NULL,
        &[0, 0, 0, 4, 0, 0, 0, 7],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, b'{', b'}'],
        &[0, 0, 0, 8, 0x80, 0, 0, 0, 0, 0, 0, 1],
        &NULL,
    ]
    .concat();
    let bytes = |range| encode(&rows, range, &wires, Screen::Zeros).bytes;
    assert_eq!(bytes(0..1), first);
    assert_eq!(bytes(1..2), second);
    assert_eq!(bytes(0..2), [first, second].concat());
    assert!(bytes(1..1).is_empty());
}

#[test]
fn a_number_that_its_column_cannot_express_is_left_out() {
    let rows = rows(vec![
        Arc::new(Int64Array::from(vec![1, 40_000, -1, 1 << 40])),
        Arc::new(Float64Array::from(vec![1.5, 2.0, 1e39, 0.0])),
    ]);
    let narrow = encode(&rows, 0..4, &[Wire::Int2, Wire::Float4], Screen::Nothing);
    assert_eq!(refused(&narrow), [(1, "22003"), (2, "22003"), (3, "22003")]);
    assert_eq!(
        narrow.bytes,
        [
            &[0, 2][..],
            &[0, 0, 0, 2, 0, 1],
            &[0, 0, 0, 4],
            &1.5_f32.to_be_bytes()
        ]
        .concat()
    );
    let wide = encode(&rows, 0..4, &[Wire::Int8, Wire::Float8], Screen::Nothing);
    assert!(wide.unwritable.is_empty());
    assert_eq!(wide.bytes.len(), 4 * 26);
}

#[test]
fn zeros_in_texts_are_found_when_they_are_looked_for() {
    let json = [
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\\u0000"}"#,
        r#"{"a":"\\\u0000"}"#,
        r#"{"a":"\u0001\u00000"}"#,
        r#""u0000\\""#,
    ];
    let found: Vec<bool> = json
        .iter()
        .map(|text| has_escaped_zero(text.as_bytes()))
        .collect();
    assert_eq!(found, [true, false, true, true, false]);

    let rows = rows(vec![
        Arc::new(StringArray::from(vec!["a", "\0", "c", "d"])),
        Arc::new(StringArray::from(vec!["1", "2", json[0], json[1]])),
    ]);
    let wires = [Wire::Text, Wire::Jsonb];
    let screened = encode(&rows, 0..4, &wires, Screen::Zeros);
    assert_eq!(refused(&screened), [(1, "22021"), (2, "22P05")]);
    assert!(encode(&rows, 0..4, &wires, Screen::Nothing).unwritable.is_empty());
}

#[test]
fn a_column_of_another_type_is_an_error_and_no_panic() {
    let rows = rows(vec![Arc::new(Int64Array::from(vec![1]))]);
    let columns = [0, 1].map(|column| Sent {
        source: Source::Lake(column),
        wire: Wire::Text,
    });
    for column in &columns {
        let encoder = Encoder {
            stream: &StreamDeclaration::rejects(),
            columns: std::slice::from_ref(column),
            numbered: false,
            screen: Screen::Nothing,
        };
        assert!(encoder.encode(&rows, 0..1).is_err());
    }
}
