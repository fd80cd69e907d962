//! What hyper leaves to us: hosts, ambiguous framing, slow clients, early answers, HTTP/2, shutdown.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingest::IngestOptions;
use ingest::http::{HttpOptions, Pace};

use crate::server::{EVENTS, NDJSON, PATIENCE, Server, head};

/// Deadlines that a test can wait for.
fn impatient() -> HttpOptions {
    HttpOptions {
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(300),
        pace: Pace {
            idle: Duration::from_millis(150),
            grace: Duration::from_millis(400),
            bytes_per_second_min: 1 << 20,
        },
        ..HttpOptions::default()
    }
}

#[tokio::test]
async fn a_missing_double_or_invalid_host_is_400() {
    let server = Server::start().await;
    for hosts in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a b\r\n",
        "host: \r\n",
        "host: u@a\r\n",
        "host: a:99999\r\n",
    ] {
        let mut client = server.connect().await;
        let request =
            format!("POST {EVENTS} HTTP/1.1\r\n{hosts}{NDJSON}content-length: 7\r\n\r\n{{\"n\":1}}");
        client.send(request.as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (400, Some("close")),
            "{hosts:?}"
        );
        assert_eq!(answer.json()["type"], "urn:tidemill:problem:invalid-host");
    }
    let mut old = server.connect().await;
    old.send(format!("POST {EVENTS} HTTP/1.0\r\n{NDJSON}content-length: 7\r\n\r\n{{\"n\":1}}").as_bytes())
        .await;
    assert_eq!(old.answer().await.status, 200);
}

#[tokio::test]
async fn content_length_with_transfer_encoding_is_400_and_the_end_of_the_connection() {
    let server = Server::start().await;
    let chunked = "7\r\n{\"n\":1}\r\n0\r\n\r\n";
    let both = [
        "content-length: 17\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\nContent-Length: 17\r\n",
    ];
    for lengths in both {
        let mut client = server.connect().await;
        // A good request first, in the same packet: only the bad one is refused.
        let good = format!("{}{{\"n\":0}}", head(EVENTS, NDJSON, 7));
        let bad = format!("POST {EVENTS} HTTP/1.1\r\nhost: a\r\n{NDJSON}{lengths}\r\n{chunked}");
        client.send(format!("{good}{bad}").as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (400, Some("close")),
            "{lengths}"
        );
        assert!(client.is_closed().await);
    }
    assert_eq!(server.journal.rows("numbers"), 2);
}

#[tokio::test]
async fn a_slow_head_is_408_and_an_idle_connection_is_closed() {
    let server = Server::with(IngestOptions::default(), impatient()).await;
    let mut slow = server.connect().await;
    slow.send(b"POST /v1/streams/numbers/events HTTP/1.1\r\nhost:")
        .await;
    assert_eq!(slow.answer().await.status, 408);
    assert!(slow.is_closed().await);

    let mut dripping = server.connect().await;
    let mut bytes = b"GET / HTTP/1.1\r\nhost: a\r\n"
        .iter()
        .chain(std::iter::repeat(&b'a'));
    let began = std::time::Instant::now();
    // Each byte is in time, the head as a whole is not.
    while dripping.try_send(&[*bytes.next().unwrap()]).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "a head may not take for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let mut silent = server.connect().await;
    assert!(silent.is_closed().await);
    let mut kept = server.connect().await;
    assert_eq!(kept.post(EVENTS, NDJSON, b"{\"n\":1}").await.status, 200);
    assert!(kept.is_closed().await);
}

#[tokio::test]
async fn a_slow_body_is_408_and_stores_nothing() {
    let server = Server::with(IngestOptions::default(), impatient()).await;
    let mut stalled = server.connect().await;
    stalled.send(head(EVENTS, NDJSON, 100).as_bytes()).await;
    stalled.send(b"{\"n\":1}\n").await;
    let answer = stalled.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));

    let mut dripping = server.connect().await;
    dripping.send(head(EVENTS, NDJSON, 1_000_000).as_bytes()).await;
    while dripping.try_send(b"\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.journal.groups().is_empty());
}

#[tokio::test]
async fn an_exchange_in_progress_outlives_the_idle_deadline() {
    let patient_body = HttpOptions {
        pace: Pace::default(),
        ..impatient()
    };
    let server = Server::with(IngestOptions::default(), patient_body).await;
    let mut client = server.connect().await;
    client.send(head(EVENTS, NDJSON, 7).as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.send(b"{\"n\":1}").await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn continue_is_sent_only_to_a_request_that_passes_its_checks() {
    let server = Server::start().await;
    let expect = format!("{NDJSON}expect: 100-continue\r\n");
    let mut client = server.connect().await;
    client
        .send(head("/v1/streams/nobody/events", &expect, 7).as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 404);
    let mut client = server.connect().await;
    client.send(head(EVENTS, &expect, 7).as_bytes()).await;
    assert_eq!(client.answer().await.status, 100);
    client.send(b"{\"n\":1}").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_sends_on_still_reads_why_it_was_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send(head("/v1/streams/nobody/events", NDJSON, 32 << 20).as_bytes())
        .await;
    // Nothing of this is read by the service; without lingering the connection would be reset.
    client.send(&vec![b'\n'; 32 << 20]).await;
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_with_many_streams() {
    let server = Server::start().await;
    let socket = server.connect().await.into_socket();
    let io = TokioIo::new(socket);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let driving = tokio::runtime::Handle::current().spawn(connection);
    let post = |lines: String, authority: &str, host: Option<&str>| {
        let mut request = http::Request::post(format!("http://{authority}{EVENTS}"))
            .header("content-type", "application/x-ndjson");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let request = request.body(Full::new(Bytes::from(lines))).unwrap();
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        }
    };
    let many = (0..50).map(|n| post(format!("{{\"n\":{n}}}\n").repeat(1_000), "test", None));
    for (status, _) in futures::future::join_all(many).await {
        assert_eq!(status, 200);
    }
    assert_eq!(server.journal.rows("numbers"), 50_000);
    assert_eq!(post("{\"n\":1}".to_owned(), "test", Some("other")).await.0, 400);
    assert_eq!(post("{\"n\":1}".to_owned(), "test", Some("test")).await.0, 200);
    assert_eq!(post(String::new(), "test", None).await.0, 400);
    drop(sender);
    server.stop().await;
    let _ = driving.await;
}

#[tokio::test]
async fn hyper_refuses_heads_that_are_too_large_or_no_heads() {
    let server = Server::start().await;
    let mut large = server.connect().await;
    let _ = large
        .try_send(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10)).as_bytes())
        .await;
    assert_eq!(large.answer().await.status, 431);
    let mut nonsense = server.connect().await;
    nonsense.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n").await;
    assert_eq!(nonsense.answer().await.status, 400);
}

/// The default stays below common limits on open files, which both ends share here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_client_is_served_beside_many_slow_ones() {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let server = Server::start().await;
    let mut slow = Vec::new();
    for number in 0..if soak { 10_000 } else { 300 } {
        let mut client = server.connect().await;
        if number % 2 == 0 {
            client
                .send(b"POST /v1/streams/numbers/events HTTP/1.1\r\nhost:")
                .await;
        } else {
            client.send(head(EVENTS, NDJSON, 100).as_bytes()).await;
        }
        slow.push(client);
    }
    let mut good = server.connect().await;
    for _ in 0..100 {
        assert_eq!(good.post(EVENTS, NDJSON, b"{\"n\":1}").await.status, 200);
    }
    // Half of them hold their 100 bytes of the budget and nothing more.
    assert!(server.ingest.in_flight_bytes() <= 100 * slow.len() / 2);
}
