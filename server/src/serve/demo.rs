//! `GET /demo`: a page whose visitors are tracked, beside the events as they arrive.
//!
//! It is built of `tracker/demo` by `cargo xtask demo`, is part of the binary, and needs no network but this server: its
//! policy forbids the browser everything else. What it must know of the server it asks for at `/demo/config.json`,
//! which is made of the section `[demo]`. The command `tidemill demo` is something else: it makes events by itself.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::problem::{answer, problem};
use crate::config::DemoConfig;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const JSON: &str = "application/json";

/// Scripts, styles and requests are this server's alone; the page's icon is written into it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &[u8] = include_bytes!("demo/index.html");
const PAGE_SCRIPT: &[u8] = include_bytes!("demo/app.js");
const PAGE_STYLE: &[u8] = include_bytes!("demo/app.css");

/// The page, if the configuration switches it on.
pub(super) struct Demo {
    /// What the page asks for.
    settings: Option<Bytes>,
}

impl Demo {
    pub(super) fn new(config: Option<&DemoConfig>) -> Self {
        let settings = |config: &DemoConfig| {
            let body = json!({
                "stream": config.stream.as_str(),
                "track": config.track,
                "events": config.events,
                "tail": format!("/v1/streams/{}/tail", config.stream),
                "version": crate::version::TEXT,
            });
            Bytes::from(format!("{body}\n"))
        };
        Self {
            settings: config.map(settings),
        }
    }

    /// Whether a path belongs to the page.
    pub(super) fn has(path: &str) -> bool {
        path == "/demo" || path.starts_with("/demo/")
    }

    /// Answers a request for such a path; its body does not matter.
    pub(super) fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "this route answers GET and HEAD");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            return response;
        }
        let Some(settings) = &self.settings else {
            return problem(
                StatusCode::NOT_FOUND,
                "the demo page is switched off: a section `[demo]` with `stream = \"…\"` switches it on",
            );
        };
        match path {
            // Parts of the page have paths of their own, which may be asked for again.
            "/demo" | "/demo/" | "/demo/basket" | "/demo/about" => part(HTML, Bytes::from_static(PAGE)),
            "/demo/app.js" => part(SCRIPT, Bytes::from_static(PAGE_SCRIPT)),
            "/demo/app.css" => part(STYLE, Bytes::from_static(PAGE_STYLE)),
            "/demo/config.json" => part(JSON, settings.clone()),
            _ => problem(StatusCode::NOT_FOUND, "there is no such route"),
        }
    }
}

fn part(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, String::new());
    *response.body_mut() = Body::from(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of this program may answer next time.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn switched_on() -> Demo {
        Demo::new(Some(&DemoConfig {
            stream: event::StreamName::parse("user_events").expect("a name"),
            track: "/track".to_owned(),
            events: "/events".to_owned(),
        }))
    }

    async fn body(response: Response<Body>) -> Vec<u8> {
        let collected = response.into_body().collect().await.expect("a body");
        collected.to_bytes().to_vec()
    }

    #[tokio::test]
    async fn it_is_off_by_default_and_says_how_it_is_switched_on() {
        let response = Demo::new(None).answer(&Method::GET, "/demo");
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let body: serde_json::Value = serde_json::from_slice(&body(response).await).expect("JSON");
        assert!(body["detail"].as_str().expect("a detail").contains("`[demo]`"));
    }

    #[tokio::test]
    async fn the_page_names_no_other_host_and_everything_that_it_names_is_there() {
        let demo = switched_on();
        let page = body(demo.answer(&Method::GET, "/demo")).await;
        let page = String::from_utf8(page).expect("UTF-8");
        let named = page
            .split('"')
            .filter(|text| text.starts_with("/demo/"))
            .collect::<Vec<_>>();
        assert_eq!(named.len(), 2, "{page}");
        for path in named {
            let response = demo.answer(&Method::GET, path);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(
                response.headers()[header::CONTENT_SECURITY_POLICY],
                HeaderValue::from_static(POLICY)
            );
        }
        // What is named besides is the name of a language of drawings, not an address that is asked.
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("//"));
    }

    #[tokio::test]
    async fn the_page_is_told_the_paths_of_its_stream() {
        let response = switched_on().answer(&Method::GET, "/demo/config.json");
        let told: serde_json::Value = serde_json::from_slice(&body(response).await).expect("JSON");
        assert_eq!(told["tail"], "/v1/streams/user_events/tail");
        assert_eq!(told["track"], "/track");
        assert_eq!(told["stream"], "user_events");
    }

    #[test]
    fn what_is_not_part_of_it_is_not_found_and_nothing_is_taken() {
        let demo = switched_on();
        assert_eq!(
            demo.answer(&Method::GET, "/demo/../x").status(),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            demo.answer(&Method::POST, "/demo").status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert!(Demo::has("/demo/x") && !Demo::has("/demonstration"));
    }
}
