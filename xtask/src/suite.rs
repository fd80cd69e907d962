//! `cargo xtask test` and `soak`: everything that is checked, with real servers where they can be had.
//!
//! A test that needs a server reads the variable that says where it is. Without it the test prints `SKIPPED: …`
//! and passes, on a machine where somebody works on something else; here those lines are gathered and shown at the
//! end. In CI (`CI` is set) nothing may be skipped: servers that do not start are an error, and
//! `TIDEMILL_SERVICES_REQUIRED` makes each test that misses one fail.

use crate::cargo::{cargo, cargo_read};
use crate::checks;
use crate::services::{self, Guard, Means, Variables};
use crate::tracker;

/// How a test begins the line in which it says what it misses.
const SKIPPED: &str = "SKIPPED: ";

/// What CI checks. Cheap checks come first, so that a forgotten `fmt` is known after a second.
pub(crate) fn test(rest: &[String]) -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    checks::deployment()?;
    checks::deny()?;
    tracker::check()?;
    let mut skipped = Vec::new();
    let done = run_tests(rest, &[], &mut skipped)
        // Who selects tests gets those, and perhaps no binary.
        .and_then(|()| match rest {
            [] => tracker::browser(),
            _ => Ok(()),
        })
        .and_then(|()| lint());
    lament(&skipped);
    done
}

/// Clippy on everything.
pub(crate) fn lint() -> Result<(), String> {
    let arguments = "clippy --release --workspace --all-targets -- --deny warnings";
    cargo(&arguments.split(' ').collect::<Vec<_>>(), &[])
}

/// The tests with full counts.
pub(crate) fn soak(rest: &[String]) -> Result<(), String> {
    let mut skipped = Vec::new();
    let full = ("TIDEMILL_SOAK".to_owned(), "1".to_owned());
    let done = run_tests(rest, &[full], &mut skipped);
    lament(&skipped);
    done
}

/// All targets but the benches, which are measured and not tested; `--workspace` in every step keeps the
/// features of all dependencies the same.
fn run_tests(
    rest: &[String],
    environment: &[(String, String)],
    skipped: &mut Vec<String>,
) -> Result<(), String> {
    let servers = Servers::have()?;
    let mut arguments = vec!["test", "--release", "--workspace"];
    arguments.extend(rest.iter().map(String::as_str));
    let mut environment = [environment, &servers.variables].concat();
    let Some(reason) = &servers.trouble else {
        environment.push(("TIDEMILL_SERVICES_REQUIRED".to_owned(), "1".to_owned()));
        return cargo(&arguments, &environment);
    };
    // What a test prints is shown only on demand when it passes.
    if !arguments.contains(&"--") {
        arguments.push("--");
    }
    arguments.push("--show-output");
    let mut gathered = Skipped::default();
    let done = cargo_read(&arguments, &environment, |line| gathered.read(line));
    skipped.push(format!("not all services could be started: {reason}"));
    skipped.extend(gathered.found);
    done
}

/// The servers during the tests. Dropped, it stops those that it started.
struct Servers {
    variables: Variables,
    /// Why some are missing.
    trouble: Option<String>,
    _guard: Option<Guard>,
}

impl Servers {
    fn have() -> Result<Self, String> {
        if let Some(variables) = services::reached() {
            return Ok(Self {
                variables,
                trouble: None,
                _guard: None,
            });
        }
        eprintln!("\n$ cargo xtask services up");
        let missing = services::missing();
        let guard = match missing.is_empty() {
            true => None,
            false => Some(Guard::start(&missing)?),
        };
        // Fault tests start servers of their own, so the programs must be there where containers run too.
        let trouble = services::install()
            .and_then(|()| services::up(Means::of_this_machine()))
            .err();
        if let Some(error) = &trouble {
            if in_ci() {
                return Err(format!(
                    "in CI no test may be skipped, and the services do not start: {error}"
                ));
            }
            eprintln!("xtask: {error}\n\nThe tests that need services will be skipped.");
        }
        Ok(Self {
            variables: services::reached_in_part(),
            trouble,
            _guard: guard,
        })
    }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Gathers from the output of tests who said that it was skipped.
#[derive(Default)]
struct Skipped {
    test: String,
    found: Vec<String>,
}

impl Skipped {
    fn read(&mut self, line: &str) {
        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = heading {
            test.clone_into(&mut self.test);
        }
        if let Some((_, reason)) = line.split_once(SKIPPED) {
            self.found.push(format!("{}: {reason}", self.test));
        }
    }
}

/// Says at the very end, where it is read, what was not tested.
fn lament(skipped: &[String]) {
    let Some((reason, tests)) = skipped.split_first() else {
        return;
    };
    let rule = "=".repeat(78);
    eprintln!("\n{rule}\nSKIPPED: {} tests. {reason}\n", tests.len());
    for test in tests {
        eprintln!("  {test}");
    }
    eprintln!("{rule}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_named_with_what_they_miss() {
        let output = "\
running 2 tests
test writes_rows ... ok

successes:

---- writes_rows stdout ----
seed 7
SKIPPED: needs MYSQL_URL (cargo xtask services up)

---- reads stdout ----
SKIPPED: needs KAFKA_BROKERS (cargo xtask services up)
";
        let mut skipped = Skipped::default();
        output.lines().for_each(|line| skipped.read(line));
        assert_eq!(
            skipped.found,
            [
                "writes_rows: needs MYSQL_URL (cargo xtask services up)",
                "reads: needs KAFKA_BROKERS (cargo xtask services up)",
            ]
        );
    }
}
