//! Runs commands so that whoever reads the output can repeat a red one by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The checkout that this command was called in, wherever it was built: several checkouts may share a build
/// directory, and then the program itself may be another one's.
pub(crate) fn root() -> PathBuf {
    let called = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let parent = |member: PathBuf| member.parent().map(Path::to_owned);
    called
        .and_then(parent)
        .filter(|root| root.join("xtask/Cargo.toml").exists())
        .or_else(|| parent(built))
        .unwrap_or_default()
}

/// Where cargo builds, which a file or the environment may have changed.
pub(crate) fn build_directory() -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|error| format!("start `cargo metadata`: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text
        .split_once("\"target_directory\":\"")
        .ok_or("`cargo metadata` names no target directory")?;
    let (directory, _) = rest.split_once('"').ok_or("`cargo metadata` is cut off")?;
    Ok(directory.into())
}

/// Runs cargo, with more variables.
pub(crate) fn cargo(arguments: &[&str], environment: &[(String, String)]) -> Result<(), String> {
    let (mut command, shown) = cargo_command(arguments, environment);
    run(&mut command, &shown)
}

/// Runs cargo and hands each line that it prints to a reader, after it was printed.
pub(crate) fn cargo_read(
    arguments: &[&str],
    environment: &[(String, String)],
    mut read: impl FnMut(&str),
) -> Result<(), String> {
    let (mut command, shown) = cargo_command(arguments, environment);
    eprintln!("\n$ {shown}");
    let failed = |error: std::io::Error| format!("run `{shown}`: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(stdout) = child.stdout.take() {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            let text = String::from_utf8_lossy(&line).into_owned();
            print!("{text}");
            read(text.trim_end());
            line.clear();
        }
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{shown}` failed ({status})")),
    }
}

fn cargo_command(arguments: &[&str], environment: &[(String, String)]) -> (Command, String) {
    // Values are left out where they may be passwords.
    let shown = environment
        .iter()
        .filter(|(name, _)| name.starts_with("TIDEMILL_"))
        .map(|(name, value)| format!("{name}={value} "))
        .chain([format!("cargo {}", arguments.join(" "))])
        .collect::<String>();
    let mut command = Command::new(env!("CARGO"));
    // `cargo run` tells this program about its own package. Build scripts that look at such variables (ring's
    // does) would run again, and everything above them, DataFusion too, would be compiled again, every time that
    // somebody types `cargo test` and `cargo xtask test` in turn.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    command
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_MANIFEST_PATH")
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    (command, shown)
}

/// Runs a command, and says which and how long.
pub(crate) fn run(command: &mut Command, shown: &str) -> Result<(), String> {
    eprintln!("\n$ {shown}");
    let begun = Instant::now();
    let status = command
        .status()
        .map_err(|error| format!("start `{shown}`: {error}"))?;
    eprintln!("  took {:.0} s", begun.elapsed().as_secs_f64());
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` failed ({status})"))
    }
}
