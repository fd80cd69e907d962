//! What hyper leaves to us: which host a request is for, and heads with two lengths.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{StatusCode, Version};

use crate::Problem;

/// The 400 of a head with both `Content-Length` and `Transfer-Encoding`, or a length that is none.
pub(super) fn ambiguous_framing() -> Problem {
    let detail = "`Content-Length` and `Transfer-Encoding` are both given, or the length is not a number";
    Problem::new(StatusCode::BAD_REQUEST, "ambiguous-framing", detail).close()
}

/// Checks `Host` and `:authority`: exactly one host, and a valid one (RFC 9112, 3.2; RFC 9113, 8.3.1). HTTP/1.0
/// may do without.
///
/// # Errors
/// The 400 to answer with.
pub(super) fn check_host(parts: &Parts) -> Result<(), Problem> {
    let invalid = |detail: &str| Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-host", detail).close());
    let mut values = parts.headers.get_all(HOST).iter();
    let host = values.next();
    if values.next().is_some() {
        return invalid("`Host` is given more than once");
    }
    let Some(host) = host else {
        let named = parts.version >= Version::HTTP_2 && parts.uri.authority().is_some_and(is_valid);
        if named || parts.version < Version::HTTP_11 {
            return Ok(());
        }
        return invalid("`Host` is missing");
    };
    let parsed = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    let Some(authority) = parsed.filter(is_valid) else {
        return invalid("`Host` is not a host and an optional port");
    };
    // In HTTP/1 an absolute request target wins over `Host`; in HTTP/2 the two must not differ.
    let other = parts.uri.authority().filter(|_| parts.version >= Version::HTTP_2);
    if other.is_some_and(|other| *other != authority) {
        return invalid("`Host` and `:authority` differ");
    }
    Ok(())
}

fn is_valid(authority: &Authority) -> bool {
    let text = authority.as_str();
    let port_is_valid = match text.rsplit_once(':') {
        // The colons of an IPv6 address lie in brackets.
        Some((_, port)) if !port.ends_with(']') => port.is_empty() || port.parse::<u16>().is_ok(),
        _ => true,
    };
    !authority.host().is_empty() && !text.contains('@') && port_is_valid
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check_host(&request.body(()).expect("valid parts").into_parts().0).is_ok()
    }

    #[test]
    fn exactly_one_valid_host_names_the_server() {
        let h1 = |hosts: &[&str]| check(Version::HTTP_11, "/", hosts);
        for good in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "a.b:",
        ] {
            assert!(h1(&[good]), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "user@host",
            "a:99999",
            "a:b",
            ":80",
            "http://a",
            "a,b c",
        ] {
            assert!(!h1(&[bad]), "{bad}");
        }
        assert!(!h1(&[]) && !h1(&["a", "a"]));
        assert!(check(Version::HTTP_10, "/", &[]));
        assert!(!check(Version::HTTP_10, "/", &["a", "b"]));
    }

    #[test]
    fn http2_names_it_by_authority_and_a_host_must_not_differ() {
        let h2 = |uri, hosts: &[&str]| check(Version::HTTP_2, uri, hosts);
        assert!(h2("http://a:80/", &[]) && h2("http://a:80/", &["a:80"]) && h2("/", &["a"]));
        assert!(!h2("http://a/", &["b"]) && !h2("/", &[]));
    }
}
