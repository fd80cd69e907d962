//! The head of an ingest request: everything that can be refused before the body is read.

use std::borrow::Cow;

use event::decode::Format;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use percent_encoding::percent_decode_str;

use crate::media::{self, Encoding};
use crate::post::{Form, Post};
use crate::{IngestOptions, Problem};

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest `Idempotency-Key`, in bytes: it is stored with the span.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Most bytes of the body of a request whose event is in its query string. They are read, so that the connection can
/// go on, and mean nothing.
pub(crate) const QUERY_BODY_BYTES_MAX: usize = 64 << 10;

/// What the head of a request asks for.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    /// The whole request is refused when one line is bad.
    pub(crate) all_or_nothing: bool,
    /// As sent; the body's real length is what counts.
    pub(crate) content_length: Option<u64>,
    pub(crate) idempotency_key: Option<String>,
}

impl Head {
    /// Checks the head of a request for that route. `body_is_empty` is what the transport knows
    /// before anything is read.
    ///
    /// # Errors
    /// The problem to answer with: 400, 406, 411, 413, 415 or 417.
    pub(crate) fn check(
        parts: &Parts,
        body_is_empty: bool,
        post: Option<&Post>,
        options: &IngestOptions,
    ) -> Result<Self, Problem> {
        let in_query = post.is_some_and(|post| matches!(post.form, Form::Query(_)));
        // Where the parameters are the event none of them is ours.
        let query = parts.uri.query().filter(|_| !in_query);
        let all_or_nothing = read_query(query.unwrap_or_default())?;
        let headers = &parts.headers;
        if !media::accepts_json(headers) {
            let detail = "`Accept` excludes application/json, which is the only form of this answer";
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail));
        }
        let format = read_format(parts, post)?;
        let encoding = media::encoding(headers).map_err(|detail| {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", detail)
                .header(ACCEPT_ENCODING, HeaderValue::from_static(media::ENCODINGS))
        })?;
        check_expect(parts)?;
        let content_length = read_content_length(parts)?;
        let chunked = headers.contains_key(TRANSFER_ENCODING);
        let empty = content_length.is_none() && !chunked && body_is_empty && parts.version < Version::HTTP_2;
        if empty && !in_query {
            let detail = "a POST of events needs `Content-Length` or `Transfer-Encoding: chunked`";
            return Err(Problem::new(
                StatusCode::LENGTH_REQUIRED,
                "length-required",
                detail,
            ));
        }
        let limit = if in_query {
            QUERY_BODY_BYTES_MAX
        } else {
            body_limit(encoding, options)
        };
        if let Some(bytes) = content_length.filter(|bytes| *bytes > limit as u64) {
            return Err(body_too_large(Some(bytes), limit, "sent"));
        }
        Ok(Self {
            format,
            encoding,
            all_or_nothing,
            content_length,
            idempotency_key: read_idempotency_key(parts)?,
        })
    }
}

/// The format of a body for that route.
fn read_format(parts: &Parts, post: Option<&Post>) -> Result<Format, Problem> {
    if let Some(format) = post
        .and_then(|post| post.untyped)
        .filter(|_| media::is_untyped(&parts.headers))
    {
        return Ok(format);
    }
    let (format, types) = match post.map_or(&Form::Body, |post| &post.form) {
        Form::Body => (media::format(&parts.headers), media::TYPES),
        Form::Envelope(_) => {
            let checked = media::check_document(&parts.headers);
            (checked.map(|()| Format::Json), media::DOCUMENT_TYPES)
        }
        // The body is not looked at.
        Form::Query(_) => (Ok(Format::Json), ""),
    };
    format.map_err(|detail| {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            detail,
        )
        .header(ACCEPT_POST, HeaderValue::from_static(types))
    })
}

/// Most bytes of a body as it is sent.
pub(crate) fn body_limit(encoding: Encoding, options: &IngestOptions) -> usize {
    match encoding {
        Encoding::Identity => options.body_bytes_max,
        Encoding::Gzip | Encoding::Zstd | Encoding::Deflate | Encoding::Brotli => {
            options.body_compressed_bytes_max
        }
    }
}

/// The 413 of a body that is, or says that it is, too large.
pub(crate) fn body_too_large(bytes: Option<u64>, limit: usize, what: &str) -> Problem {
    let detail = match bytes {
        Some(bytes) => {
            format!("the body is {bytes} bytes as {what}, the limit is {limit}; send several requests")
        }
        None => format!("the body exceeds the limit of {limit} bytes as {what}; send several requests"),
    };
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
}

/// The 405 of a method other than those in `allow`.
pub(crate) fn method_not_allowed(method: &Method, allow: &'static str) -> Problem {
    let detail = format!("`{method}` is not possible here; allowed: {allow}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        .header(ALLOW, HeaderValue::from_static(allow))
}

/// `on_error=reject|skip` and `wait=durable|queryable`, each at most once.
fn read_query(query: &str) -> Result<bool, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail);
    let (mut on_error, mut wait) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let (seen, allowed): (_, &[&str]) = match &*name {
            "on_error" => (&mut on_error, &["skip", "reject"]),
            // What is durable is queryable at once, so both mean the same.
            "wait" => (&mut wait, &["durable", "queryable"]),
            _ => {
                let name: String = name.chars().take(100).collect();
                return Err(invalid(format!(
                    "unknown query parameter `{name}`; allowed: on_error, wait"
                )));
            }
        };
        if !allowed.contains(&&*value) {
            let value: String = value.chars().take(100).collect();
            return Err(invalid(format!(
                "`{name}` is `{value}`; allowed: {}",
                allowed.join(", ")
            )));
        }
        if seen.replace(value.into_owned()).is_some() {
            return Err(invalid(format!("`{name}` is given twice")));
        }
    }
    Ok(on_error.as_deref() == Some("reject"))
}

/// Takes a query string apart. Unlike a form's it must be UTF-8: nothing that is stored was guessed.
pub(crate) fn parameters(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let text = percent_decode_str(&text).decode_utf8();
        text.map(Cow::into_owned).map_err(|_| {
            let detail = "a parameter of the query string is not UTF-8";
            Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail)
        })
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(text)?))
        })
        .collect()
}

fn check_expect(parts: &Parts) -> Result<(), Problem> {
    match parts.headers.get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Problem::new(
            StatusCode::EXPECTATION_FAILED,
            "expectation-failed",
            "the only expectation that is met is 100-continue",
        )),
        _ => Ok(()),
    }
}

fn read_content_length(parts: &Parts) -> Result<Option<u64>, Problem> {
    let Some(value) = parts.headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-content-length",
            "`Content-Length` is not a number of bytes",
        )),
    }
}

fn read_idempotency_key(parts: &Parts) -> Result<Option<String>, Problem> {
    let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let visible = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let key = value
        .to_str()
        .ok()
        .filter(|text| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()))
        .filter(visible);
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-idempotency-key",
            format!("`Idempotency-Key` must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        )),
    }
}
