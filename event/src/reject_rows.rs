//! Rejected lines as rows of the built-in stream `_rejects`, so that SQL can look at them.
//!
//! Bounded per request: the described rejects (at most 1,000), and of all raw lines together
//! [`RAW_BYTES_MAX`]; past that a row keeps everything but its raw line, so a flood of bad requests costs the
//! journal little more than the messages. Messages of a topic that are no events come in portions of as many
//! rejects, each with a span of its own and bounded in the same way ([`of_messages`]).

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::ArrowError;

use crate::{Batch, Offset, Partition, Reject, Span, StreamDeclaration, StreamName};

/// Bytes of raw lines that one request, or one portion of messages, may leave in `_rejects`.
const RAW_BYTES_MAX: usize = 256 << 10;

/// The rows of `rejects`, which came to `stream` in the request of `span`; for partition 0.
///
/// # Errors
/// When the columns do not fit the declaration: a broken invariant of this crate.
pub fn batch(stream: &StreamName, rejects: &[Reject], span: &Span) -> Result<Batch, ArrowError> {
    let trace_id = span.trace_id.to_string();
    let columns = columns(stream, rejects.iter().map(|reject| (reject, &trace_id)));
    let span = Span {
        rows: rejects.len() as u32,
        ..span.clone()
    };
    batch_of(Partition(0), columns, vec![span])
}

/// A message of a topic that is no event.
#[derive(Clone, Debug)]
pub struct RejectedMessage {
    /// Its offset.
    pub offset: Offset,
    /// Why it is none.
    pub reject: Reject,
    /// The span that the event would have had.
    pub span: Span,
}

/// The rows of messages of one partition of `stream` that are no events, in the order of their offsets.
///
/// # Errors
/// When the columns do not fit the declaration: a broken invariant of this crate.
pub fn of_messages(
    stream: &StreamName,
    partition: Partition,
    messages: &[RejectedMessage],
) -> Result<Batch, ArrowError> {
    let trace_ids = messages.iter().map(|message| message.span.trace_id.to_string());
    let trace_ids: Vec<_> = trace_ids.collect();
    let rejects = messages.iter().map(|message| &message.reject);
    let columns = columns(stream, rejects.zip(&trace_ids));
    let spans = messages.iter().map(|message| Span {
        rows: 1,
        ..message.span.clone()
    });
    batch_of(partition, columns, spans.collect())
}

fn batch_of(partition: Partition, columns: Vec<ArrayRef>, spans: Vec<Span>) -> Result<Batch, ArrowError> {
    let declaration = StreamDeclaration::rejects();
    let rows = RecordBatch::try_new(crate::schema::wire(&declaration), columns)?;
    Ok(Batch {
        stream: declaration.name,
        partition,
        version: declaration.version,
        spans,
        rows,
    })
}

fn columns<'a>(
    stream: &StreamName,
    rejects: impl Iterator<Item = (&'a Reject, &'a String)>,
) -> Vec<ArrayRef> {
    let (mut streams, mut trace_ids) = (StringBuilder::new(), StringBuilder::new());
    let (mut lines, mut codes, mut fields) =
        (Int64Builder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut messages, mut raws) = (StringBuilder::new(), StringBuilder::new());
    let mut raw_bytes = 0;
    for (reject, trace_id) in rejects {
        streams.append_value(stream.as_str());
        trace_ids.append_value(trace_id);
        lines.append_value(i64::try_from(reject.line).unwrap_or(i64::MAX));
        codes.append_value(reject.code.as_str());
        fields.append_option(reject.field.as_deref());
        messages.append_value(&reject.message);
        raw_bytes += reject.raw.len();
        let raw: &[u8] = if raw_bytes <= RAW_BYTES_MAX {
            &reject.raw
        } else {
            &[]
        };
        raws.append_value(String::from_utf8_lossy(raw));
    }
    vec![
        Arc::new(streams.finish()),
        Arc::new(trace_ids.finish()),
        Arc::new(lines.finish()),
        Arc::new(codes.finish()),
        Arc::new(fields.finish()),
        Arc::new(messages.finish()),
        Arc::new(raws.finish()),
    ]
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use crate::{RejectCode, TraceId};

    use super::*;

    #[test]
    fn raw_lines_are_kept_up_to_their_bound_and_rows_beyond() {
        let rejects: Vec<_> = (1..=1_000)
            .map(|line| Reject {
                line,
                code: RejectCode::InvalidUtf8,
                field: None,
                message: "not UTF-8".to_owned(),
                raw: vec![0xff; 1_024],
            })
            .collect();
        let span = Span {
            rows: 0,
            trace_id: TraceId::random(),
            received_at: 1,
            idempotency_key: None,
            producer: None,
        };
        let stream = StreamName::parse("running").expect("allowed");
        let batch = batch(&stream, &rejects, &span).expect("columns fit");
        assert_eq!(batch.len(), 1_000);
        assert_eq!(batch.spans[0].rows, 1_000);
        let raws = batch.rows.column(6).as_string::<i32>();
        let kept = (0..1_000).filter(|row| !raws.value(*row).is_empty()).count();
        assert_eq!(kept, RAW_BYTES_MAX / 1_024);
        assert_eq!(raws.value(0), "\u{fffd}".repeat(1_024));
    }
}
