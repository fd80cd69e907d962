//! What a request must bring, how one without it is turned away, and what is written down of it.

use super::*;

#[test]
fn a_token_counts_nowhere_but_in_its_header_and_only_one() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let token = given.token("all");
    let path = format!("/v1/streams?access_token={token}");
    assert_eq!(ask(&program, None, "GET", &path, "").status, 401);
    let with = |headers: &[(&str, &str)]| {
        request(program.address, "GET", "/v1/streams", headers, b"")
            .expect("an answer")
            .status
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(with(&[("authorization", &bearer)]), 200);
    assert_eq!(
        with(&[("authorization", &bearer.replace("Bearer", "bearer"))]),
        200
    );
    assert_eq!(
        with(&[("authorization", &bearer), ("authorization", &bearer)]),
        400
    );
    assert_eq!(with(&[("authorization", token)]), 401);
    assert_eq!(with(&[("authorization", &format!("Basic {token}"))]), 401);
    assert_eq!(with(&[("authorization", &bearer[..bearer.len() - 1])]), 401);
    assert_eq!(with(&[("cookie", &format!("token={token}"))]), 401);
    // A request cannot bring what the server says inside about what may be read.
    let some = format!("Bearer {}", given.token("read-open"));
    let headers = [
        ("authorization", some.as_str()),
        ("readable", "all"),
        ("x-readable", "secret_one"),
    ];
    let answer = request(program.address, "GET", "/v1/streams", &headers, b"").expect("an answer");
    assert!(!answer.text().contains("secret"), "{}", answer.text());
}

/// The head is refused before the body is sent, and nothing of the body is taken for another request.
#[test]
fn a_refusal_does_not_wait_for_the_body_and_ends_the_connection() {
    use std::io::{Read, Write};
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let mut stream = std::net::TcpStream::connect(program.address).expect("connects");
    stream
        .set_read_timeout(Some(harness::PATIENCE))
        .expect("a timeout");
    let head = "POST /v1/streams/open/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\n\
                content-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("ended by the server");
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(
        answer.contains("connection: close") && !answer.contains("100 continue"),
        "{answer}"
    );
}

#[test]
fn decisions_are_logged_by_the_tokens_name_and_never_by_its_text() {
    let given = Given::new(&WALKERS);
    let config = given.directory.path().join("access.toml");
    std::fs::write(&config, format!("tokens_file = \"{}\"\n", given.file().display())).expect("written");
    let log = given.directory.path().join("log");
    let directory = given.directory.path().to_str().expect("UTF-8");
    let addresses = given.directory.path().join("addresses");
    let mut child = tidemill(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        directory,
        "--log",
        "trace",
    ])
    .args(["--config", config.to_str().expect("UTF-8")])
    .args(["--address-file", addresses.to_str().expect("UTF-8")])
    .current_dir(directory)
    .stdout(Stdio::null())
    .stderr(std::fs::File::create(&log).expect("created"))
    .spawn()
    .expect("the binary");
    until("it listens", || addresses.exists());
    let address = std::fs::read_to_string(&addresses).expect("read");
    let address = address.trim().parse().expect("an address");
    for (name, path) in [
        ("read", "/v1/streams"),
        ("write-open", "/v1/sql?q=SELECT%201"),
        ("admin", "/metrics"),
    ] {
        let bearer = format!("Bearer {}", given.token(name));
        request(address, "GET", path, &[("authorization", &bearer)], b"").expect("an answer");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let text = std::fs::read_to_string(&log).expect("read");
    assert!(
        text.contains("insufficient_scope") && text.contains("write-open"),
        "{text}"
    );
    for (name, token) in &given.tokens {
        assert!(!text.contains(&token[9..]), "the log shows the token {name}");
    }
}
