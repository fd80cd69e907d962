//! The journal record: a small header and one Arrow IPC stream, the same bytes in every journal.
//!
//! After the decoder nobody parses JSON again: sinks and queries take the columns as they lie in the record. The
//! schema travels along, so any Arrow reader can open what follows the header.
//!
//! ```text
//! magic "TMRC" | format u16 | reserved u16 | header bytes u32 | declaration version u32 | rows u32 | spans u32
//! stream: length u16, text
//! span:   rows u32 | trace id [16] | received_at i64 | flags u8
//!         flags & 1: idempotency key (length u16, text)   flags & 2: producer id u64, sequence u64
//! zeros up to a multiple of 64, where the Arrow IPC stream begins
//! ```
//!
//! All integers are little-endian. There is no checksum here: a journal has its own over the whole record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use bytes::{BufMut, Bytes};

use crate::batch::spanned;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, RECORD_ROWS_MAX};
use crate::{Batch, Partition, Span, StreamName, TraceId};

const MAGIC: &[u8; 4] = b"TMRC";
/// The newest format that this program reads, and the one that it writes.
const FORMAT: u16 = 1;
/// Columns begin at a multiple of this, so that they are used in place (the alignment that Arrow recommends).
const ALIGNMENT: usize = 64;
/// The end of an Arrow IPC stream: the continuation marker and a length of zero.
const END_OF_COLUMNS: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
const FLAG_KEY: u8 = 1;
const FLAG_PRODUCER: u8 = 2;
/// Bytes of a span without its optional parts.
const SPAN_BYTES_MIN: usize = 4 + 16 + 8 + 1;

/// Why bytes are not a record that this version can read, or a batch cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record, or are damaged; or the batch contradicts itself.
    #[error("record is not readable: {0}")]
    Malformed(String),
    /// The record was written by a newer Tidemill.
    #[error("record has format version {found}, this program reads up to {supported}")]
    Version {
        /// The version in the record.
        found: u16,
        /// The newest version that this program reads.
        supported: u16,
    },
}

/// What a record says about itself, without its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream.
    pub stream: StreamName,
    /// The declaration's version.
    pub version: u32,
    /// How many rows.
    pub rows: u32,
    /// Which rows came in which request.
    pub spans: Vec<Span>,
    /// Where the Arrow IPC stream begins, in bytes from the record's beginning.
    pub columns_at: usize,
}

/// Encodes a batch as a record.
///
/// # Errors
/// [`RecordError::Malformed`] when the spans do not add up to the rows, or a bound of a record is exceeded.
pub fn encode(batch: &Batch) -> Result<Bytes, RecordError> {
    let rows = batch.rows.num_rows();
    let spanned = batch.spanned();
    if rows > RECORD_ROWS_MAX || spanned != rows as u64 {
        let limit = format!("{spanned} rows in spans, {rows} in columns, {RECORD_ROWS_MAX} allowed");
        return Err(RecordError::Malformed(limit));
    }
    let mut bytes = Vec::with_capacity(1_024 + batch.bytes());
    encode_header(batch, rows as u32, &mut bytes)?;
    let arrow = |error| RecordError::Malformed(format!("encode columns: {error}"));
    let mut writer = StreamWriter::try_new(bytes, &batch.rows.schema()).map_err(arrow)?;
    writer.write(&batch.rows).map_err(arrow)?;
    Ok(Bytes::from(writer.into_inner().map_err(arrow)?))
}

fn encode_header(batch: &Batch, rows: u32, bytes: &mut Vec<u8>) -> Result<(), RecordError> {
    let stream = batch.stream.as_str();
    bytes.put_slice(MAGIC);
    bytes.put_u16_le(FORMAT);
    bytes.put_u16_le(0);
    bytes.put_u32_le(0);
    bytes.put_u32_le(batch.version);
    bytes.put_u32_le(rows);
    bytes.put_u32_le(batch.spans.len() as u32);
    bytes.put_u16_le(stream.len() as u16);
    bytes.put_slice(stream.as_bytes());
    for span in &batch.spans {
        encode_span(span, bytes)?;
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    let length = bytes.len() as u32;
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn encode_span(span: &Span, bytes: &mut Vec<u8>) -> Result<(), RecordError> {
    bytes.put_u32_le(span.rows);
    bytes.put_slice(span.trace_id.as_bytes());
    bytes.put_i64_le(span.received_at);
    let key = span.idempotency_key.as_deref();
    let flag_key = if key.is_some() { FLAG_KEY } else { 0 };
    let flag_producer = if span.producer.is_some() { FLAG_PRODUCER } else { 0 };
    bytes.put_u8(flag_key | flag_producer);
    if let Some(key) = key {
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let message = format!(
                "idempotency key of {} bytes, {IDEMPOTENCY_KEY_BYTES_MAX} allowed",
                key.len()
            );
            return Err(RecordError::Malformed(message));
        }
        bytes.put_u16_le(key.len() as u16);
        bytes.put_slice(key.as_bytes());
    }
    if let Some((id, sequence)) = span.producer {
        bytes.put_u64_le(id);
        bytes.put_u64_le(sequence);
    }
    Ok(())
}

/// Reads a record's header only.
///
/// # Errors
/// [`RecordError`] when the bytes do not begin with one, for any bytes whatsoever.
pub fn peek(bytes: &[u8]) -> Result<Header, RecordError> {
    let mut rest = Rest(bytes);
    if rest.take(4)? != MAGIC {
        return Err(RecordError::Malformed(
            "it does not begin with the magic number".to_owned(),
        ));
    }
    let found = rest.u16()?;
    if found != FORMAT {
        return Err(RecordError::Version {
            found,
            supported: FORMAT,
        });
    }
    rest.u16()?;
    let columns_at = rest.u32()? as usize;
    let version = rest.u32()?;
    let rows = rest.u32()?;
    let span_count = rest.u32()? as usize;
    let length = rest.u16()? as usize;
    let stream = StreamName::parse_stored(rest.text(length)?)
        .map_err(|error| RecordError::Malformed(error.to_string()))?;
    // The bound on what is reserved comes from the bytes that are really there, not from what they claim.
    let mut spans = Vec::with_capacity(span_count.min(rest.0.len() / SPAN_BYTES_MIN));
    for _ in 0..span_count {
        spans.push(decode_span(&mut rest)?);
    }
    let spanned = spanned(&spans);
    let read = bytes.len() - rest.0.len();
    if spanned != u64::from(rows)
        || columns_at != read.next_multiple_of(ALIGNMENT)
        || columns_at > bytes.len()
    {
        let message = format!("{spanned} rows in spans of {rows}, header of {columns_at} bytes, {read} read");
        return Err(RecordError::Malformed(message));
    }
    Ok(Header {
        stream,
        version,
        rows,
        spans,
        columns_at,
    })
}

fn decode_span(rest: &mut Rest<'_>) -> Result<Span, RecordError> {
    let rows = rest.u32()?;
    let trace_id = TraceId::from_bytes(rest.array()?);
    let received_at = i64::from_le_bytes(rest.array()?);
    let [flags] = rest.array()?;
    if flags & !(FLAG_KEY | FLAG_PRODUCER) != 0 {
        return Err(RecordError::Malformed(format!(
            "unknown flags {flags:#04x} of a span"
        )));
    }
    let mut idempotency_key = None;
    if flags & FLAG_KEY != 0 {
        let length = rest.u16()? as usize;
        idempotency_key = Some(rest.text(length)?.to_owned());
    }
    let mut producer = None;
    if flags & FLAG_PRODUCER != 0 {
        producer = Some((
            u64::from_le_bytes(rest.array()?),
            u64::from_le_bytes(rest.array()?),
        ));
    }
    Ok(Span {
        rows,
        trace_id,
        received_at,
        idempotency_key,
        producer,
    })
}

/// Decodes a record that came from `partition`; columns borrow from `bytes` where alignment allows.
///
/// # Errors
/// [`RecordError`] when the bytes are not a record, for any bytes whatsoever.
pub fn decode(partition: Partition, bytes: &Bytes) -> Result<Batch, RecordError> {
    let header = peek(bytes)?;
    let columns = bytes.slice(header.columns_at..);
    // The Arrow reader checks most lengths by assertion. A journal has compared a checksum before, so this is
    // about bytes that somebody made on purpose; they must not take the process down either.
    let read = catch_unwind(AssertUnwindSafe(|| decode_columns(columns)));
    let rows =
        read.unwrap_or_else(|_| Err(RecordError::Malformed("columns contradict themselves".to_owned())))?;
    if rows.num_rows() != header.rows as usize {
        let message = format!(
            "{} rows in columns, {} in the header",
            rows.num_rows(),
            header.rows
        );
        return Err(RecordError::Malformed(message));
    }
    Ok(Batch {
        stream: header.stream,
        partition,
        version: header.version,
        spans: header.spans,
        rows,
    })
}

fn decode_columns(columns: Bytes) -> Result<RecordBatch, RecordError> {
    let arrow = |error| RecordError::Malformed(format!("decode columns: {error}"));
    // The reader below takes the end of the bytes for the end of the stream.
    if !columns.ends_with(&END_OF_COLUMNS) {
        return Err(RecordError::Malformed("its columns do not end".to_owned()));
    }
    let mut buffer = Buffer::from(columns);
    let mut decoder = StreamDecoder::new();
    let mut found = None;
    while let Some(rows) = decoder.decode(&mut buffer).map_err(arrow)? {
        if found.replace(rows).is_some() {
            return Err(RecordError::Malformed(
                "more than one batch of columns".to_owned(),
            ));
        }
    }
    decoder.finish().map_err(arrow)?;
    if !buffer.is_empty() {
        return Err(RecordError::Malformed(format!(
            "{} bytes follow the columns",
            buffer.len()
        )));
    }
    found.ok_or_else(|| RecordError::Malformed("it has no columns".to_owned()))
}

/// The bytes of a header that are not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let cut = || RecordError::Malformed("it ends inside its header".to_owned());
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let taken = self.take(N)?;
        Ok(taken
            .try_into()
            .expect("`take` gave as many bytes as were asked for"))
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, RecordError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|error| RecordError::Malformed(format!("text of its header: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn batch() -> Batch {
        let columns: [(&str, arrow_array::ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from_iter_values(0..5))),
            (
                "text",
                Arc::new(StringArray::from(vec![
                    Some("a"),
                    None,
                    Some("ü"),
                    Some(""),
                    Some("e"),
                ])),
            ),
        ];
        let span = |rows, key: Option<&str>, producer| Span {
            rows,
            trace_id: TraceId::from_bytes([rows as u8; 16]),
            received_at: -7,
            idempotency_key: key.map(str::to_owned),
            producer,
        };
        Batch {
            stream: StreamName::parse("running").expect("allowed"),
            partition: Partition(2),
            version: 3,
            spans: vec![span(2, None, None), span(3, Some("key"), Some((1, u64::MAX)))],
            rows: RecordBatch::try_from_iter(columns).expect("columns of one length"),
        }
    }

    #[test]
    fn a_record_gives_back_the_batch_that_went_in() {
        let batch = batch();
        let bytes = encode(&batch).expect("encodes");
        let decoded = decode(Partition(2), &bytes).expect("decodes");
        assert_eq!((decoded.stream, decoded.version), (batch.stream, batch.version));
        assert_eq!(decoded.partition, Partition(2));
        assert_eq!(decoded.spans, batch.spans);
        assert_eq!(decoded.rows, batch.rows);
    }

    #[test]
    fn spans_that_do_not_add_up_are_refused() {
        let mut batch = batch();
        batch.spans[0].rows = 1;
        assert!(matches!(encode(&batch), Err(RecordError::Malformed(_))));
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = encode(&batch()).expect("encodes").to_vec();
        bytes[4] = 2;
        assert!(matches!(
            decode(Partition(0), &bytes.into()),
            Err(RecordError::Version {
                found: 2,
                supported: 1
            })
        ));
    }

    /// Whatever is in the bytes, `decode` answers; and a record that was cut is never taken for a whole one.
    #[test]
    fn no_bytes_whatsoever_take_the_process_down() {
        let seed = 7;
        println!("seed {seed}");
        let whole = encode(&batch()).expect("encodes");
        for length in 0..whole.len() {
            assert!(
                decode(Partition(0), &whole.slice(..length)).is_err(),
                "cut at {length}"
            );
        }
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        std::panic::set_hook(Box::new(|_| {}));
        for _ in 0..5_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            let answer = std::panic::catch_unwind(|| decode(Partition(0), &bytes.into()).is_ok());
            assert!(answer.is_ok());
        }
        let _ = std::panic::take_hook();
    }
}
