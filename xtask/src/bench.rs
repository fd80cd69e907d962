//! `cargo xtask bench`: builds what measures and runs it. The page is `target/bench/report.html`.
//!
//! ```text
//! bench [--quick] …      criterion, then the end-to-end scenarios; with a scenario of its own those alone
//! bench peers …          the same work by DuckDB, chdb, Kafka's own producer and kcat
//! bench growth …         what more events, streams, connections and larger batches cost
//! ```
//!
//! Servers are used when they are up; what needs one that is not is left out, and the output says so.

use std::process::Command;

use crate::cargo::{build_directory, cargo, run};
use crate::checks::python_with;
use crate::services;

/// The engines that are measured beside ours, as `pip install` gets them, and what DuckDB wants for times with a zone.
const ENGINES: &[&str] = &["duckdb==2.0.0", "chdb==4.4.0", "pytz"];

/// What says that something is to be measured that criterion has no part in.
const ALONE: &[&str] = &["--dataset", "--starter", "--only", "--render", "--no-criterion"];

/// Builds, and measures what is asked for.
pub(crate) fn bench(rest: &[String]) -> Result<(), String> {
    match rest.split_first() {
        Some((first, rest)) if first == "peers" => {
            let python = python_with("python-peers", ENGINES)?.join("python");
            let python = ["--python".to_owned(), python.display().to_string()];
            build()?;
            measure("peers", &[&python[..], rest].concat())
        }
        Some((first, rest)) if first == "growth" => {
            build()?;
            measure("growth", rest)
        }
        _ => scenarios(rest),
    }
}

/// Criterion first, whose figures the scenarios write down with their own. `--quick` shortens both; everything
/// else that is said goes to the scenarios.
fn scenarios(rest: &[String]) -> Result<(), String> {
    let alone = rest.iter().any(|argument| ALONE.contains(&argument.as_str()));
    if !alone {
        let mut arguments = vec!["bench", "--profile", "release", "--workspace", "--bench", "*"];
        if rest.iter().any(|argument| argument == "--quick") {
            arguments.extend(["--", "--quick"]);
        }
        cargo(&arguments, &[])?;
    }
    build()?;
    let rest = rest.iter().filter(|argument| *argument != "--no-criterion");
    measure("scenarios", &rest.cloned().collect::<Vec<_>>())
}

/// An example among the targets keeps the features of all dependencies as they are for tests.
fn build() -> Result<(), String> {
    cargo(
        &["build", "--release", "--workspace", "--bins", "--examples"],
        &[],
    )
}

fn measure(program: &str, arguments: &[String]) -> Result<(), String> {
    let program = build_directory()?.join("release").join(program);
    let shown = format!("{} {}", program.display(), arguments.join(" "));
    run(
        Command::new(program)
            .args(arguments)
            .envs(services::reached().unwrap_or_default()),
        shown.trim_end(),
    )
}
