//! A Python with the packages that read Delta tables.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python that has the packages, in a virtual environment beside the build output, which is made when it is
/// not there. The crash test of the server uses the same one.
pub(crate) fn python() -> PathBuf {
    let binary = std::env::current_exe().expect("this test's own path");
    let target = binary.ancestors().nth(3).expect("the target directory");
    let environment = target.join("python");
    let python = environment.join("bin/python");
    let import = Command::new(&python)
        .args(["-c", "import deltalake, polars, pyarrow"])
        .stderr(Stdio::null())
        .status();
    if !import.is_ok_and(|status| status.success()) {
        println!("installing packages into `{}`", environment.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let packages = ["deltalake==1.6.6", "polars==2.1.0", "pyarrow"];
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(packages));
    }
    python
}

pub(crate) fn run(command: &mut Command) {
    let status = command.status().expect("the command starts");
    assert!(status.success(), "{command:?} ended with {status}");
}
