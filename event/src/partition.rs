//! Which partition an event goes to: that of its key, so that equal keys stay in one partition and in order.
//!
//! The hash is murmur2 over the key as text, cut to 31 bits, modulo the partitions: what Kafka's own producers do
//! by default, so events that they write to the same topic with the same keys lie beside ours.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take_record_batch;

use crate::{Batch, Partition, Span, StreamDeclaration};

/// A batch as the batches of its partitions, at most one of each and none of them empty. Rows keep their order.
/// Rows without a key go to `otherwise`, and so does everything of a stream that declares none.
///
/// # Errors
/// When the rows are not in the stream's schema: a broken invariant of the caller.
pub fn split(
    batch: Batch,
    stream: &StreamDeclaration,
    partitions: u32,
    otherwise: Partition,
) -> Result<Vec<Batch>, ArrowError> {
    let key = stream.key.as_deref();
    let column = key.and_then(|key| batch.rows.column_by_name(key)).cloned();
    let Some(column) = column.filter(|_| partitions > 1) else {
        let partition = Partition(otherwise.0 % partitions.max(1));
        return Ok(vec![Batch { partition, ..batch }]);
    };
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); partitions as usize];
    let mut text = String::new();
    for row in 0..column.len() {
        let partition = if column.is_null(row) {
            otherwise.0 % partitions
        } else {
            text.clear();
            write_key(&column, row, &mut text)?;
            of_key(text.as_bytes(), partitions).0
        };
        // A record has at most `RECORD_ROWS_MAX` rows.
        rows_of[partition as usize].push(row as u32);
    }
    let parts = (0..).map(Partition).zip(rows_of);
    let parts = parts.filter(|(_, rows)| !rows.is_empty());
    parts
        .map(|(partition, rows)| part(&batch, partition, rows))
        .collect()
}

/// The partition of a key, as Kafka's default partitioner finds it.
#[must_use]
pub fn of_key(key: &[u8], partitions: u32) -> Partition {
    Partition((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// Writes the key of a row as text: what is hashed, and what a message has as its key. A timestamp is its
/// microseconds since 1970.
///
/// # Errors
/// When the column's type is none that a key can have.
pub fn write_key(column: &ArrayRef, row: usize, text: &mut String) -> Result<(), ArrowError> {
    use std::fmt::Write;
    let written = match column.data_type() {
        DataType::Utf8 => {
            text.push_str(column.as_string::<i32>().value(row));
            Ok(())
        }
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(row);
            let uuid = uuid::Uuid::from_slice(bytes).expect("the column has 16 bytes a row");
            write!(text, "{}", uuid.hyphenated())
        }
        DataType::Int64 => write!(text, "{}", column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => write!(text, "{}", column.as_boolean().value(row)),
        DataType::Timestamp(..) => {
            let column = column.as_primitive_opt::<TimestampMicrosecondType>();
            let column = column.ok_or_else(|| no_key(column.map(|column| column.data_type())))?;
            write!(text, "{}", column.value(row))
        }
        other => return Err(no_key(Some(other))),
    };
    written.map_err(|_| no_key(None))
}

fn no_key(found: Option<&DataType>) -> ArrowError {
    let found = found.map_or_else(String::new, ToString::to_string);
    ArrowError::InvalidArgumentError(format!("a column of type {found} is no key"))
}

fn part(batch: &Batch, partition: Partition, rows: Vec<u32>) -> Result<Batch, ArrowError> {
    if rows.len() == batch.len() {
        return Ok(Batch {
            partition,
            ..batch.clone()
        });
    }
    let mut spans = Vec::with_capacity(batch.spans.len());
    let (mut begin, mut end) = (0, 0_u64);
    for span in &batch.spans {
        end += u64::from(span.rows);
        let after = begin + rows[begin..].partition_point(|row| u64::from(*row) < end);
        if after > begin {
            let rows = (after - begin) as u32;
            spans.push(Span { rows, ..span.clone() });
        }
        begin = after;
    }
    Ok(Batch {
        stream: batch.stream.clone(),
        partition,
        version: batch.version,
        spans,
        rows: take_record_batch(&batch.rows, &UInt32Array::from(rows))?,
    })
}

/// Austin Appleby's MurmurHash2 of 32 bits with the seed that Kafka uses.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let mut word = u32::from_le_bytes(word.try_into().expect("a chunk has 4 bytes"));
        word = word.wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        word = word.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ word;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{RecordBatch, StringArray};

    use super::*;
    use crate::{FieldDeclaration, FieldType, StreamName, TraceId};

    fn stream() -> StreamDeclaration {
        let user = FieldDeclaration {
            name: "user".to_owned(),
            kind: FieldType::String { max_bytes: 10 },
            optional: true,
            description: String::new(),
            path: vec!["user".to_owned()],
        };
        StreamDeclaration {
            name: StreamName::parse("s").expect("allowed"),
            key: Some("user".to_owned()),
            fields: vec![user],
            ..StreamDeclaration::rejects()
        }
    }

    /// Values that Kafka's own test of its hash has (`org.apache.kafka.common.utils.UtilsTest`).
    #[test]
    fn the_hash_is_the_one_of_kafka() {
        let known: [(&[u8], i32); 5] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (bytes, expected) in known {
            assert_eq!(murmur2(bytes) as i32, expected);
        }
    }

    #[test]
    fn each_row_goes_with_its_span_to_the_partition_of_its_key() {
        let users: Vec<_> = (0..100)
            .map(|n| (n % 7 != 0).then(|| format!("u{}", n % 10)))
            .collect();
        let column: ArrayRef = Arc::new(StringArray::from(users.clone()));
        let span = |n: u8, rows| Span {
            rows,
            trace_id: TraceId::from_bytes([n; 16]),
            received_at: i64::from(n),
            idempotency_key: None,
            producer: None,
        };
        let batch = Batch {
            stream: stream().name,
            partition: Partition(0),
            version: 1,
            spans: vec![span(1, 30), span(2, 1), span(3, 69)],
            rows: RecordBatch::try_from_iter_with_nullable([("user", column, true)]).expect("one column"),
        };
        let parts = split(batch, &stream(), 4, Partition(2)).expect("splits");
        let mut rows = 0;
        for part in &parts {
            assert_eq!(part.spanned(), part.len() as u64);
            rows += part.len();
            let found = part.rows.column(0).as_string::<i32>();
            for user in found {
                let expected = user.map_or(Partition(2), |user| of_key(user.as_bytes(), 4));
                assert_eq!(part.partition, expected);
            }
            let expected: Vec<_> = users
                .iter()
                .filter(|user| {
                    let own = user.as_ref().map(|user| of_key(user.as_bytes(), 4));
                    own.unwrap_or(Partition(2)) == part.partition
                })
                .map(Option::as_deref)
                .collect();
            assert_eq!(
                found.iter().collect::<Vec<_>>(),
                expected,
                "rows keep their order"
            );
        }
        assert_eq!(rows, 100);
        let spanned = |n: u8| -> u32 {
            let spans = parts.iter().flat_map(|part| &part.spans);
            spans
                .filter(|span| span.received_at == i64::from(n))
                .map(|span| span.rows)
                .sum()
        };
        assert_eq!([spanned(1), spanned(2), spanned(3)], [30, 1, 69]);
    }
}
