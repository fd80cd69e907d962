//! `GET /docs` and `GET /redoc`: the API for people, by Swagger UI and by ReDoc, from this binary alone.
//!
//! Both show `/openapi.json`, so that all three say the same. The pages hold nothing about this server and need no
//! token; the document that they read does, and they ask for it.

use std::io::Read;

use axum::body::Body;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::problem::{answer, problem};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Scripts are this server's alone. Both programs style what they draw, draw with images of their own, and ReDoc
/// searches in a worker that it makes of a text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What the pages load, packed with gzip where it is large.
const SWAGGER_SCRIPT: &[u8] = include_bytes!("../../assets/swagger-ui-bundle.js.gz");
const SWAGGER_STYLE: &[u8] = include_bytes!("../../assets/swagger-ui.css.gz");
const REDOC_SCRIPT: &[u8] = include_bytes!("../../assets/redoc.standalone.js.gz");
const OWN_SCRIPT: &str = include_str!("../../assets/docs.js");

/// Whether a path belongs to the documentation.
pub(super) fn has(path: &str) -> bool {
    matches!(path, "/docs" | "/redoc") || path.starts_with("/docs/")
}

/// Answers `GET` of such a path.
pub(super) fn get(path: &str, headers: &HeaderMap) -> Response<Body> {
    let mut response = match path {
        "/docs" => {
            let style = "<link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\">";
            answer(StatusCode::OK, HTML, page("swagger-ui-bundle.js", style))
        }
        "/redoc" => answer(StatusCode::OK, HTML, page("redoc.standalone.js", "")),
        "/docs/docs.js" => answer(StatusCode::OK, SCRIPT, OWN_SCRIPT.to_owned()),
        "/docs/swagger-ui-bundle.js" => packed(SCRIPT, SWAGGER_SCRIPT, headers),
        "/docs/swagger-ui.css" => packed(STYLE, SWAGGER_STYLE, headers),
        "/docs/redoc.standalone.js" => packed(SCRIPT, REDOC_SCRIPT, headers),
        _ => return problem(StatusCode::NOT_FOUND, "there is no such route"),
    };
    let own = response.headers_mut();
    own.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    own.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn page(script: &str, head: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Tidemill: the API</title>{head}<style>body{{margin:0}}\
         form{{font:16px/1.5 system-ui,sans-serif;margin:4rem auto;max-width:32rem;padding:0 1rem}}</style></head>\
         <body><form id=\"token\" hidden><p>This server asks for a token.</p>\
         <input name=\"text\" type=\"password\" aria-label=\"token\" autocomplete=\"off\"> <button>Show</button></form>\
         <div id=\"api\"></div><script src=\"/docs/{script}\"></script><script src=\"/docs/docs.js\"></script>\
         </body></html>\n"
    )
}

/// As it is kept for whoever takes gzip, unpacked for others.
fn packed(content_type: &'static str, bytes: &'static [u8], headers: &HeaderMap) -> Response<Body> {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let gzip = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(takes_gzip);
    let mut response = answer(StatusCode::OK, content_type, String::new());
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().insert(header::VARY, vary);
    if gzip {
        let encoding = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        *response.body_mut() = Body::from(Bytes::from_static(bytes));
    } else {
        let mut plain = Vec::new();
        // It is a part of this binary, and a test unpacks each.
        if let Err(error) = GzDecoder::new(bytes).read_to_end(&mut plain) {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("unpack: {error}"));
        }
        *response.body_mut() = Body::from(plain);
    }
    response
}

/// Whether one part of `Accept-Encoding` asks for gzip.
fn takes_gzip(part: &str) -> bool {
    let mut words = part.split(';').map(str::trim);
    let named = words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
    let refused = words.any(|word| matches!(word.strip_prefix("q="), Some("0" | "0.0" | "0.00" | "0.000")));
    named && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_pages_can_be_unpacked() {
        for bytes in [SWAGGER_SCRIPT, SWAGGER_STYLE, REDOC_SCRIPT] {
            let mut plain = String::new();
            GzDecoder::new(bytes)
                .read_to_string(&mut plain)
                .expect("gzip of UTF-8");
            assert!(plain.len() > bytes.len());
        }
    }

    #[test]
    fn gzip_goes_to_who_takes_it() {
        for (part, taken) in [
            ("gzip", true),
            (" GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
        ] {
            assert_eq!(takes_gzip(part), taken, "{part}");
        }
    }
}
