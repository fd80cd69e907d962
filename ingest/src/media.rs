//! What a request says about its body and about the answer: `Content-Type`, `Content-Encoding`, `Accept`.

use event::decode::Format;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};

/// The types that are taken, for messages and `Accept-Post`.
pub(crate) const TYPES: &str =
    "application/x-ndjson, application/ndjson, application/jsonl, text/plain, application/json";

/// The types that are taken where a body is one document.
pub(crate) const DOCUMENT_TYPES: &str = "application/json, text/plain";

/// The encodings that are taken, for messages and `Accept-Encoding`.
pub(crate) const ENCODINGS: &str = "gzip, zstd, deflate, br, identity";

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
    Brotli,
}

impl Encoding {
    /// Its name in `Content-Encoding`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
        }
    }
}

/// Reads `Content-Type`.
///
/// # Errors
/// What is wrong, for the detail of a 415. A missing header is wrong too: `curl -d` sends a form type, and
/// guessing would turn a form into rejects.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, String> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(format!(
            "the request has no `Content-Type`; it must be one of {TYPES}"
        ));
    };
    let text = value
        .to_str()
        .map_err(|_| "`Content-Type` is not ASCII".to_owned())?;
    let mut parts = text.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match media_type.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "text/plain" => Format::Ndjson,
        "application/json" => Format::Json,
        "application/x-www-form-urlencoded" => {
            return Err(format!(
                "`Content-Type: {media_type}` is what curl sends with -d; \
                 add -H 'Content-Type: application/x-ndjson', or one of {TYPES}"
            ));
        }
        _ => {
            return Err(format!(
                "`Content-Type` is `{}`, it must be one of {TYPES}",
                shortened(&media_type)
            ));
        }
    };
    check_charset(parts)?;
    Ok(format)
}

/// Whether `Content-Type` says nothing about events: it is missing, or names a type that is not taken.
pub(crate) fn is_untyped(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let media_type = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    !TYPES.split(", ").any(|taken| taken == media_type)
}

/// Reads `Content-Type` where a body is one JSON document whatever it is called: browsers send a beacon as
/// `text/plain`, or without a type.
///
/// # Errors
/// What is wrong, for the detail of a 415.
pub(crate) fn check_document(headers: &HeaderMap) -> Result<(), String> {
    if !headers.contains_key(CONTENT_TYPE) {
        return Ok(());
    }
    format(headers)?;
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = text.unwrap_or_default().split(';').next().unwrap_or_default();
    let lines = media_type.to_ascii_lowercase();
    if lines.contains("ndjson") || lines.contains("jsonl") {
        return Err(format!(
            "`Content-Type` is `{}`, but the body is one document here; it must be one of {DOCUMENT_TYPES}",
            shortened(media_type.trim())
        ));
    }
    Ok(())
}

/// JSON is UTF-8; US-ASCII is a part of it. Other parameters mean nothing here.
fn check_charset<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<(), String> {
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        let utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !utf8 {
            return Err(format!("charset is `{}`, only utf-8 is read", shortened(value)));
        }
    }
    Ok(())
}

/// Reads `Content-Encoding`.
///
/// # Errors
/// What is wrong, for the detail of a 415: an unknown encoding, or more than one.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, String> {
    let mut found = Encoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value
            .to_str()
            .map_err(|_| "`Content-Encoding` is not ASCII".to_owned())?;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let encoding = match name.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => Encoding::Gzip,
                "zstd" => Encoding::Zstd,
                "deflate" => Encoding::Deflate,
                "br" => Encoding::Brotli,
                other => {
                    return Err(format!(
                        "`Content-Encoding` is `{}`, it must be one of {ENCODINGS}",
                        shortened(other)
                    ));
                }
            };
            if found != Encoding::Identity {
                return Err("the body is encoded more than once; one encoding is read".to_owned());
            }
            found = encoding;
        }
    }
    Ok(found)
}

/// Whether `Accept` allows an answer in JSON; it does when it is absent.
pub(crate) fn accepts_json(headers: &HeaderMap) -> bool {
    let mut best: Option<(u8, bool)> = None;
    let mut any = false;
    for value in headers.get_all(ACCEPT) {
        any = true;
        // A range that cannot be read allows nothing, but forbids nothing either.
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let specificity = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/json" => 3,
                "application/*" => 2,
                "*/*" => 1,
                _ => continue,
            };
            let refused = parts.any(is_zero_quality);
            if best.is_none_or(|(known, _)| specificity > known) {
                best = Some((specificity, !refused));
            }
        }
    }
    // The most specific range that covers JSON decides (RFC 9110, 12.5.1).
    !any || best.is_some_and(|(_, allowed)| allowed)
}

fn is_zero_quality(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("q")
            && value.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0)
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_content_type_names_a_format_or_is_refused_with_advice() {
        let of = |value| format(&with(CONTENT_TYPE, &[value]));
        assert_eq!(of("application/x-ndjson"), Ok(Format::Ndjson));
        assert_eq!(of("Text/Plain; Charset=\"UTF-8\""), Ok(Format::Ndjson));
        assert_eq!(of("application/json;profile=x"), Ok(Format::Json));
        assert!(
            of("application/json; charset=latin1")
                .expect_err("refused")
                .contains("latin1")
        );
        let form = of("application/x-www-form-urlencoded").expect_err("refused");
        assert!(
            form.contains("curl") && form.contains("application/x-ndjson"),
            "{form}"
        );
        assert!(format(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_document_may_come_as_a_beacon_sends_it_but_not_as_lines() {
        let of = |value| check_document(&with(CONTENT_TYPE, &[value]));
        for good in ["application/json", "text/plain;charset=UTF-8", "Text/Plain"] {
            assert_eq!(of(good), Ok(()), "{good}");
        }
        assert_eq!(check_document(&HeaderMap::new()), Ok(()));
        for bad in [
            "application/x-ndjson",
            "application/jsonl",
            "application/x-www-form-urlencoded",
            "text/plain; charset=utf-16",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_encoding_is_read_and_two_are_refused() {
        let of = |values: &[&'static str]| encoding(&with(CONTENT_ENCODING, values));
        assert_eq!(of(&[]), Ok(Encoding::Identity));
        assert_eq!(of(&["identity, GZIP"]), Ok(Encoding::Gzip));
        assert!(of(&["gzip, gzip"]).is_err());
        assert!(of(&["gzip", "br"]).is_err());
        assert!(of(&["compress"]).is_err());
    }

    #[test]
    fn the_most_specific_accept_range_decides() {
        let of = |values: &[&'static str]| accepts_json(&with(ACCEPT, values));
        assert!(of(&[]));
        assert!(of(&["text/html, */*;q=0.1"]));
        assert!(of(&["application/*"]));
        assert!(!of(&["text/html"]));
        assert!(!of(&["*/*, application/json;q=0"]));
        assert!(of(&["*/*;q=0", "application/json"]));
    }
}
