//! The tracker for web pages, `tracker/`: its tests and its build by npm, the page at `/demo` that is built of it and is
//! part of the binary, and both together in a browser.
//!
//! What npm installs is what `package-lock.json` says, and no package's scripts are run. The page's files are committed,
//! so that whoever builds the server needs no npm; here they are built again and must be the same, byte by byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cargo::{build_directory, cargo, root, run};
use crate::services::{program, programs};

/// Programs and the packages that have them. Some packages of Node.js bring npm along.
const NODE: &[(&str, &str)] = &[("node", "nodejs"), ("npm", "npm")];
const BROWSER: &[(&str, &str)] = &[("chromium", "chromium")];

/// The oldest Node.js that everything in `package-lock.json` runs on.
const NODE_MIN: u32 = 18;

/// The parts of the page, and where they are kept.
const PARTS: &[&str] = &["index.html", "app.js", "app.css"];
const KEPT: &str = "server/src/serve/demo";

/// `cargo xtask tracker`: everything, with a binary that is built for it.
pub(crate) fn everything() -> Result<(), String> {
    check()?;
    // An example among the targets keeps the features of all dependencies as they are for tests.
    cargo(
        &["build", "--release", "--workspace", "--bins", "--examples"],
        &[],
    )?;
    browser()
}

/// Types, tests, the package's build, and whether the page is up to date.
pub(crate) fn check() -> Result<(), String> {
    install()?;
    npm(&["test"], &[])?;
    npm(&["run", "build"], &[])?;
    demo(&["--check".to_owned()])
}

/// `cargo xtask demo [--check]`.
pub(crate) fn demo(arguments: &[String]) -> Result<(), String> {
    let checks = match arguments {
        [] => false,
        [one] if one == "--check" => true,
        _ => return Err("usage: cargo xtask demo [--check]".to_owned()),
    };
    install()?;
    let built = build_directory()?.join("demo");
    let folder = built.to_str().ok_or("the build directory is not UTF-8")?;
    npm(
        &["run", "demo:build", "--", "--outDir", folder, "--emptyOutDir"],
        &[],
    )?;
    let kept = root().join(KEPT);
    if checks {
        return compare(&built, &kept);
    }
    for part in PARTS {
        fs::copy(built.join(part), kept.join(part)).map_err(|error| format!("copy `{part}`: {error}"))?;
    }
    Ok(())
}

/// The page and the tracker in a browser, against the binary that the tests have built.
pub(crate) fn browser() -> Result<(), String> {
    install()?;
    programs(BROWSER)?;
    let binary = build_directory()?.join("release/tidemill");
    let variables = [
        ("TIDEMILL_BINARY", binary.display().to_string()),
        ("CHROMIUM", program("chromium")?.display().to_string()),
    ];
    npm(&["run", "build"], &[])?;
    npm(&["run", "browser"], &variables)
}

/// Both folders have the same parts and nothing else.
fn compare(built: &Path, kept: &Path) -> Result<(), String> {
    let advice = "`cargo xtask demo` builds it anew";
    for folder in [built, kept] {
        let entries =
            fs::read_dir(folder).map_err(|error| format!("read `{}`: {error}", folder.display()))?;
        for name in entries.filter_map(Result::ok).map(|entry| entry.file_name()) {
            if !PARTS.iter().any(|part| name == *part) {
                let name = name.display();
                return Err(format!(
                    "`{name}` in `{}` is no part of the page",
                    folder.display()
                ));
            }
        }
    }
    for part in PARTS {
        let read = |folder: &Path| {
            let path = folder.join(part);
            fs::read(&path).map_err(|error| format!("read `{}`: {error}", path.display()))
        };
        if read(built)? != read(kept)? {
            return Err(format!(
                "`{KEPT}/{part}` is not what `tracker/demo` gives: {advice}"
            ));
        }
    }
    Ok(())
}

/// Installs what the lock file says, unless it is there.
fn install() -> Result<(), String> {
    programs(NODE)?;
    check_version()?;
    let folder = root().join("tracker");
    let read = |path: &Path| fs::read(path).map_err(|error| format!("read `{}`: {error}", path.display()));
    let locked = read(&folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == locked) {
        return Ok(());
    }
    npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"], &[])?;
    fs::write(&stamp, locked).map_err(|error| format!("write `{}`: {error}", stamp.display()))
}

fn check_version() -> Result<(), String> {
    let output = Command::new(program("node")?)
        .arg("--version")
        .output()
        .map_err(|error| format!("start `node --version`: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.trim().trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= NODE_MIN => Ok(()),
        _ => Err(format!(
            "Node.js {NODE_MIN} or newer is needed, `node --version` says `{}`",
            text.trim()
        )),
    }
}

fn npm(arguments: &[&str], environment: &[(&str, String)]) -> Result<(), String> {
    let variables = environment.iter().map(|(name, value)| format!("{name}={value} "));
    let shown = format!(
        "{}npm --prefix tracker {}",
        variables.collect::<String>(),
        arguments.join(" ")
    );
    let mut command = Command::new(program("npm")?);
    command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("npm_config_update_notifier", "false")
        .current_dir(root().join("tracker"));
    run(&mut command, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_changed_by_hand_or_not_built_again_is_found() {
        let folder = std::env::temp_dir().join(format!("tidemill-demo-{}", std::process::id()));
        let [built, kept] = ["built", "kept"].map(|name| folder.join(name));
        for folder in [&built, &kept] {
            fs::create_dir_all(folder).expect("a folder");
            for part in PARTS {
                fs::write(folder.join(part), part).expect("writes");
            }
        }
        assert_eq!(compare(&built, &kept), Ok(()));
        fs::write(kept.join("app.js"), "changed").expect("writes");
        let changed = compare(&built, &kept);
        fs::write(kept.join("app.js"), "app.js").expect("writes");
        fs::write(built.join("more.js"), "").expect("writes");
        let more = compare(&built, &kept);
        fs::remove_dir_all(&folder).expect("was made");
        assert!(changed.expect_err("differs").contains("app.js"));
        assert!(more.expect_err("differs").contains("more.js"));
    }
}
