//! HTTPS of the real program: who is believed, what is spoken inside, who is too slow, and new certificates under load.

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{PATIENCE, Program, running, tidemill, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and one below it that signs.
struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    below: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let params = |name: String| {
            let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(params(format!("{name} root")), key()).expect("signed");
        let below =
            CertifiedIssuer::signed_by(params(format!("{name} below")), key(), &root).expect("signed");
        Self { root, below }
    }

    /// A chain for this machine, and its key.
    fn pair(&self) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.below).expect("signed");
        (format!("{}{}", leaf.pem(), self.below.pem()), key.serialize_pem())
    }
}

/// A directory with a certificate and its key.
struct Given {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Given {
    fn new() -> Self {
        let given = Self {
            directory: tempfile::tempdir().expect("a directory"),
            authority: Authority::new("first"),
        };
        given.write(&given.authority.pair());
        std::fs::write(given.path("root.pem"), given.authority.root.pem()).expect("written");
        given
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, (certificate, key): &(String, String)) {
        std::fs::write(self.path("certificate.pem"), certificate).expect("written");
        std::fs::write(self.path("key.pem"), key).expect("written");
    }

    fn start(&self, more: &str) -> Program {
        let config = self.path("tls.toml");
        let text = format!(
            "{more}\n[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
            self.path("certificate.pem").display(),
            self.path("key.pem").display()
        );
        std::fs::write(&config, text).expect("written");
        Program::start(
            self.directory.path(),
            &["--config", config.to_str().expect("UTF-8")],
        )
    }

    fn client(&self) -> Arc<ClientConfig> {
        client(&[self.authority.root.pem()], &["http/1.1"], rustls::ALL_VERSIONS)
    }
}

fn client(
    roots: &[String],
    protocols: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM");
        store.add(root).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A connection whose handshake is done.
fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Secured> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// One request on an open connection, whose answer says its length; the status and the body.
fn exchange(stream: &mut Secured, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The sum of a metric's samples whose line has these words.
fn metric(program: &Program, config: &Arc<ClientConfig>, words: &[&str]) -> f64 {
    let mut stream = connect(program.address, config).expect("a handshake");
    let (_, text) = exchange(&mut stream, "GET", "/metrics", "").expect("an answer");
    let samples = text
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)) && !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn either_version_of_tls_and_either_version_of_http_is_spoken() {
    let given = Given::new();
    let program = given.start("");
    let root = given.authority.root.pem();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
            let config = client(std::slice::from_ref(&root), protocols, &[version]);
            let stream = connect(program.address, &config).expect("a handshake");
            assert_eq!(stream.conn.protocol_version(), Some(version.version));
            let chosen = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(chosen.as_deref(), protocols.first().map(|name| name.as_bytes()));
        }
    }
    let mut stream = connect(program.address, &given.client()).expect("a handshake");
    for number in 0..3 {
        let body = running(number, 1);
        let (status, said) =
            exchange(&mut stream, "POST", "/v1/streams/running/events", &body).expect("an answer");
        assert_eq!(status, 200, "{said}");
    }
    // What we do not speak is refused in the handshake, and an authority that is not ours by the client.
    let other = client(&[root], &["spdy/1"], rustls::ALL_VERSIONS);
    assert!(connect(program.address, &other).is_err());
    let stranger = client(
        &[Authority::new("stranger").root.pem()],
        &["http/1.1"],
        rustls::ALL_VERSIONS,
    );
    assert!(connect(program.address, &stranger).is_err());
}

#[test]
fn http2_carries_many_requests_over_one_tls_connection() {
    let given = Given::new();
    let program = given.start("");
    let config = client(&[given.authority.root.pem()], &["h2"], rustls::ALL_VERSIONS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let answered = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(program.address)
            .await
            .expect("connects");
        let connector = tokio_rustls::TlsConnector::from(config);
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, socket).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .expect("HTTP/2");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..50 {
            let mut sender = sender.clone();
            requests.spawn(async move {
                let body = http_body_util::Full::new(bytes::Bytes::from(running(number, 10)));
                let request = http::Request::post("https://localhost/v1/streams/running/events")
                    .header("content-type", "application/x-ndjson")
                    .body(body)
                    .expect("a request");
                sender
                    .send_request(request)
                    .await
                    .expect("an answer")
                    .status()
                    .as_u16()
            });
        }
        requests.join_all().await
    });
    assert_eq!(answered, [200; 50]);
}

#[test]
fn commands_speak_https_to_whom_they_believe() {
    let given = Given::new();
    let program = given.start("");
    let url = format!("https://localhost:{}", program.address.port());
    let (root, events) = (given.path("root.pem"), given.path("events.ndjson"));
    std::fs::write(&events, running(0, 500)).expect("written");
    let believed = ["--ca-file", root.to_str().expect("UTF-8")];
    let replay = [
        "replay",
        events.to_str().expect("UTF-8"),
        "--stream",
        "running",
        "--to",
        &url,
    ];
    let sent = tidemill(&replay).args(believed).output().expect("the binary");
    assert!(sent.status.success(), "{sent:?}");
    let sql = [
        "sql",
        "--url",
        &url,
        "--format",
        "csv",
        "SELECT count(*) AS n FROM running",
    ];
    let asked = tidemill(&sql).args(believed).output().expect("the binary");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "n\n500\n", "{asked:?}");
    let health = || tidemill(&["health", "--url", &url]);
    let ready = health().args(believed).output().expect("the binary");
    assert!(ready.status.success(), "{ready:?}");
    let nobody = health().output().expect("the binary");
    assert!(
        !nobody.status.success(),
        "an unknown authority is believed: {nobody:?}"
    );
    let stranger = given.path("stranger.pem");
    std::fs::write(&stranger, Authority::new("stranger").root.pem()).expect("written");
    let refused = tidemill(&sql)
        .args(["--ca-file", stranger.to_str().expect("UTF-8")])
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("TLS: invalid peer certificate"),
        "{said}"
    );
    let key = given.path("key.pem");
    let refused = tidemill(&sql)
        .args(["--ca-file", key.to_str().expect("UTF-8")])
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("it has no certificate"),
        "{said}"
    );
}

#[test]
fn who_speaks_plain_http_is_told_and_who_speaks_nothing_known_is_closed() {
    let given = Given::new();
    let program = given.start("");
    let answer = program.get("/livez");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("https://"))
    );
    for bytes in [
        &b"\x00\x01\x02"[..],
        b"\x16\x03\x01\xff\xff\xff\xff\xff\xff",
        b"ssh",
        b"\x80",
    ] {
        let mut stream = TcpStream::connect(program.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP"), "{ended:?} {rest:?}");
    }
    let config = given.client();
    until("all of them are counted", || {
        metric(&program, &config, &["tidemill_tls_handshake_errors_total"]) >= 5.0
    });
}

/// A client that connects and says nothing, or half of a handshake, loses its place after the time of a head.
#[test]
fn slow_handshakes_lose_their_place_in_time() {
    let given = Given::new();
    let program = given.start("[ingest]\nhead_timeout = \"300ms\"\nconnections = 16");
    let begun = Instant::now();
    let slow: Vec<_> = (0..16)
        .map(|number| {
            let mut stream = TcpStream::connect(program.address).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            if number % 2 == 0 {
                stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).expect("sent");
            }
            stream
        })
        .collect();
    // Every place is taken; this one waits for the first that is free again.
    let config = given.client();
    let mut stream = connect(program.address, &config).expect("a handshake");
    let (status, _) = exchange(&mut stream, "GET", "/livez", "").expect("an answer");
    assert_eq!(status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let words = ["tidemill_tls_handshake_errors_total", "timeout"];
    until("all of them are counted", || {
        metric(&program, &config, &words) >= 16.0
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_handshake() {
    let given = Given::new();
    let program = given.start("");
    let mut silent = TcpStream::connect(program.address).expect("connects");
    silent.write_all(&[0x16]).expect("sent");
    let mut idle = connect(program.address, &given.client()).expect("a handshake");
    exchange(&mut idle, "GET", "/livez", "").expect("an answer");
    let begun = Instant::now();
    assert!(program.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn certificates_change_under_load_and_a_broken_pair_changes_nothing() {
    let given = Given::new();
    let second = Authority::new("second");
    let program = given.start("");
    let roots = [given.authority.root.pem(), second.root.pem()];
    let config = client(&roots, &["http/1.1"], rustls::ALL_VERSIONS);
    let served = |config: &Arc<ClientConfig>| connect(program.address, config).is_ok();
    let only_second = client(&roots[1..], &["http/1.1"], rustls::ALL_VERSIONS);
    assert!(!served(&only_second));
    // A connection from before the change, which must live on.
    let mut kept = connect(program.address, &config).expect("a handshake");
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut stream = connect(program.address, &config).expect("a handshake at any moment");
                let body = running(answered.load(Ordering::Relaxed), 1);
                let (status, said) =
                    exchange(&mut stream, "POST", "/v1/streams/running/events", &body).expect("an answer");
                assert_eq!(status, 200, "{said}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let errors = || {
            metric(
                &program,
                &config,
                &["tidemill_access_reload_errors_total", "certificate"],
            )
        };
        // The certificate of one pair with the key of another.
        let (certificate, key) = second.pair();
        std::fs::write(given.path("certificate.pem"), &certificate).expect("written");
        until("the error is counted", || errors() > 0.0);
        assert!(served(&given.client()) && !served(&only_second));
        std::fs::write(given.path("key.pem"), &key).expect("written");
        until("the new certificate is served", || served(&only_second));
        assert!(!served(&given.client()));
        // And back, at once, by a signal.
        given.write(&given.authority.pair());
        program.signal("HUP");
        until("the old authority is served again", || served(&given.client()));
        stop.store(true, Ordering::Relaxed);
    });
    let (status, _) = exchange(&mut kept, "GET", "/livez", "").expect("the old connection lives");
    assert_eq!(status, 200);
    let rows = answered.load(Ordering::Relaxed);
    let sql = exchange(
        &mut kept,
        "GET",
        "/v1/sql?q=SELECT%20count(*)%20FROM%20running",
        "",
    )
    .expect("an answer");
    assert!(sql.1.contains(&format!("[[{rows}]]")), "{rows}: {}", sql.1);
}

#[test]
fn a_pair_that_cannot_be_used_refuses_the_start() {
    let given = Given::new();
    let (certificate, _) = Authority::new("other").pair();
    std::fs::write(given.path("certificate.pem"), certificate).expect("written");
    let config = given.path("tls.toml");
    let written = |name: &str| given.path(name).display().to_string();
    let text = format!(
        "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        written("certificate.pem"),
        written("key.pem")
    );
    std::fs::write(&config, text).expect("written");
    let key = std::fs::read_to_string(given.path("key.pem")).expect("read");
    for command in ["check", "serve"] {
        let output = start(&config, command, given.directory.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("cannot be used together"),
            "{said}"
        );
        let secret = key.lines().nth(1).expect("a line of the key");
        assert!(!said.contains(secret), "{said}");
    }
}

fn start(config: &Path, command: &str, directory: &Path) -> std::process::Output {
    tidemill(&[
        command,
        "--config",
        config.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
    ])
    .current_dir(directory)
    .output()
    .expect("the binary")
}
