//! Routes with a form and answers of their own: what clients of another system send, and what they are told.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use event::decode::{Envelope, Format};
use event::{StreamName, Template};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use ingest::http::HttpOptions;
use ingest::{FixedAnswer, IngestOptions, InvalidAnswer, PostRoute, PostSource};
use journal::AppendError;
use serde_json::json;

use crate::server::{Answer, Server, head};

const JSON: &str = "content-type: application/json\r\n";

fn route(path: &str, source: PostSource) -> PostRoute {
    PostRoute {
        path: path.to_owned(),
        stream: StreamName::parse("numbers").unwrap(),
        source,
        untyped: None,
        answer: None,
        invalid: None,
    }
}

fn answers(status: u16, body: serde_json::Value) -> Option<InvalidAnswer> {
    Some(InvalidAnswer {
        status: StatusCode::from_u16(status).unwrap(),
        body: Some(Template::new(&body)),
    })
}

fn options() -> IngestOptions {
    let envelope = PostSource::Envelope(Envelope {
        member: "events".to_owned(),
        fields: vec![("app".to_owned(), "word".to_owned())],
    });
    let success = |status, body: Option<serde_json::Value>| {
        Some(FixedAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.as_ref().map(Template::new),
        })
    };
    IngestOptions {
        routes: vec![
            PostRoute {
                answer: success(200, Some(json!({"status": "ok"}))),
                invalid: answers(400, json!({"error": "Invalid payload"})),
                ..route("/track", envelope.clone())
            },
            PostRoute {
                answer: success(201, Some(json!({"message": "sent"}))),
                invalid: answers(422, json!({"detail": [{"msg": "$message"}]})),
                ..route("/query", PostSource::Query)
            },
            PostRoute {
                answer: success(204, None),
                invalid: Some(InvalidAnswer {
                    status: StatusCode::UNPROCESSABLE_ENTITY,
                    body: None,
                }),
                ..route("/body", PostSource::Body)
            },
            route("/plain", envelope),
            PostRoute {
                untyped: Some(Format::Json),
                ..route("/untyped", PostSource::Body)
            },
        ],
        ..IngestOptions::default()
    }
}

async fn start() -> Server {
    Server::with(options(), HttpOptions::default()).await
}

fn said(answer: &Answer) -> (u16, String) {
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

fn ok() -> (u16, String) {
    (200, "{\"status\":\"ok\"}".to_owned())
}

fn invalid() -> (u16, String) {
    (400, "{\"error\":\"Invalid payload\"}".to_owned())
}

#[tokio::test]
async fn an_envelope_is_stored_with_its_own_members_before_the_answer() {
    let server = start().await;
    let body = b"{\"events\":[{\"n\":1},{\"n\":2,\"word\":\"own\"}],\"app\":\"shop\",\"other\":[]}";
    let headers = format!("{JSON}x-request-id: order-66\r\n");
    let answer = server.post("/track", &headers, body).await;
    assert_eq!(said(&answer), ok());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-request-id"), Some("order-66"));
    assert!(answer.header("traceparent").is_some() && answer.header("events-rejected").is_none());
    let groups = server.journal.groups();
    let rows = &groups[0][0].rows;
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    let words: Vec<_> = rows.column(1).as_string::<i32>().iter().collect();
    assert_eq!(words, [Some("shop"), Some("own")]);
}

#[tokio::test]
async fn a_route_without_answers_of_its_own_says_the_counts() {
    let server = start().await;
    let body = b"{\"events\":[{\"n\":1},{\"n\":\"x\"},{\"n\":3}]}";
    let answer = server.post("/plain", JSON, body).await;
    assert_eq!(
        (answer.status, answer.header("events-rejected")),
        (200, Some("1"))
    );
    let document = answer.json();
    assert_eq!(
        (&document["accepted"], &document["rejected"]),
        (&2.into(), &1.into())
    );
    assert_eq!(document["rejections"][0]["line"], 2);
    let empty = server.post("/plain", JSON, b"{\"events\":[]}").await;
    assert_eq!(empty.status, 400);
    assert_eq!(empty.json()["type"], "urn:tidemill:problem:no-events");
    let none = server.post("/plain", JSON, b"{}").await;
    assert_eq!(none.json()["type"], "urn:tidemill:problem:invalid-envelope");
}

#[tokio::test]
async fn a_body_that_does_not_say_what_it_is_is_what_the_route_says() {
    let server = start().await;
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for (headers, body) in [
        ("", &b"[{\"n\":1},\n{\"n\":2}]"[..]),
        (form, b"{\"n\":\n3}"),
        // What is said counts.
        (
            "content-type: application/x-ndjson\r\n",
            b"{\"n\":4}\n{\"n\":5}\n",
        ),
    ] {
        let answer = server.post("/untyped", headers, body).await;
        assert_eq!(answer.status, 200, "{headers}");
    }
    assert_eq!(server.journal.rows("numbers"), 5);
    let latin = "content-type: application/json; charset=latin1\r\n";
    assert_eq!(server.post("/untyped", latin, b"{\"n\":6}").await.status, 415);
    assert_eq!(server.post("/body", form, b"{\"n\":6}").await.status, 415);
}

#[tokio::test]
async fn partly_accepted_is_a_success_that_says_so_in_a_header() {
    let server = start().await;
    let answer = server
        .post("/track", JSON, b"{\"events\":[{\"n\":1},{},5]}")
        .await;
    assert_eq!(said(&answer), ok());
    assert_eq!(answer.header("events-rejected"), Some("2"));
    assert_eq!(
        (server.journal.rows("numbers"), server.journal.rows("_rejects")),
        (1, 2)
    );
}

#[tokio::test]
async fn nothing_accepted_or_no_envelope_is_the_declared_answer() {
    let server = start().await;
    for body in [
        "{}",
        "",
        "[]",
        "{\"events\":{}}",
        "{\"events\":[{\"n\":1}]",
        "{\"events\":[{\"n\":1}],\"app\":7}",
        "{\"events\":[{\"n\":1}],\"events\":[]}",
        "{\"events\":[{\"m\":1}]}",
    ] {
        let answer = server.post("/track", JSON, body.as_bytes()).await;
        assert_eq!(said(&answer), invalid(), "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("traceparent").is_some());
    }
    let on_error = server
        .post("/track?on_error=reject", JSON, b"{\"events\":[{\"n\":1},{}]}")
        .await;
    assert_eq!(said(&on_error), invalid());
    assert_eq!(on_error.header("events-rejected"), Some("2"));
    // All that an empty list has is stored.
    assert_eq!(said(&server.post("/track", JSON, b"{\"events\":[]}").await), ok());
    assert_eq!(server.journal.rows("numbers"), 0);
}

#[tokio::test]
async fn an_envelope_comes_as_browsers_send_it() {
    let server = start().await;
    let body = b"{\"events\":[{\"n\":1}]}";
    for content_type in ["content-type: text/plain;charset=UTF-8\r\n", JSON, ""] {
        assert_eq!(
            said(&server.post("/track", content_type, body).await),
            ok(),
            "{content_type}"
        );
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    let compressed = encoder.finish().unwrap();
    let gzip = format!("{JSON}content-encoding: gzip\r\n");
    assert_eq!(said(&server.post("/track", &gzip, &compressed).await), ok());
    assert_eq!(server.journal.rows("numbers"), 4);
    let damaged = server
        .post("/track", &gzip, &compressed[..compressed.len() - 5])
        .await;
    assert_eq!(said(&damaged), invalid());
    let lines = server
        .post("/track", "content-type: application/x-ndjson\r\n", body)
        .await;
    assert_eq!(lines.status, 415);
}

#[tokio::test]
async fn chunks_may_be_cut_anywhere_in_an_envelope() {
    let server = start().await;
    let body = b"{\"x\":\"]}\",\"events\":[{\"n\":1},{\"n\":2}],\"app\":\"a\"}";
    let mut client = server.connect().await;
    for cut in 1..body.len() {
        let head = format!("POST /track HTTP/1.1\r\nhost: a\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
        client.send(head.as_bytes()).await;
        for piece in [&body[..cut], &body[cut..]] {
            client.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
            client.send(piece).await;
            client.send(b"\r\n").await;
        }
        client.send(b"0\r\n\r\n").await;
        assert_eq!(said(&client.answer().await), ok(), "cut at {cut}");
    }
    assert_eq!(server.journal.rows("numbers"), 2 * (body.len() - 1));
}

#[tokio::test]
async fn what_http_means_stays_as_http_means_it() {
    let server = start().await;
    let mut client = server.connect().await;
    client.send(head("/track", JSON, 100 << 20).as_bytes()).await;
    assert_eq!(client.answer().await.status, 413);
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    assert_eq!(server.post("/track", form, b"{}").await.status, 415);
    assert_eq!(server.post("/track/", JSON, b"{}").await.status, 404);
    let mut client = server.connect().await;
    client
        .send(b"PUT /track HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 405);
    server.journal.refuse(AppendError::QueueFull { limit_bytes: 1 });
    assert_eq!(
        server
            .post("/track", JSON, b"{\"events\":[{\"n\":1}]}")
            .await
            .status,
        429
    );
    server.journal.refuse(AppendError::Closed);
    let answer = server.post("/track", JSON, b"{\"events\":[{\"n\":1}]}").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
}

#[tokio::test]
async fn the_query_string_is_one_event() {
    let server = start().await;
    let sent = (201, "{\"message\":\"sent\"}".to_owned());
    for (target, headers, body) in [
        ("/query?n=7&word=a%20b+%C3%A9", "", b"".as_slice()),
        ("/query?&n=8&&", JSON, b"not looked at"),
        ("/query?n=9", "content-type: multipart/form-data\r\n", b"{}"),
    ] {
        assert_eq!(said(&server.post(target, headers, body).await), sent, "{target}");
    }
    // A client that sends no body at all need not say so.
    let mut client = server.connect().await;
    client.send(b"POST /query?n=10 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(said(&client.answer().await), sent);
    let groups = server.journal.groups();
    let rows = &groups[0][0].rows;
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(rows.column(1).as_string::<i32>().value(0), "a b é");
    assert_eq!(server.journal.rows("numbers"), 4);
}

#[tokio::test]
async fn a_query_that_is_no_event_is_the_declared_answer_with_what_was_wrong() {
    let server = start().await;
    for (target, wrong) in [
        ("/query", "`n`: the field is required"),
        ("/query?n=x", "`n`: expected an integer, got \\\"x\\\""),
        (
            "/query?n=1&other=2",
            "`other`: the stream does not declare this field",
        ),
        ("/query?n=1&n=2", "`n` is given twice"),
        ("/query?n=1&word=%FF", "not UTF-8"),
        ("/query?n=1&wait=durable", "`wait`"),
    ] {
        let answer = server.post(target, "", b"").await;
        let (status, body) = said(&answer);
        assert!(status == 422 && body.contains(wrong), "{target}: {status} {body}");
        assert!(body.starts_with("{\"detail\":[{\"msg\":\""), "{body}");
    }
    assert_eq!(server.journal.rows("numbers"), 0);
}

#[tokio::test]
async fn a_body_that_means_nothing_is_read_up_to_a_bound() {
    let server = start().await;
    let mut client = server.connect().await;
    client
        .send(head("/query?n=1", "", (64 << 10) + 1).as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 413);
    let mut client = server.connect().await;
    let head = "POST /query?n=1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head.as_bytes()).await;
    client
        .send(format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000)).as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 413);
    // What was within the bound leaves the connection as it was.
    let mut client = server.connect().await;
    for _ in 0..2 {
        let answer = client.post("/query?n=1", JSON, &vec![b'x'; 64 << 10]).await;
        assert_eq!(answer.status, 201);
    }
    assert_eq!(server.journal.rows("numbers"), 2);
}

#[tokio::test]
async fn a_declared_status_without_a_body_keeps_our_document() {
    let server = start().await;
    let stored = server.post("/body", JSON, b"[{\"n\":1}]").await;
    assert_eq!(
        (said(&stored), stored.header("content-type")),
        ((204, String::new()), None)
    );
    let rejected = server.post("/body", JSON, b"{\"n\":\"x\"}").await;
    assert_eq!(
        (
            rejected.status,
            rejected.json()["rejections"][0]["field"].as_str()
        ),
        (422, Some("n"))
    );
    let broken = server.post("/body", JSON, b"{").await;
    assert_eq!(
        (broken.status, broken.json()["status"].as_u64()),
        (422, Some(422))
    );
    assert_eq!(broken.header("content-type"), Some("application/problem+json"));
}

/// A long value for very many events is refused before the columns are there.
#[tokio::test]
async fn an_envelope_cannot_blow_up() {
    let mut options = options();
    options.body_bytes_max = 100_000;
    let server = Server::with(options, HttpOptions::default()).await;
    let events = |count: usize| vec!["{\"n\":1}"; count].join(",");
    let body = |count| {
        format!(
            "{{\"events\":[{}],\"app\":\"{}\"}}",
            events(count),
            "y".repeat(100)
        )
    };
    assert_eq!(
        said(&server.post("/track", JSON, body(1_000).as_bytes()).await),
        ok()
    );
    let refused = server.post("/track", JSON, body(10_000).as_bytes()).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert_eq!(server.journal.rows("numbers"), 1_000);
    assert_eq!(server.ingest.in_flight_bytes(), 0);
}
