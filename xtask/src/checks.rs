//! Checks by tools from elsewhere, which are installed when they are missing: what dependencies bring along, by
//! `cargo deny` and `deny.toml`; what Docker Compose would say, by its own schema.

use std::path::Path;
use std::process::Command;

use crate::cargo::{build_directory, root, run};
use crate::services::{cache, program};

/// What `cargo install` gets, and the only version that our `deny.toml` was written for.
const DENY_VERSION: &str = "0.20.2";

/// What `pip install` gets; it carries the schema of Compose files in it.
const SCHEMA_PACKAGE: &str = "check-jsonschema==0.39.0";

/// Files that Docker Compose reads. The second one has placeholders, all of them in places of text.
const COMPOSE_FILES: &[&str] = &["docker-compose.yml", "xtask/src/services/compose.yaml"];

/// Licences, bans and sources of all dependencies: what can be checked with what is on the disk.
pub(crate) fn deny() -> Result<(), String> {
    // Its warnings (a crate in two versions) are many and are looked at on purpose, not in passing.
    let arguments = "--locked --log-level error check licenses bans sources";
    cargo_deny(&arguments.split(' ').collect::<Vec<_>>())
}

/// Known holes in dependencies, by a database that is fetched from the network.
pub(crate) fn advisories() -> Result<(), String> {
    cargo_deny(&["--locked", "check", "advisories"])
}

fn cargo_deny(arguments: &[&str]) -> Result<(), String> {
    let folder = cache()?;
    let installed = folder.join("bin/cargo-deny");
    let deny = match program("cargo-deny") {
        Ok(deny) => deny,
        Err(_) if installed.is_file() => installed,
        Err(_) => {
            install_deny(&folder)?;
            installed
        }
    };
    let shown = format!("cargo deny {}", arguments.join(" "));
    // The first argument is what cargo puts there.
    run(
        Command::new(deny).arg("deny").args(arguments).current_dir(root()),
        &shown,
    )
}

/// Built quickly rather than to be quick: it runs for seconds.
fn install_deny(folder: &Path) -> Result<(), String> {
    let build = folder.join("build-cargo-deny");
    let arguments = [
        "install",
        "cargo-deny",
        "--version",
        DENY_VERSION,
        "--locked",
        "--quiet",
    ];
    let shown = format!("cargo {}", arguments.join(" "));
    run(
        Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--root")
            .arg(folder)
            .env("CARGO_TARGET_DIR", &build)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            // Away from our `.cargo/config.toml` and our workspace.
            .current_dir(folder),
        &shown,
    )?;
    std::fs::remove_dir_all(&build).map_err(|error| format!("remove `{}`: {error}", build.display()))
}

/// The Compose files against the schema.
pub(crate) fn compose() -> Result<(), String> {
    let environment = build_directory()?.join("python-schema");
    let checker = environment.join("bin/check-jsonschema");
    if !checker.is_file() {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&environment),
            &format!("python3 -m venv {}", environment.display()),
        )?;
        let arguments = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            SCHEMA_PACKAGE,
        ];
        run(
            Command::new(environment.join("bin/python")).args(arguments),
            &format!("pip install {SCHEMA_PACKAGE}"),
        )?;
    }
    let arguments = ["--builtin-schema", "vendor.compose-spec"];
    run(
        Command::new(checker)
            .args(arguments)
            .args(COMPOSE_FILES)
            .current_dir(root()),
        &format!(
            "check-jsonschema {} {}",
            arguments.join(" "),
            COMPOSE_FILES.join(" ")
        ),
    )
}
