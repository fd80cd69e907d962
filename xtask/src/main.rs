//! Developer commands: `cargo xtask test | services | fmt | lint | deny | soak | bench | coverage` and some more.
//!
//! One command equals CI: `.ci/run` calls `cargo xtask test` and nothing else. Every step prints the command
//! that it runs, so that a red one can be repeated by hand, and the first red step ends the run. Everything is
//! built in one profile (`--release`) and with one selection of targets, because each other combination
//! compiles DataFusion once more.

mod bench;
mod cargo;
mod checks;
mod services;
mod suite;
mod tracker;

use std::process::ExitCode;

use cargo::cargo;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test        everything that CI checks: formatting, dependencies, all tests with real servers, lints
  services    up, down, status: the servers that tests use (Kafka, MariaDB, PostgreSQL, …)
  fmt         formats all code
  lint        clippy without warnings, on all targets
  deny        licences, bans and sources of all dependencies
  advisories  known holes in dependencies (fetches a database from the network)
  deployment  what starts and watches it elsewhere: Compose, Kubernetes, scripts, rules, boards
  tracker     the tracker in TypeScript: its tests, its build, and the real binary in a real browser
  demo        builds the page at /demo into server/src/serve/demo; with --check looks whether it is up to date
  soak        the fault tests with full counts (hours: TIDEMILL_SOAK=1)
  bench       criterion and the end-to-end scenarios: target/bench/report.html, a line in benches/history.jsonl;
              bench peers: the same work by others; bench growth: what more of something costs
  coverage    line coverage of the tests as HTML (needs `cargo install cargo-llvm-cov`)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "test" => suite::test(&rest),
        "services" => return services::main(&rest),
        "fmt" => cargo(&["fmt", "--all"], &[]),
        "lint" => suite::lint(),
        "deny" => checks::deny(),
        "advisories" => checks::advisories(),
        "deployment" => checks::deployment(),
        "tracker" => tracker::everything(),
        "demo" => tracker::demo(&rest),
        "soak" => suite::soak(&rest),
        "bench" => bench::bench(&rest),
        "coverage" => cargo(&["llvm-cov", "--release", "--workspace", "--html"], &[]),
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
