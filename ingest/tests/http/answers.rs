//! What requests are answered, by status (design §5), and what is in the journal afterwards (I-1).

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use event::{Offset, Partition, Position};
use ingest::IngestOptions;
use ingest::http::HttpOptions;
use journal::AppendError;
use serde_json::json;

use crate::server::{EVENTS, NDJSON, Server, head};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn accepted_lines_are_stored_with_their_trace_before_the_answer() {
    let server = Server::start().await;
    let headers = format!(
        "{NDJSON}traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nx-request-id: order-66\r\nidempotency-key: k1\r\n"
    );
    let answer = server
        .post(EVENTS, &headers, b"{\"n\":1}\n\n{\"n\":2,\"word\":\"x\"}")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("traceparent"),
        Some(&*format!("00-{TRACE}-00f067aa0ba902b7-01"))
    );
    assert_eq!(answer.header("x-request-id"), Some("order-66"));
    assert_eq!(answer.header("events-rejected"), None);
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "accepted": 2, "rejected": 0, "durability": "fsync", "trace_id": TRACE,
            "positions": [{"partition": 0, "offset": 1}], "rejections": [], "rejections_truncated": false,
        })
    );
    let groups = server.journal.groups();
    let batch = &groups[0][0];
    assert_eq!(batch.spans[0].trace_id.to_string(), TRACE);
    assert_eq!(batch.spans[0].idempotency_key.as_deref(), Some("k1"));
    assert!(batch.spans[0].received_at > 1_600_000_000_000_000);
    assert_eq!(batch.rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
}

#[tokio::test]
async fn bad_lines_are_named_and_kept_in_one_group_with_the_good_ones() {
    let server = Server::start().await;
    let answer = server
        .post_lines("{\"n\":1}\n{\"n\":\"x\"}\nnonsense\n{\"n\":2}\n")
        .await;
    assert_eq!(
        (answer.status, answer.header("events-rejected")),
        (200, Some("2"))
    );
    let body = answer.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&2.into(), &2.into()));
    assert_eq!(
        body["positions"],
        serde_json::json!([{"partition": 0, "offset": 1}])
    );
    assert_eq!(body["rejections"][0]["line"], 2);
    assert_eq!(body["rejections"][0]["code"], "type_mismatch");
    assert_eq!(body["rejections"][0]["field"], "n");
    assert_eq!(body["rejections"][1]["code"], "invalid_json");
    assert_eq!(body["rejections"][1]["retryable"], false);
    let groups = server.journal.groups();
    assert_eq!(groups.len(), 1);
    let rejects = &groups[0][1];
    assert_eq!(
        (groups[0].len(), rejects.stream.as_str(), rejects.len()),
        (2, "_rejects", 2)
    );
    assert_eq!(rejects.rows.column(0).as_string::<i32>().value(0), "numbers");
    assert_eq!(rejects.rows.column(6).as_string::<i32>().value(1), "nonsense");
}

#[tokio::test]
async fn all_rejected_is_422_and_the_first_thousand_are_described() {
    let server = Server::start().await;
    let answer = server.post_lines(&"[]\n".repeat(1_500)).await;
    assert_eq!(
        (answer.status, answer.header("events-rejected")),
        (422, Some("1500"))
    );
    let body = answer.json();
    assert_eq!(body["rejections"].as_array().unwrap().len(), 1_000);
    assert_eq!(
        (&body["rejections_truncated"], &body["positions"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(
        (server.journal.rows("numbers"), server.journal.rows("_rejects")),
        (0, 1_000)
    );
}

#[tokio::test]
async fn on_error_reject_makes_a_request_all_or_nothing() {
    let server = Server::start().await;
    let target = format!("{EVENTS}?on_error=reject&wait=queryable");
    let answer = server.post(&target, NDJSON, b"{\"n\":1}\n{}\n{\"n\":2}\n").await;
    assert_eq!(
        (answer.status, answer.header("events-rejected")),
        (422, Some("3"))
    );
    let body = answer.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&0.into(), &3.into()));
    assert_eq!(body["rejections"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&body["rejections"][0]["line"], &body["rejections_truncated"]),
        (&2.into(), &false.into())
    );
    assert_eq!(
        (server.journal.rows("numbers"), server.journal.rows("_rejects")),
        (0, 1)
    );
    assert_eq!(
        server.post(&target, NDJSON, b"{\"n\":1}\n{\"n\":2}").await.status,
        200
    );
}

#[tokio::test]
async fn a_json_document_is_an_event_or_an_array_of_them() {
    let server = Server::start().await;
    let json = "content-type: application/json; charset=utf-8\r\n";
    let status = async |body: &str| server.post("/stats/numbers", json, body.as_bytes()).await.status;
    assert_eq!(status("{\"n\":1}").await, 200);
    assert_eq!(status(" [{\"n\":2},\n{\"n\":3}] ").await, 200);
    assert_eq!(status("[{\"n\":4},{\"n\":5}").await, 400);
    assert_eq!(status("{\"n\":6}{\"n\":7}").await, 400);
    assert_eq!(status("[]").await, 400);
    assert_eq!(server.journal.rows("numbers"), 3);
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem_with_its_status() {
    let server = Server::start().await;
    let line = b"{\"n\":1}";
    let type_less = server.post(EVENTS, "", line).await;
    assert_eq!(type_less.status, 415);
    assert_eq!(type_less.header("content-type"), Some("application/problem+json"));
    assert!(type_less.header("accept-post").is_some());
    let problem = type_less.json();
    assert_eq!(problem["title"], "Unsupported media type");
    assert_eq!(
        (&problem["status"], problem["trace_id"].as_str().unwrap().len()),
        (&415.into(), 32)
    );

    let with = |extra: &str| format!("{NDJSON}{extra}\r\n");
    for (target, headers, status) in [
        ("/v1/streams/nobody/events", with("x: y"), 404),
        ("/v1/streams/_rejects/events", with("x: y"), 405),
        ("/elsewhere", with("x: y"), 404),
        ("/v1/streams/numbers/events?upsert=1", with("x: y"), 400),
        ("/v1/streams/numbers/events?on_error=maybe", with("x: y"), 400),
        (
            "/v1/streams/numbers/events?wait=durable&wait=durable",
            with("x: y"),
            400,
        ),
        (EVENTS, with("accept: text/html"), 406),
        (EVENTS, with("content-encoding: gzip, br"), 415),
        (EVENTS, with("content-encoding: compress"), 415),
        (EVENTS, with("expect: miracles"), 417),
        (EVENTS, with("idempotency-key: "), 400),
        (
            EVENTS,
            "content-type: application/x-www-form-urlencoded\r\n".to_owned(),
            415,
        ),
    ] {
        let answer = server.post(target, &headers, line).await;
        assert_eq!(answer.status, status, "{target} {headers}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert!(server.journal.groups().is_empty());
}

#[tokio::test]
async fn a_method_that_is_not_post_is_405_and_names_what_is() {
    let server = Server::start().await;
    for (path, allow) in [("/stats/numbers", "post"), (EVENTS, "get, head, post")] {
        let mut client = server.connect().await;
        client
            .send(format!("PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)));
    }
}

#[tokio::test]
async fn no_length_is_411_and_no_event_is_400() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send(format!("POST {EVENTS} HTTP/1.1\r\nhost: a\r\n{NDJSON}\r\n").as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 411);
    assert_eq!(server.post_lines("").await.status, 400);
    assert_eq!(
        server.post_lines("\n \r\n").await.json()["type"],
        "urn:tidemill:problem:no-events"
    );
}

/// On several partitions a part of a request may be durable: 503 all the same, and which part is said.
#[tokio::test]
async fn what_became_durable_of_a_request_that_failed_is_named() {
    let server = Server::start().await;
    let place = |partition, offset| Some(Position::new(Partition(partition), Offset(offset)));
    server.journal.refuse(AppendError::Partial {
        durable: vec![place(3, 8), None],
        cause: Box::new(AppendError::Closed),
    });
    // The second batch of the group is that of the rejects.
    let answer = server.post_lines("{\"n\":1}\nbad").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(
        answer.json()["positions"],
        json!([{ "partition": 3, "offset": 8 }])
    );
}

#[tokio::test]
async fn a_journal_that_refuses_decides_the_status_and_nothing_is_acknowledged() {
    let server = Server::start().await;
    let path = std::path::PathBuf::from("x");
    for (error, status, retry_after) in [
        (
            AppendError::TooLarge {
                record_bytes: 2,
                limit_bytes: 1,
            },
            413,
            None,
        ),
        (AppendError::QueueFull { limit_bytes: 1 }, 429, Some("1")),
        (
            AppendError::DiskReserve {
                free_bytes: 1,
                reserve_bytes: 2,
            },
            503,
            Some("5"),
        ),
        (AppendError::Closed, 503, Some("5")),
        (
            AppendError::Poisoned {
                operation: "fsync",
                path,
                message: "EIO".to_owned(),
            },
            503,
            Some("5"),
        ),
    ] {
        server.journal.refuse(error);
        let answer = server.post_lines("{\"n\":1}").await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (status, retry_after)
        );
    }
}

#[tokio::test]
async fn a_full_budget_is_429_and_the_largest_request_still_passes() {
    let options = IngestOptions {
        body_bytes_max: 1_000,
        in_flight_bytes_max: 1_000,
        ..IngestOptions::default()
    };
    let server = Server::with(options, HttpOptions::default()).await;
    let body = format!("{{\"n\":1}}{}", "\n".repeat(993));
    let mut held = Vec::new();
    for _ in 0..2 {
        // One fills the budget, the other takes the lane.
        let mut client = server.connect().await;
        client
            .send(head(EVENTS, &format!("{NDJSON}expect: 100-continue\r\n"), body.len()).as_bytes())
            .await;
        assert_eq!(client.answer().await.status, 100);
        held.push(client);
    }
    let refused = server.post(EVENTS, NDJSON, b"{\"n\":1}").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    for mut client in held {
        client.send(body.as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(server.ingest.in_flight_bytes(), 0);
    assert_eq!(server.post(EVENTS, NDJSON, body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn once_closed_new_requests_are_503_and_what_is_in_flight_finishes() {
    let server = Server::start().await;
    let mut begun = server.connect().await;
    begun
        .send(head(EVENTS, &format!("{NDJSON}expect: 100-continue\r\n"), 7).as_bytes())
        .await;
    assert_eq!(begun.answer().await.status, 100);
    server.ingest.close();
    let refused = server.post_lines("{\"n\":1}").await;
    assert_eq!(
        (refused.status, refused.header("connection")),
        (503, Some("close"))
    );
    server.drain();
    begun.send(b"{\"n\":2}").await;
    let answer = begun.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(server.journal.rows("numbers"), 1);
    server.stop().await;
}
