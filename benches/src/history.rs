//! One line of JSON for each recorded run: what was measured, of which commit, on which machine. With the
//! medians that criterion left in the build directory, when it was run before.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Anything;

/// When, of which commit and on which machine something is measured. `load` is the load average before anything was
/// measured: figures beside others' work say little.
///
/// # Errors
/// When the commit or the machine cannot be found out.
pub fn head(load: f64) -> Result<Map<String, Value>, Anything> {
    let mut line = Map::new();
    for (key, value) in [
        ("date", json!(said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?)),
        ("commit", json!(git(&["rev-parse", "HEAD"])?)),
        (
            "changed",
            json!(!git(&["status", "--porcelain", "-uno"])?.is_empty()),
        ),
        ("machine", machine()?),
        ("load_average_before", json!(load)),
    ] {
        line.insert(key.to_owned(), value);
    }
    Ok(line)
}

/// Appends a line with the head of a run and what was `measured`, and gives the file.
///
/// # Errors
/// When the line cannot be written.
pub fn append(mut head: Map<String, Value>, measured: Map<String, Value>) -> Result<PathBuf, Anything> {
    head.extend(measured);
    let path = file();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(format!("{}\n", Value::Object(head)).as_bytes())?;
    Ok(path)
}

/// The recorded runs, oldest first.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn lines() -> Result<Vec<Value>, Anything> {
    let path = file();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let read: Result<Vec<_>, _> = lines.map(serde_json::from_str).collect();
    read.map_err(|error| format!("read `{}`: {error}", path.display()).into())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("history.jsonl")
}

fn git(arguments: &[&str]) -> Result<String, Anything> {
    said(
        "git",
        &[&["-C", env!("CARGO_MANIFEST_DIR")][..], arguments].concat(),
    )
}

fn said(program: &str, arguments: &[&str]) -> Result<String, Anything> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("start `{program}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{program} {}` failed", arguments.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn machine() -> Result<Value, Anything> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    Ok(json!({
        "cpu": model.map(|model| model.trim_start_matches([' ', '\t', ':'])),
        "cores": std::thread::available_parallelism()?.get(),
        "memory": total.map(str::trim),
        "kernel": said("uname", &["-r"])?,
    }))
}

/// Medians by the benches' names, of the last run of each.
///
/// # Errors
/// When one of them cannot be read.
pub fn criterion() -> Result<Map<String, Value>, Anything> {
    let here = std::env::current_exe()?;
    let target = here.parent().and_then(Path::parent).ok_or("no build directory")?;
    let mut medians = Map::new();
    for group in entries(&target.join("criterion")) {
        for bench in entries(&group) {
            let (Some(group), Some(name)) = (name(&group), name(&bench)) else {
                continue;
            };
            let Ok(text) = std::fs::read(bench.join("new/estimates.json")) else {
                continue;
            };
            let estimates: Value = serde_json::from_slice(&text)?;
            medians.insert(
                format!("{group}/{name}"),
                estimates["median"]["point_estimate"].clone(),
            );
        }
    }
    Ok(medians)
}

/// What is in a directory, in the order of the names; nothing when there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
