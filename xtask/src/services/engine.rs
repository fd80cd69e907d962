//! The servers in containers, by Docker Compose, where an engine answers.
//!
//! Ports, passwords and variables are the same as of local processes; only the way to start differs. The file is
//! written into `target/services/`, which is also how the other commands know that containers are in use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::home::{Home, write_private};
use super::local::{Row, SERVERS};
use super::process::output;
use super::variables::Variables;

/// The file for Compose; what is in `<…>` is a value of that server's home.
const COMPOSE: &str = include_str!("compose.yaml");

/// Whether there is an engine, and Compose to talk to it.
pub(super) fn works() -> bool {
    let answers = |arguments: &[&str]| {
        let status = Command::new("docker")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    answers(&["info"]) && answers(&["compose", "version"])
}

/// Whether `up` used it.
pub(super) fn is_in_use(services: &Path) -> bool {
    file(services).exists()
}

fn file(services: &Path) -> PathBuf {
    services.join("compose.yaml")
}

/// Compose with our file; the project is named after the checkout, so that two checkouts do not meet.
fn compose(services: &Path) -> Command {
    let mut command = Command::new("docker");
    command
        .args(["compose", "--project-name", &project(services), "--file"])
        .arg(file(services));
    command
}

fn project(services: &Path) -> String {
    // FNV-1a; it only has to differ from checkout to checkout, and be the same tomorrow.
    let hash = services
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("tidemill-services-{hash:016x}")
}

/// Starts what is not up, and waits until each says that it is healthy.
pub(super) fn up(services: &Path) -> Result<Variables, String> {
    let was_used = is_in_use(services);
    let mut homes = Vec::new();
    let mut held = Vec::new();
    for server in SERVERS {
        let mut home = Home::open(services.join(server.name()))?;
        home.choose_secrets(server.secrets())?;
        if !was_used {
            held.extend(home.choose_ports(server.ports())?);
        }
        homes.push(home);
    }
    drop(held);
    let text = SERVERS
        .iter()
        .zip(&homes)
        .fold(COMPOSE.to_owned(), |text, (server, home)| {
            let words = server.ports().iter().chain(server.secrets());
            words.fold(text, |text, word| {
                text.replace(&format!("<{}.{word}>", server.name()), home.value(word))
            })
        });
    write_private(&file(services), &text)?;
    output(compose(services).args(["up", "--detach", "--wait", "--wait-timeout", "180"]))?;
    let mut variables = Variables::new();
    for (server, home) in SERVERS.iter().zip(&homes) {
        server.settle_container(home)?;
        let named = server.variables(home);
        variables.extend(named.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(variables)
}

/// Stops them and removes their volumes.
pub(super) fn down(services: &Path) -> Result<(), String> {
    output(compose(services).args(["down", "--volumes", "--timeout", "15"])).map(|_| ())
}

/// How each container is.
pub(super) fn status(services: &Path) -> Result<Vec<Row>, String> {
    let running =
        output(compose(services).args(["ps", "--services", "--status", "running"])).unwrap_or_default();
    SERVERS
        .iter()
        .map(|server| {
            let home = Home::open(services.join(server.name()))?;
            let up = running.lines().any(|line| line.trim() == server.name());
            Ok(Row {
                server: server.name(),
                address: home.address("port"),
                process: None,
                state: if up { "up" } else { "down" },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_each_server_and_asks_for_values_that_there_are() {
        let known: Vec<String> = SERVERS
            .iter()
            .flat_map(|server| {
                let words = server.ports().iter().chain(server.secrets());
                words.map(|word| format!("<{}.{word}>", server.name()))
            })
            .collect();
        for server in SERVERS {
            let heading = format!("\n  {}:\n", server.name());
            assert!(COMPOSE.contains(&heading), "no {}", server.name());
        }
        let left = known
            .iter()
            .fold(COMPOSE.to_owned(), |text, word| text.replace(word, ""));
        assert!(!left.contains('<'), "{left}");
    }

    #[test]
    fn checkouts_get_projects_of_their_own() {
        let one = project(Path::new("/a/target/services"));
        assert_eq!(one, project(Path::new("/a/target/services")));
        assert_ne!(one, project(Path::new("/b/target/services")));
    }
}
