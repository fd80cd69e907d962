//! A process that is started before the brokers: it says so, takes nothing, and is ready soon after they are.

use std::io::copy;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use crate::harness::{Answer, request, running, tidemill, until};
use crate::processes::Servers;

/// An address that nobody listens on now.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Passes connections on to a broker, which then says where it is itself.
fn pass_on(from: SocketAddr, to: &str) {
    let (listener, to) = (TcpListener::bind(from).expect("still free"), to.to_owned());
    thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(mut near), Ok(mut far)) = (near, TcpStream::connect(&to)) else {
                continue;
            };
            let (mut back, mut there) = (
                near.try_clone().expect("a copy"),
                far.try_clone().expect("a copy"),
            );
            thread::spawn(move || drop(copy(&mut near, &mut there)));
            thread::spawn(move || drop(copy(&mut far, &mut back)));
        }
    });
}

#[test]
fn a_process_that_is_there_before_the_brokers_says_so_and_begins_when_they_come() {
    let Some(servers) = Servers::find() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (address, broker) = (free(), free());
    let (listen, brokers) = (address.to_string(), broker.to_string());
    let prefix = format!("late{}.", std::process::id());
    let start = || {
        let directory = folder.path().to_str().expect("UTF-8");
        tidemill(&["serve", "--listen", &listen, "--data-dir", directory])
            .current_dir(folder.path())
            .env("TIDEMILL_JOURNAL_KIND", "kafka")
            .env("TIDEMILL_JOURNAL_KAFKA_BROKERS", &brokers)
            .env("TIDEMILL_JOURNAL_KAFKA_TOPIC_PREFIX", &prefix)
            .stdout(Stdio::null())
            .spawn()
            .expect("start the binary")
    };
    let ask = |method: &str, path: &str, body: &str| -> Option<Answer> {
        let headers = [("content-type", "application/x-ndjson")];
        request(address, method, path, &headers, body.as_bytes()).ok()
    };
    let status = |path: &str| ask("GET", path, "").map_or(0, |answer| answer.status);
    let post = || ask("POST", "/v1/streams/running/events", &running(0, 3));

    let mut child = start();
    until("it lives", || status("/livez") == 200);
    assert_eq!(status("/readyz"), 503);
    let answer = post().expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    // Who ends it while it waits is heard.
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    assert!(child.wait().expect("it ends").success());

    let mut child = start();
    until("it lives again", || status("/livez") == 200);
    pass_on(broker, &servers.kafka);
    until("it is ready", || status("/readyz") == 200);
    assert_eq!(post().map(|answer| answer.status), Some(200));
    child.kill().expect("killed");
    child.wait().expect("it ends");
}
