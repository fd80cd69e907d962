//! What the servers are made of: packages by name, Kafka's jars by Maven, the S3 gateway by Go.
//!
//! Packages go where the system has them; the rest goes to a cache outside of the checkout, shared by all
//! checkouts, and is fetched once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::home::make_directory;
use super::postgres;
use super::process::{is_root, output};

const KAFKA_VERSION: &str = "4.1.0";
const GATEWAY_VERSION: &str = "v1.8.0";

/// Programs of the path and the packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("epmd", "rabbitmq-server"),
    ("java", "default-jre-headless"),
    ("kcat", "kcat"),
    ("mariadb", "mariadb-client"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadbd", "mariadb-server"),
    ("psql", "postgresql"),
    ("redis-server", "redis-server"),
    ("valgrind", "valgrind"),
];

/// Not on the path of everybody, and needed by nobody but us.
const FURTHER_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"];

/// Says to packages that they shall not start their server. A machine that has such a file decides for itself.
const START_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Where downloads and what is built from them are kept.
pub(crate) fn cache() -> Result<PathBuf, String> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = named("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| named("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(folder
        .ok_or("neither `XDG_CACHE_HOME` nor `HOME` is set")?
        .join("tidemill"))
}

/// A program by name, wherever it lies.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FURTHER_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("no program `{name}` on the path"))
}

/// The directory of Kafka's jars.
pub(super) fn kafka_libraries() -> Result<PathBuf, String> {
    let libraries = kafka_folder()?.join("libs");
    if libraries.join(".complete").exists() {
        return Ok(libraries);
    }
    Err(format!("Kafka is not in `{}`", libraries.display()))
}

/// The program of the S3 server.
pub(super) fn versity_gateway() -> Result<PathBuf, String> {
    let program = cache()?.join("bin/versitygw");
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("no `{}`", program.display()))
}

fn kafka_folder() -> Result<PathBuf, String> {
    Ok(cache()?.join("kafka").join(KAFKA_VERSION))
}

/// Installs the packages of those programs (a program and its package each) that are missing.
pub(crate) fn programs(wanted: &[(&str, &'static str)]) -> Result<(), String> {
    let missing = wanted.iter().filter(|(name, _)| program(name).is_err());
    let missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _one_after_the_other = lock(&cache()?)?;
    packages(&missing)
}

/// Two commands at once install one after the other.
fn lock(cache: &Path) -> Result<fs::File, String> {
    make_directory(cache, 0o755)?;
    let path = cache.join("install.lock");
    let file = fs::File::create(&path).map_err(|error| format!("open `{}`: {error}", path.display()))?;
    file.lock()
        .map_err(|error| format!("lock the cache of programs: {error}"))?;
    Ok(file)
}

/// Installs what is missing and says so.
pub(super) fn everything() -> Result<(), String> {
    let cache = cache()?;
    let _one_after_the_other = lock(&cache)?;
    packages(&missing_packages())?;
    if kafka_libraries().is_err() {
        timed("Kafka's jars, by Maven", fetch_kafka)?;
    }
    if versity_gateway().is_err() {
        timed("the S3 gateway, by Go", || build_gateway(&cache))?;
    }
    Ok(())
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(name, _)| program(name).is_err())
        .map(|(_, package)| *package)
        .collect();
    if postgres::program("initdb").is_err() {
        missing.push("postgresql");
    }
    if kafka_libraries().is_err() && program("mvn").is_err() {
        missing.push("maven");
    }
    if versity_gateway().is_err() && program("go").is_err() {
        missing.push("golang-go");
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn packages(names: &[&str]) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    if program("apt-get").is_err() {
        return Err(format!(
            "install {}: there is no `apt-get` here",
            names.join(", ")
        ));
    }
    let policy = Policy::deny_starts()?;
    let installed = timed(&format!("packages {}", names.join(", ")), || {
        // An old list of packages often does as well.
        let _ = apt(&["update"]);
        apt(&["install", "--yes", "--no-install-recommends"]
            .iter()
            .chain(names)
            .copied()
            .collect::<Vec<_>>())
    });
    drop(policy);
    installed
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut command = if is_root()? {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    command
        .arg("--quiet=2")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    output(&mut command).map(|_| ())
}

/// Keeps packages from starting their servers, which nobody asked for, as long as it lives.
struct Policy {
    written: bool,
}

impl Policy {
    fn deny_starts() -> Result<Self, String> {
        let written = is_root()? && !Path::new(START_POLICY).exists();
        if written {
            let allow_nothing = "#!/bin/sh\nexit 101\n";
            fs::write(START_POLICY, allow_nothing)
                .and_then(|()| {
                    use std::os::unix::fs::PermissionsExt;
                    fs::set_permissions(START_POLICY, fs::Permissions::from_mode(0o755))
                })
                .map_err(|error| format!("write `{START_POLICY}`: {error}"))?;
        }
        Ok(Self { written })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.written {
            let _ = fs::remove_file(START_POLICY);
        }
    }
}

fn fetch_kafka() -> Result<(), String> {
    let folder = kafka_folder()?;
    let libraries = folder.join("libs");
    make_directory(&folder, 0o755)?;
    let project = folder.join("pom.xml");
    let wanted = format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidemill</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"#
    );
    fs::write(&project, wanted).map_err(|error| format!("write `{}`: {error}", project.display()))?;
    output(
        Command::new(program("mvn")?)
            .args(["--quiet", "--batch-mode", "--file"])
            .arg(&project)
            .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", libraries.display())),
    )?;
    let complete = libraries.join(".complete");
    fs::write(&complete, "").map_err(|error| format!("write `{}`: {error}", complete.display()))
}

fn build_gateway(cache: &Path) -> Result<(), String> {
    let module = format!("github.com/versity/versitygw/cmd/versitygw@{GATEWAY_VERSION}");
    output(
        Command::new(program("go")?)
            .args(["install", &module])
            .env("GOBIN", cache.join("bin"))
            // Away from any module that this directory might be in.
            .current_dir(cache)
            .stdin(Stdio::null()),
    )
    .map(|_| ())
    .map_err(|error| format!("{error} (it needs the Go that its go.mod names, or one from 1.21 on)"))
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    eprintln!("  installs {what}");
    let begun = Instant::now();
    let done = work().map_err(|error| format!("install {what}: {error}"))?;
    eprintln!("    took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(done)
}
