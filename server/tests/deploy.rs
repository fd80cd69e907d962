//! The configuration of `docker-compose.yml` is one that this program takes, role by role as Compose mounts it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a sink reads, for each database: its file, and the variable that says where the password lies.
const DESTINATIONS: &[(&str, &str)] = &[
    ("mysql.toml", "TIDEMILL_DESTINATIONS_WAREHOUSE_PASSWORD_FILE"),
    ("postgres.toml", "TIDEMILL_DESTINATIONS_POSTGRES_PASSWORD_FILE"),
];

#[test]
fn every_role_of_the_compose_file_has_a_configuration_that_is_taken() {
    let printed = check(&[deploy("tidemill.toml")], &[]);
    for line in ["kind = \"kafka\"", "url = \"/var/lib/tidemill/lake\""] {
        assert!(printed.contains(line), "no `{line}` in\n{printed}");
    }
    for (file, variable) in DESTINATIONS {
        // The secret is mounted in the container only; any file stands for it here.
        let password = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let printed = check(&[deploy("tidemill.toml"), deploy(file)], &[(variable, password)]);
        assert!(printed.contains("[destinations."), "{file}:\n{printed}");
    }
}

/// Runs `tidemill check`, which must find nothing wrong.
fn check(files: &[PathBuf], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("check");
    for file in files {
        command.arg("--config").arg(file);
    }
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"TIDEMILL_") {
            command.env_remove(name);
        }
    }
    let output = command
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{files:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}
