//! What `/openapi.json` says is what the server does: schemathesis reads the document, makes requests of it, right and
//! wrong ones, and finds nothing.

mod harness;
#[path = "crash/python.rs"]
mod python;

use std::path::Path;
use std::process::Command;

use harness::{Program, running};

const SEED: &str = "20261121";

#[test]
fn schemathesis_finds_nothing() {
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let data = tempfile::tempdir().expect("a directory");
    let program = Program::start(data.path(), &[]);
    program.ndjson("running", &running(0, 500));
    finds_nothing(&program, if soak { "100" } else { "8" });
}

fn finds_nothing(program: &Program, examples: &str) {
    println!("seed {SEED}, {examples} examples");
    let python = python::with_schemathesis();
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/schemathesis.toml");
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(settings)
        .arg("run")
        .arg(format!("http://{}/openapi.json", program.address))
        .args(["--max-examples", examples, "--seed", SEED])
        .args(["--continue-on-failure", "--output-sanitize", "false"])
        .current_dir(python.parent().expect("a directory"))
        .output()
        .expect("schemathesis starts");
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{found}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
