//! Bodies: encodings, sizes, chunk boundaries, damage, disappearing clients.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ingest::IngestOptions;
use ingest::http::HttpOptions;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::server::{Client, EVENTS, NDJSON, Server, head};

const LINES: usize = 200;

/// What [`BROTLI_LINES`] holds.
fn lines() -> Vec<u8> {
    (0..LINES)
        .flat_map(|n| format!("{{\"n\":{n},\"word\":\"brotli\"}}\n").into_bytes())
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// `lines()` and 70 MiB of newlines by another program's encoder (brotli 8.0.4, quality 9, window 22).
const BROTLI_LINES: &str = "1be1130084076dbcf333f2f4445fdbfbcdc939120209c111b0a213400268af6b1d3cb4122eee068fc3284b7afec6d778\
    c573fc0dfc8ed778ff7cff7e7e8cffc74c484a49cb94255b8edc66e94922914824128904252525252525252525251515\
    1515151515151515353535353535353535354d9a3469d2a44993264d9ab468d1a2458b162d5ab468d1a64d9b366ddab4\
    69d3a64d870e1d3a74e8d0a143870e5dba74e9d2a54b972e5dba27e1249c849370124ec249380927e126ac27dd96b1a3\
    d168341a6d1a8d46a3d168341a8d46a3d168341a8d46a3d168341a8d46a3d168341a8d46a3d168341a8d46a3d168341a\
    8d46a3d168341a8d46a3d168341a8d46a3d168341a8d46a3d1687c02";
const BROTLI_BOMB: &str = "cbffff3f002414e2b14072effff8ffff078004401c1680eefd1fffffff00900088c302d0bdffe3ffff1f001200715800\
    baf77ffcffff034002200e0b40f7fe8fffff7f004800c46101e8defff1ffff0f000980382c00ddfb3ffeffff01200110\
    8705a07bff97ffff5f002400e2b00074efbf00";

fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    let (first, second) = (lines()[..1_000].to_vec(), lines()[1_000..].to_vec());
    vec![
        ("identity", lines()),
        ("gzip", gzip(&lines())),
        ("gzip", [gzip(&first), gzip(&second)].concat()),
        ("deflate", zlib(&lines())),
        ("deflate", raw_deflate(&lines())),
        ("zstd", zstd(&lines())),
        ("zstd", [zstd(&first), zstd(&second)].concat()),
        ("br", unhex(BROTLI_LINES)),
    ]
}

/// Sends a chunked body in pieces, each flushed on its own.
async fn post_chunked(client: &mut Client, encoding: &str, pieces: &[&[u8]]) -> u16 {
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nhost: a\r\n{NDJSON}content-encoding: {encoding}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        client.send(piece).await;
        client.send(b"\r\n").await;
    }
    client.send(b"0\r\n\r\n").await;
    client.answer().await.status
}

#[tokio::test]
async fn every_encoding_is_read_whatever_the_chunks() {
    let seed = u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut expected = 0;
    for (encoding, body) in encoded() {
        for _ in 0..5 {
            let (a, b) = (
                random.random_range(0..=body.len()),
                random.random_range(0..=body.len()),
            );
            let (a, b) = (a.min(b), a.max(b));
            let pieces = [&body[..a], &body[a..b], &body[b..]];
            assert_eq!(
                post_chunked(&mut client, encoding, &pieces).await,
                200,
                "{encoding} at {a}, {b}"
            );
            expected += LINES;
            assert_eq!(server.journal.rows("numbers"), expected, "{encoding} at {a}, {b}");
        }
        let bytewise: Vec<&[u8]> = body
            .chunks(1)
            .take(600)
            .chain([&body[body.len().min(600)..]])
            .collect();
        assert_eq!(
            post_chunked(&mut client, encoding, &bytewise).await,
            200,
            "{encoding} by bytes"
        );
        expected += LINES;
    }
    assert_eq!(server.journal.rows("numbers"), expected);
}

#[tokio::test]
async fn a_compressed_body_that_is_cut_damaged_or_followed_by_more_is_400() {
    let server = Server::start().await;
    for (encoding, body) in encoded().into_iter().skip(1) {
        let headers = format!("{NDJSON}content-encoding: {encoding}\r\n");
        let cut = &body[..body.len() - 1];
        let followed = [&body[..], b"more"].concat();
        let plain = lines();
        for (what, bytes) in [
            ("cut", cut),
            ("followed", &followed),
            ("plain", &plain),
            ("nothing", b""),
        ] {
            let answer = server.post(EVENTS, &headers, bytes).await;
            assert_eq!(answer.status, 400, "{encoding} {what}: {answer:?}");
        }
    }
    let mut wrong_checksum = gzip(&lines());
    let at = wrong_checksum.len() - 8;
    wrong_checksum[at] ^= 1;
    let headers = format!("{NDJSON}content-encoding: gzip\r\n");
    assert_eq!(server.post(EVENTS, &headers, &wrong_checksum).await.status, 400);
    assert!(server.journal.groups().is_empty());
}

#[tokio::test]
async fn a_bomb_is_413_in_every_encoding() {
    let server = Server::start().await;
    let bomb = vec![b'\n'; 70 << 20];
    for (encoding, body) in [
        ("gzip", gzip(&bomb)),
        ("deflate", zlib(&bomb)),
        ("zstd", zstd(&bomb)),
        ("br", unhex(BROTLI_BOMB)),
    ] {
        assert!(body.len() < 1 << 20, "{encoding} is small as sent");
        let answer = server
            .post(
                EVENTS,
                &format!("{NDJSON}content-encoding: {encoding}\r\n"),
                &body,
            )
            .await;
        assert_eq!(answer.status, 413, "{encoding}: {answer:?}");
    }
    assert_eq!(server.ingest.in_flight_bytes(), 0);
}

#[tokio::test]
async fn a_zstd_window_beyond_8_mib_is_refused() {
    let server = Server::start().await;
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&lines()).unwrap();
    let body = encoder.finish().unwrap();
    let answer = server
        .post(EVENTS, &format!("{NDJSON}content-encoding: zstd\r\n"), &body)
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_gibibyte_is_refused_by_its_length_or_cut_off_at_the_limit() {
    let server = Server::start().await;
    let mut claimed = server.connect().await;
    claimed.send(head(EVENTS, NDJSON, 1 << 30).as_bytes()).await;
    assert_eq!(claimed.answer().await.status, 413);

    let mut chunked = server.connect().await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: a\r\n{NDJSON}transfer-encoding: chunked\r\n\r\n");
    chunked.send(head.as_bytes()).await;
    let chunk = [b"100000\r\n".as_slice(), &vec![b'\n'; 1 << 20], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 1 << 30 && chunked.try_send(&chunk).await.is_ok() {
        sent += 1 << 20;
    }
    // The limit, what lingering discards, and the buffers of the sockets.
    assert!(sent < 160 << 20, "{sent} bytes were taken");
    assert!(server.journal.groups().is_empty());
}

#[tokio::test]
async fn the_limit_counts_real_bytes_and_is_exact() {
    let options = IngestOptions {
        body_bytes_max: 100,
        body_compressed_bytes_max: 100,
        ..IngestOptions::default()
    };
    let server = Server::with(options, HttpOptions::default()).await;
    let body = |bytes: usize| [b"{\"n\":1}".to_vec(), vec![b'\n'; bytes - 7]].concat();
    let mut client = server.connect().await;
    assert_eq!(post_chunked(&mut client, "identity", &[&body(100)]).await, 200);
    assert_eq!(post_chunked(&mut client, "gzip", &[&gzip(&body(100))]).await, 200);
    assert_eq!(post_chunked(&mut client, "gzip", &[&gzip(&body(101))]).await, 413);
    let mut client = server.connect().await;
    assert_eq!(
        post_chunked(&mut client, "identity", &[&body(50), &body(51)]).await,
        413
    );
    assert_eq!(server.post(EVENTS, NDJSON, &body(101)).await.status, 413);
}

#[tokio::test]
async fn a_client_that_goes_away_in_its_body_stores_nothing() {
    let server = Server::start().await;
    let mut sized = server.connect().await;
    sized.send(head(EVENTS, NDJSON, 1_000).as_bytes()).await;
    sized.send(b"{\"n\":1}\n").await;
    drop(sized);
    let mut chunked = server.connect().await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: a\r\n{NDJSON}transfer-encoding: chunked\r\n\r\n");
    chunked.send(head.as_bytes()).await;
    chunked.send(b"8\r\n{\"n\":1}\n\r\n").await;
    drop(chunked);
    assert_eq!(server.post_lines("{\"n\":3}").await.status, 200);
    let journal = std::sync::Arc::clone(&server.journal);
    server.stop().await;
    assert_eq!(journal.rows("numbers"), 1);
}

#[tokio::test]
async fn columns_that_outgrow_their_lines_are_413() {
    let options = IngestOptions {
        body_bytes_max: 1 << 20,
        ..IngestOptions::default()
    };
    let server = Server::with(options, HttpOptions::default()).await;
    let wide = "/v1/streams/wide/events";
    let answer = server.post(wide, NDJSON, "{}\n".repeat(300_000).as_bytes()).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(
        server
            .post(wide, NDJSON, "{}\n".repeat(1_000).as_bytes())
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_deep_document_is_refused_without_growth() {
    let server = Server::start().await;
    let deep = "[".repeat(4 << 20);
    let answer = server.post(EVENTS, NDJSON, deep.as_bytes()).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["rejections"][0]["code"], "too_large");
    let answer = server.post(EVENTS, NDJSON, "[".repeat(1 << 19).as_bytes()).await;
    assert_eq!(
        (answer.status, &answer.json()["rejections"][0]["code"]),
        (422, &"invalid_json".into())
    );
    let answer = server
        .post(EVENTS, "content-type: application/json\r\n", deep.as_bytes())
        .await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

/// Prints what one connection takes in, with a journal that costs only the encoding of records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_one_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body: Vec<u8> = (0..50_000)
        .flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes())
        .collect();
    let began = std::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(client.post(EVENTS, NDJSON, &body).await.status, 200);
    }
    let megabytes = (200 * body.len()) as f64 / 1e6;
    println!(
        "{:.0} MB/s in bodies of {} bytes",
        megabytes / began.elapsed().as_secs_f64(),
        body.len()
    );
    let began = std::time::Instant::now();
    for _ in 0..20_000 {
        assert_eq!(client.post(EVENTS, NDJSON, b"{\"n\":1}").await.status, 200);
    }
    println!("{:.0} single events/s", 20_000.0 / began.elapsed().as_secs_f64());
}
