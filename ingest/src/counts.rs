//! The metrics of ingest. Labels come from declarations and closed lists only, so their number is bounded.

use std::time::Instant;

use event::decode::Decoded;
use event::{RejectCode, Rejects, StreamDeclaration};
use http::StatusCode;

/// Counts an answered request; the label of a stream that does not exist is empty, never what was asked for.
pub(crate) fn count_request(stream: Option<&StreamDeclaration>, status: StatusCode, started: Instant) {
    let stream = stream.map_or("", |stream| stream.name.as_str()).to_owned();
    let elapsed = started.elapsed().as_secs_f64();
    metrics::histogram!("tidemill_ingest_request_seconds", "stream" => stream.clone()).record(elapsed);
    let status = status.as_str().to_owned();
    metrics::counter!("tidemill_ingest_requests_total", "stream" => stream, "status" => status).increment(1);
}

/// Counts a body that was read to its end.
pub(crate) fn count_body(stream: &StreamDeclaration, decoded: &Decoded) {
    let name = stream.name.as_str().to_owned();
    metrics::counter!("tidemill_ingest_body_bytes_total", "stream" => name.clone())
        .increment(decoded.bytes_received);
    metrics::counter!("tidemill_ingest_body_bytes_copied_total", "stream" => name.clone())
        .increment(decoded.bytes_copied);
    if decoded.fields_ignored > 0 {
        metrics::counter!("tidemill_ingest_fields_ignored_total", "stream" => name)
            .increment(decoded.fields_ignored);
    }
}

/// Counts what became of a request's lines, once that is durable.
pub(crate) fn count_events(stream: &StreamDeclaration, accepted: u64, rejects: &Rejects) {
    let name = || stream.name.as_str().to_owned();
    if accepted > 0 {
        metrics::counter!("tidemill_ingest_events_total", "stream" => name()).increment(accepted);
    }
    for (code, count) in RejectCode::ALL.iter().zip(rejects.counts) {
        if count > 0 {
            metrics::counter!("tidemill_ingest_rejects_total", "stream" => name(), "code" => code.as_str())
                .increment(count);
        }
    }
}
