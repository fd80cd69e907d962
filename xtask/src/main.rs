//! Developer commands: `cargo xtask test | fmt | lint | soak | bench | coverage`.
//!
//! One command equals CI: `.ci/run` calls `cargo xtask test` and nothing else. Every step prints the command
//! that it runs, so that a red one can be repeated by hand, and the first red step ends the run. Everything is
//! built in one profile (`--release`) and with one selection of targets, because each other combination
//! compiles DataFusion once more.

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

fn bench(rest: &[String]) -> Result<(), String> {
    let mut arguments = vec!["bench", "--profile", "release", "--workspace"];
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments, &[])
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
    eprintln!("\n$ {shown}");
    let begun = Instant::now();
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("start `{shown}`: {error}"))?;
    eprintln!("  took {:.0} s", begun.elapsed().as_secs_f64());
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` failed ({status})"))
    }
}
