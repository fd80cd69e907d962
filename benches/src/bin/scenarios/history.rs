//! One line of JSON for each recorded run: what was measured, of which commit, on which machine. With the
//! medians that criterion left in the build directory, when it was run before.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::Anything;
use serde_json::{Map, Value, json};

/// How many programs wanted a core in the last minute, before anything was measured: figures beside others'
/// work say little.
pub(super) fn load_average() -> Result<f64, Anything> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Appends the line and gives the file.
pub(super) fn append(seconds: u64, load: f64, scenarios: Map<String, Value>) -> Result<PathBuf, Anything> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let line = json!({
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
        "commit": said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"])?,
        "changed": !said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "status", "--porcelain", "-uno"])?.is_empty(),
        "machine": machine()?,
        "load_average_before": load,
        "seconds": seconds,
        "scenarios": scenarios,
        "criterion_median_ns": criterion()?,
    });
    let path = folder.join("history.jsonl");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(path)
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
fn criterion() -> Result<Map<String, Value>, Anything> {
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
