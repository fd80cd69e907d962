//! Who may do what, asked of the real program: every token at every route about every stream, and what changes while
//! the server runs.

#[path = "access/door.rs"]
mod door;
mod harness;
#[path = "access/tokens.rs"]
mod tokens;
#[path = "access/walk.rs"]
mod walk;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{Answer, Program, request, running, tidemill, until};

/// A directory with a file of tokens, and the tokens' texts by name.
struct Given {
    directory: tempfile::TempDir,
    tokens: Vec<(&'static str, String)>,
}

impl Given {
    /// Makes tokens with the program's own command.
    fn new(wanted: &[(&'static str, &[&str])]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let given = directory.path().join("tokens.toml");
        let tokens = wanted
            .iter()
            .map(|(name, flags)| (*name, make(&given, name, flags)));
        let tokens = tokens.collect();
        Self { directory, tokens }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("tokens.toml")
    }

    fn token(&self, name: &str) -> &str {
        let found = self.tokens.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("no token {name}")).1
    }

    /// A server with these tokens.
    fn start(&self) -> Program {
        let config = self.directory.path().join("access.toml");
        std::fs::write(&config, format!("tokens_file = \"{}\"\n", self.file().display())).expect("written");
        Program::start(
            self.directory.path(),
            &["--config", config.to_str().expect("UTF-8")],
        )
    }
}

/// A new token, whose entry is appended to the file.
fn make(file: &Path, name: &str, flags: &[&str]) -> String {
    let mut arguments = vec!["token", "new", name, "--file", file.to_str().expect("UTF-8")];
    arguments.extend(flags);
    let output = tidemill(&arguments).output().expect("the binary");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.trim_end().to_owned()
}

fn ask(program: &Program, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        ("content-type", "application/x-ndjson"),
        ("accept", "application/json"),
    ];
    if path.starts_with("/v1/sql") {
        headers[0].1 = "text/plain";
    }
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    request(program.address, method, path, &headers, body.as_bytes()).expect("an answer")
}

/// The tokens of the walk, in the order of the columns of its table.
const WALKERS: [(&str, &[&str]); 7] = [
    ("all", &["--scope", "write,read,admin"]),
    ("write", &["--scope", "write"]),
    ("read", &["--scope", "read"]),
    ("admin", &["--scope", "admin"]),
    ("write-open", &["--scope", "write", "--streams", "open"]),
    ("read-open", &["--scope", "read", "--streams", "open"]),
    ("admin-open", &["--scope", "admin", "--streams", "open"]),
];

/// The streams that most of these tests are about: two that anybody may have heard of, and one whose name must not
/// come out.
const STREAMS: &str = "[streams.open.fields]\nn = \"int\"\n\
    [streams.secret_one]\nroutes = [\"/secret/route\"]\n[streams.secret_one.fields]\nn = \"int\"\n\
    [streams.other]\nroutes = [\"/other/route\"]\n[streams.other.fields]\nn = \"int\"\n";

/// A server with three streams of one event each.
fn three_streams(given: &Given) -> Program {
    let config = given.directory.path().join("access.toml");
    let text = format!("tokens_file = \"{}\"\n{STREAMS}", given.file().display());
    std::fs::write(&config, text).expect("written");
    let program = Program::start(
        given.directory.path(),
        &["--config", config.to_str().expect("UTF-8")],
    );
    for stream in ["open", "secret_one", "other"] {
        let path = format!("/v1/streams/{stream}/events");
        let answer = ask(
            &program,
            Some(given.token("all")),
            "POST",
            &path,
            "{\"n\":1}\n{\"n\":\"x\"}\n",
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    program
}
