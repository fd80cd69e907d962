//! What the program refuses or survives: a journal that is behind its lake, streams that were removed, settings that
//! cannot be read, peers that never finish, outputs that are full.

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use harness::{Program, request, running, tidemill, until};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// Its offsets would be given out twice, and the sink would take new events for old ones.
#[test]
fn a_journal_that_ends_before_what_the_lake_has_is_refused() {
    let data = directory();
    let (journal, older) = (data.path().join("journal"), data.path().join("older"));
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 20)).status, 200);
    assert!(program.stop().success());
    copy(&journal, &older);
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(20, 30)).status, 200);
    assert!(program.stop().success());
    std::fs::remove_dir_all(&journal).expect("removed");
    copy(&older, &journal);

    let directory = data.path().to_str().expect("UTF-8");
    let output = tidemill(&["serve", "--listen", "127.0.0.1:0", "--data-dir", directory])
        .current_dir(data.path())
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the lake has stream `running` up to") && said.contains("adopt"),
        "{said}"
    );

    // What the message says to do when the right one is gone.
    std::fs::remove_dir_all(&journal).expect("moved away");
    let adopted = tidemill(&["lake", "adopt", "--data-dir", directory])
        .current_dir(data.path())
        .output()
        .expect("the binary");
    assert!(adopted.status.success(), "{adopted:?}");
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(50, 40)).status, 200);
    assert_eq!(program.number("SELECT count(DISTINCT user_id) FROM running"), 90);
    assert_eq!(program.number("SELECT max(_index) FROM running"), 89);
    assert!(program.stop().success());
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.number("SELECT count(*) FROM running"), 90);
}

#[test]
fn a_stream_that_is_no_longer_declared_answers_questions_and_takes_nothing() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.ndjson("running", &running(0, 3)).status, 200);
    assert!(program.stop().success());
    let file = data.path().join("other.toml");
    std::fs::write(&file, "[streams.other.fields]\na = \"int\"\n").expect("written");
    let program = Program::start(data.path(), &["--config", file.to_str().expect("UTF-8")]);
    let answer = program.ndjson("running", &running(3, 1));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(program.number("SELECT count(*) FROM running"), 3);
    assert_eq!(program.ndjson("other", "{\"a\":1}").status, 200);
}

#[test]
fn a_variable_that_is_not_utf8_is_named() {
    let output = tidemill(&["check"])
        .current_dir(directory().path())
        .env("TIDEMILL_DATA_DIR", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("TIDEMILL_DATA_DIR") && said.contains("UTF-8"),
        "{said}"
    );
}

#[test]
fn every_answer_says_which_request_it_answers() {
    let data = directory();
    let program = Program::start(data.path(), &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for path in [
        "/livez",
        "/v1/streams",
        "/v1/sql?q=select%201",
        "/v1/streams/running/events/7",
        "/nowhere",
    ] {
        let headers = [("traceparent", trace), ("x-request-id", "order-66")];
        let answer = request(program.address, "GET", path, &headers, b"").expect("an answer");
        let said = format!("traceparent: {trace}");
        assert!(
            answer.head.contains(&said) && answer.head.contains("x-request-id: order-66"),
            "{path}: {}",
            answer.head
        );
    }
}

/// A client that stops in the middle of its body, and one that only connects.
#[test]
fn peers_that_never_finish_do_not_spoil_a_shutdown() {
    let data = directory();
    let file = data.path().join("short.toml");
    std::fs::write(&file, "shutdown_timeout = \"2s\"\n").expect("written");
    let program = Program::start(data.path(), &["--config", file.to_str().expect("UTF-8")]);
    assert_eq!(program.ndjson("running", &running(0, 5)).status, 200);
    let mut stalled = TcpStream::connect(program.address).expect("connects");
    let head = "POST /v1/streams/running/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\n\
                content-length: 1000\r\n\r\n{";
    stalled.write_all(head.as_bytes()).expect("sent");
    let _silent = TcpStream::connect(program.address).expect("connects");
    until("the request is in flight", || {
        program.metric("tidemill_ingest_in_flight_bytes") > 0.0
    });
    let status = program.stop();
    assert!(status.success(), "{status}");
    let mut rest = Vec::new();
    drop(stalled.read_to_end(&mut rest));
    assert!(
        !rest.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    let program = Program::start(data.path(), &[]);
    assert_eq!(program.number("SELECT count(*) FROM running"), 5);
}

#[test]
fn an_output_that_is_full_is_an_error_and_one_that_is_closed_is_none() {
    for arguments in [&["check"][..], &["version"]] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("there is one");
        let output = tidemill(arguments)
            .current_dir(directory().path())
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("the binary");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("write the output"), "{arguments:?}: {said}");
        let mut child = tidemill(arguments)
            .current_dir(directory().path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary");
        drop(child.stdout.take());
        let status = child.wait().expect("an end");
        assert!(status.success(), "{arguments:?}: {status}");
    }
}
