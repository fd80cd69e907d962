//! Developer commands: `cargo xtask test | fmt | lint | soak | bench | coverage`.
//!
//! One command equals CI: `.ci/run` calls `cargo xtask test` and nothing else. Every step prints the command
//! that it runs, so that a red one can be repeated by hand, and the first red step ends the run. Everything is
//! built in one profile (`--release`) and with one selection of targets, because each other combination
//! compiles DataFusion once more.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test      everything that CI checks: formatting, lints, all tests
  fmt       formats all code
  lint      clippy without warnings, on all targets
  soak      the fault tests with full counts (hours: TIDEMILL_SOAK=1)
  bench     criterion and the end-to-end scenarios, writes a line to benches/history.jsonl
  coverage  line coverage of the tests as HTML (needs `cargo install cargo-llvm-cov`)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "test" => test(&rest),
        "fmt" => cargo(&["fmt", "--all"], &[]),
        "lint" => lint(),
        "soak" => soak(&rest),
        "bench" => bench(&rest),
        "coverage" => coverage(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask: {failed}");
            ExitCode::FAILURE
        }
    }
}

/// What CI checks. Cheap checks come first, so that a forgotten `fmt` is known after a second.
fn test(rest: &[String]) -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    run_tests(rest, &[])?;
    lint()
}

fn lint() -> Result<(), String> {
    cargo(
        &[
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
        &[],
    )
}

fn soak(rest: &[String]) -> Result<(), String> {
    run_tests(rest, &[("TIDEMILL_SOAK", "1")])
}

/// All targets but the benches, which are measured and not tested; `--workspace` in every step keeps the
/// features of all dependencies the same.
fn run_tests(rest: &[String], environment: &[(&str, &str)]) -> Result<(), String> {
    let mut arguments = vec!["test", "--release", "--workspace"];
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments, environment)
}

/// Criterion first, whose figures the scenarios write down with their own. `--quick` shortens both; everything
/// else that is said goes to the scenarios.
fn bench(rest: &[String]) -> Result<(), String> {
    let quick = rest.iter().any(|argument| argument == "--quick");
    let mut arguments = vec!["bench", "--profile", "release", "--workspace", "--bench", "*"];
    if quick {
        arguments.extend(["--", "--quick"]);
    }
    cargo(&arguments, &[])?;
    // An example among the targets keeps the features of all dependencies as they are for tests.
    cargo(
        &["build", "--release", "--workspace", "--bins", "--examples"],
        &[],
    )?;
    let scenarios = build_directory()?.join("release/scenarios");
    let shown = format!("{} {}", scenarios.display(), rest.join(" "));
    run(Command::new(scenarios).args(rest), shown.trim_end())
}

/// Where cargo builds, which a file or the environment may have changed.
fn build_directory() -> Result<PathBuf, String> {
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

fn coverage() -> Result<(), String> {
    cargo(&["llvm-cov", "--release", "--workspace", "--html"], &[])
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let shown = environment
        .iter()
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
        .env_remove("CARGO_MANIFEST_PATH");
    run(command.args(arguments).envs(environment.iter().copied()), &shown)
}

fn run(command: &mut Command, shown: &str) -> Result<(), String> {
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
