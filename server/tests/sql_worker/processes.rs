//! The processes of this machine, as `/proc` shows them.

use std::process::Command;

use super::harness::until;

/// The worker processes of a server that have not ended.
pub(crate) fn workers(server: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let (parent, ended, _) = stat(id).unwrap_or_default();
        if parent == server && !ended && words(id).get(1).is_some_and(|word| word == "sql-worker") {
            found.push(id);
        }
    }
    found
}

/// The worker that computes, once there is one.
pub(crate) fn busiest(server: u32) -> u32 {
    let mut found = None;
    until("a worker computes", || {
        // Twentieths of a second: a statement that ends at once takes less.
        found = workers(server).into_iter().find(|worker| computed(*worker) >= 5);
        found.is_some()
    });
    found.expect("found")
}

/// The time that the threads of a worker have computed that run queries, in ticks.
fn computed(worker: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{worker}/task")) else {
        return 0;
    };
    let threads = threads.flatten().map(|thread| thread.path());
    let ticks = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.join("stat")).ok()?;
        text.contains("(tidemill-sql)").then(|| parse(&text))?
    });
    ticks.map(|(_, _, ticks)| ticks).sum()
}

/// Whether a process has ended with all of its threads; nobody need have asked how.
pub(crate) fn is_gone(id: u32) -> bool {
    let threads = || std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    stat(id).is_none_or(|(_, ended, _)| ended && threads() <= 1)
}

/// Sends a signal, as `kill` does.
pub(crate) fn signal(name: &str, id: u32) {
    let status = Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .status();
    assert!(status.expect("kill").success());
}

/// The command line of a process.
pub(crate) fn words(id: u32) -> Vec<String> {
    texts(id, "cmdline")
}

/// The environment that a process was started with.
pub(crate) fn variables(id: u32) -> Vec<String> {
    texts(id, "environ")
}

fn texts(id: u32, file: &str) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    texts
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

/// Parent, whether it has ended, and the time that it has computed, in ticks.
fn stat(id: u32) -> Option<(u32, bool, u64)> {
    parse(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(u32, bool, u64)> {
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((parent, ended, user + system))
}
