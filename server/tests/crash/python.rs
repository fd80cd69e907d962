//! Python as a stranger to this program would use it: to read our tables, or to ask our routes.

// Each test that includes this file needs one of the two.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has the `deltalake` package.
pub(crate) fn with_deltalake() -> PathBuf {
    with(
        "python",
        "import deltalake, pyarrow",
        &["deltalake==1.6.6", "pyarrow"],
    )
}

/// A Python that has the `schemathesis` package.
pub(crate) fn with_schemathesis() -> PathBuf {
    with(
        "python-schemathesis",
        "import schemathesis",
        &["schemathesis==4.32.5"],
    )
}

/// A virtual environment beside the build output, which is made when it is not there.
fn with(name: &str, import: &str, packages: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_tidemill"))
        .ancestors()
        .nth(2)
        .expect("the target directory");
    let environment = target.join(name);
    let python = environment.join("bin/python");
    if !works(&python, import) {
        println!("installing {packages:?} into `{}`", environment.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(packages));
    }
    python
}

fn works(python: &Path, import: &str) -> bool {
    let import = Command::new(python)
        .args(["-c", import])
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) {
    let status = command.status().expect("the command starts");
    assert!(status.success(), "{command:?} ended with {status}");
}
