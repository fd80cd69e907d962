//! The Python that reads our tables as a stranger would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has the `deltalake` package, in a virtual environment beside the build output, which is made
/// when it is not there.
pub(crate) fn with_deltalake() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_tidemill"))
        .ancestors()
        .nth(2)
        .expect("the target directory");
    let environment = target.join("python");
    let python = environment.join("bin/python");
    if !works(&python) {
        println!("installing deltalake into `{}`", environment.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let packages = ["deltalake==1.6.6", "pyarrow"];
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(packages));
    }
    python
}

fn works(python: &Path) -> bool {
    let import = Command::new(python)
        .args(["-c", "import deltalake, pyarrow"])
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) {
    let status = command.status().expect("the command starts");
    assert!(status.success(), "{command:?} ended with {status}");
}
