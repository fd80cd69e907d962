//! The one place where a token may be: `Authorization: Bearer …` (RFC 6750, 2.1).
//!
//! Never in a query string or a form: those end up in logs, histories and referrers.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// No token: no such header, or one for another scheme.
    Nothing,
    /// More than one such header; it is not ours to choose.
    Twice,
    /// This text, whatever it is.
    Bearer(&'a [u8]),
}

/// What the headers of a request present.
pub(super) fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Presented::Nothing;
    };
    if values.next().is_some() {
        return Presented::Twice;
    }
    // Schemes are compared without case (RFC 9110, 11.1).
    let bytes = value.as_bytes();
    let space = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let (scheme, rest) = bytes.split_at(space);
    if scheme.eq_ignore_ascii_case(b"bearer") {
        Presented::Bearer(rest.trim_ascii())
    } else {
        Presented::Nothing
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_what_follows_the_scheme_and_only_one_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), Presented::Nothing);
        for (value, found) in [
            ("Bearer abc", Presented::Bearer(b"abc")),
            ("bEARER   abc ", Presented::Bearer(b"abc")),
            ("Bearer", Presented::Bearer(b"")),
            ("Bearer a b", Presented::Bearer(b"a b")),
            ("Basic abc", Presented::Nothing),
            ("Bearerabc", Presented::Nothing),
            ("", Presented::Nothing),
        ] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(presented(&headers), found, "{value:?}");
        }
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(presented(&headers), Presented::Twice);
    }
}
