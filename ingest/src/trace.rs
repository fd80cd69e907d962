//! Which request this is: W3C Trace Context and `X-Request-Id`, honoured and echoed.

use event::TraceId;
use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest `X-Request-Id` that is echoed, in bytes; a longer one is ignored.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The identity of one request.
#[derive(Clone, Debug)]
pub struct TraceContext {
    /// From `traceparent`, else random.
    pub trace_id: TraceId,
    traceparent: HeaderValue,
    request_id: Option<HeaderValue>,
}

impl TraceContext {
    /// Reads the identity from a request's headers. A `traceparent` that is invalid or sent twice is as good as
    /// none, as the specification asks; so is an `X-Request-Id` that is not 1 to 128 visible ASCII characters.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let sent = single(headers, &TRACEPARENT)
            .and_then(|value| Some((parse_traceparent(value.to_str().ok()?)?, value.clone())));
        let (trace_id, traceparent) = sent.unwrap_or_else(|| {
            let trace_id = TraceId::random();
            (trace_id, fresh_traceparent(trace_id))
        });
        let request_id = single(headers, &REQUEST_ID)
            .filter(|value| (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()))
            .filter(|value| value.as_bytes().iter().all(u8::is_ascii_graphic));
        Self {
            trace_id,
            traceparent,
            request_id: request_id.cloned(),
        }
    }

    /// Echoes the identity into an answer's headers.
    pub fn echo(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent.clone());
        if let Some(request_id) = &self.request_id {
            headers.insert(REQUEST_ID, request_id.clone());
        }
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Version 00 is exactly `00-<trace id>-<parent id>-<flags>`; a later version may only add `-…` at the end.
fn parse_traceparent(text: &str) -> Option<TraceId> {
    const BYTES: usize = 55;
    let (known, rest) = text.split_at_checked(BYTES)?;
    let mut parts = known.split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = parts.next().is_none()
        && is_lower_hex(version, 2)
        && is_lower_hex(parent_id, 16)
        && is_lower_hex(flags, 2)
        && parent_id.bytes().any(|digit| digit != b'0')
        && version != "ff"
        && (rest.is_empty() || (version != "00" && rest.starts_with('-')));
    if well_formed {
        TraceId::parse(trace_id)
    } else {
        None
    }
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn fresh_traceparent(trace_id: TraceId) -> HeaderValue {
    let span = &TraceId::random().to_string()[..16];
    // A version 4 UUID has its version digit in the first half, so the span id is never all zeros.
    HeaderValue::try_from(format!("00-{trace_id}-{span}-00")).expect("hexadecimal digits and hyphens")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_traceparent_is_taken_by_the_rules_of_its_version() {
        for good in [
            format!("00-{ID}-00f067aa0ba902b7-01"),
            format!("01-{ID}-00f067aa0ba902b7-01"),
            format!("cc-{ID}-00f067aa0ba902b7-01-what-comes-later"),
        ] {
            assert_eq!(parse_traceparent(&good), TraceId::parse(ID), "{good}");
        }
        for bad in [
            String::new(),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("00-{ID}-00f067aa0ba902b7-01-more"),
            format!("01-{ID}-00f067aa0ba902b7-01more"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
            format!("00-{ID}-00f067aa0ba902b7"),
            format!("0-0{ID}-00f067aa0ba902b7-01"),
            format!("00-{ID}-00f067aa0ba902é7-01"),
        ] {
            assert_eq!(parse_traceparent(&bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_invalid_is_replaced_and_what_is_valid_echoed() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("order 66"));
        headers.insert(TRACEPARENT, HeaderValue::from_static("00-zz"));
        let mut answer = HeaderMap::new();
        let context = TraceContext::from_headers(&headers);
        context.echo(&mut answer);
        assert!(answer.get(REQUEST_ID).is_none());
        let fresh = answer[TRACEPARENT].to_str().expect("ascii");
        assert_eq!(parse_traceparent(fresh), Some(context.trace_id));

        headers.insert(REQUEST_ID, HeaderValue::from_static("order-66"));
        TraceContext::from_headers(&headers).echo(&mut answer);
        assert_eq!(answer[REQUEST_ID], "order-66");
    }
}
