//! A page that is typed in as a stranger would: every command works and prints what the page shows.
//!
//! A `console` block has commands after `$ ` and what they print. `…` stands for any text in a line, a line of only
//! `…` for any lines. A command that ends with `&` is a server, and is awaited. All blocks run one after the other
//! in one empty directory; only the port is another one than on the page.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{request, until};

/// Types in a page. Its commands reach the server at `port`, and find the repository's folder `recipes`.
pub(crate) fn walk(page: &str, port: u16) {
    let address = format!("127.0.0.1:{port}");
    let steps = steps(page);
    assert!(steps.len() > 3, "the page has only {} commands", steps.len());
    let directory = tempfile::tempdir().expect("a directory");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = free.local_addr().expect("bound");
    drop(free);
    let place = Place {
        address: &address,
        listen,
        directory: directory.path(),
    };
    let mut servers = Vec::new();
    for step in &steps {
        if let Some(command) = step.command.strip_suffix(" &") {
            servers.push(place.serve(command));
            continue;
        }
        let output = place.shell(&step.command).output().expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout).replace(&listen.to_string(), &address);
        let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
        assert!(
            all_alike(&step.shown, &lines),
            "$ {}\nshown on the page:\n{}\nprinted ({}):\n{printed}{}",
            step.command,
            step.shown.join("\n"),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
    }
}

/// Where commands run.
struct Place<'a> {
    /// The address that is on the page.
    address: &'a str,
    listen: SocketAddr,
    directory: &'a Path,
}

impl Place<'_> {
    fn shell(&self, command: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_tidemill"));
        let folder = binary.parent().expect("the binary is in a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [folder].into_iter().chain(std::env::split_paths(&path));
        let recipes = concat!(" ", env!("CARGO_MANIFEST_DIR"), "/../recipes/");
        let command = command
            .replace(self.address, &self.listen.to_string())
            .replace(" recipes/", recipes);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &command])
            .current_dir(self.directory)
            .env(
                "PATH",
                std::env::join_paths(folders).expect("no colon in a folder's name"),
            )
            .env("TIDEMILL_LISTEN", self.listen.to_string());
        // Elsewhere the commands of the page must say where they go.
        if self.address.ends_with(":8080") {
            shell.env("TIDEMILL_URL", format!("http://{}", self.listen));
        }
        shell
    }

    fn serve(&self, command: &str) -> Background {
        let mut shell = self.shell(&format!("exec {command}"));
        let child = shell
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let server = Background(child);
        until(
            "the server is ready",
            || matches!(request(self.listen, "GET", "/readyz", &[], b""), Ok(answer) if answer.status == 200),
        );
        server
    }
}

/// One command of the page.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// A server of the tour; ends with it.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) if continued => {
                let step = steps.last_mut().expect("a continued line follows one");
                step.command = format!("{}\n{line}", step.command);
                continued = line.ends_with('\\');
            }
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => {
                    continued = command.ends_with('\\');
                    steps.push(Step {
                        command: command.to_owned(),
                        shown: Vec::new(),
                    });
                }
                None => steps
                    .last_mut()
                    .expect("a command comes first")
                    .shown
                    .push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// Whether a line is as shown, where `…` stands for any text.
fn alike(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn all_alike(shown: &[String], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == "…" => {
            (0..=printed.len()).any(|skipped| all_alike(rest, &printed[skipped..]))
        }
        ([first, shown @ ..], [line, printed @ ..]) => alike(first, line) && all_alike(shown, printed),
        _ => false,
    }
}

#[test]
fn shown_lines_match_what_is_printed_and_nothing_else() {
    assert!(alike("a…c", "abc") && alike("…", "") && alike("a…b…c", "a1b2c"));
    assert!(!alike("a…c", "ab") && !alike("abc", "abcd") && !alike("a…b…c", "acb"));
    let shown = ["a".to_owned(), "…".to_owned(), "z".to_owned()];
    assert!(all_alike(&shown, &["a", "z"]) && all_alike(&shown, &["a", "b", "c", "z"]));
    assert!(!all_alike(&shown, &["a", "b"]));
}
