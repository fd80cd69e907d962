//! One commit of a table's log, read directly: what a follower needs to go from one version to the next without
//! listing all files of the table again.

use std::io;
use std::ops::RangeInclusive;

use crate::storage::{LOG, Storage};

/// The file that names the newest checkpoint.
const CHECKPOINT_HINT: &str = "_last_checkpoint";

/// What one commit changed.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) domains: Vec<Domain>,
    /// The schema, or another property of the table, may be another one.
    pub(crate) redefined: bool,
}

/// A file that was added.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) stats: Option<String>,
    pub(crate) base_row_id: Option<i64>,
    pub(crate) default_row_commit_version: Option<i64>,
}

/// A file that was removed.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    /// Milliseconds since 1970.
    pub(crate) deletion_timestamp: Option<i64>,
}

/// How far an application is.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transaction {
    pub(crate) app_id: String,
    pub(crate) version: i64,
}

/// Metadata of a domain.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Domain {
    pub(crate) domain: String,
    pub(crate) configuration: String,
    #[serde(default)]
    pub(crate) removed: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Transaction>,
    domain_metadata: Option<Domain>,
    meta_data: Option<serde::de::IgnoredAny>,
    protocol: Option<serde::de::IgnoredAny>,
}

/// Where readers that open a table begin.
#[derive(Debug, serde::Deserialize)]
struct Hint {
    version: u64,
}

/// The version of the checkpoint that readers are told to begin with; `None` when there is none.
pub(crate) fn checkpoint_hint(table: &Storage) -> io::Result<Option<u64>> {
    match table.read(&format!("{LOG}/{CHECKPOINT_HINT}"))? {
        Some(hint) => Ok(Some(serde_json::from_slice::<Hint>(&hint)?.version)),
        None => Ok(None),
    }
}

/// Whether the log has a first version, or a checkpoint because the entries before it have expired.
pub(crate) fn is_begun(table: &Storage) -> io::Result<bool> {
    Ok(has(table, 0)? || table.exists(&format!("{LOG}/{CHECKPOINT_HINT}"))?)
}

/// Whether the commit of a version is there.
pub(crate) fn has(table: &Storage, version: u64) -> io::Result<bool> {
    table.exists(&commit_name(version))
}

fn commit_name(version: u64) -> String {
    format!("{LOG}/{version:020}.json")
}

/// Reads the commit of a version; `None` when it is not there (any more).
pub(crate) fn read(table: &Storage, version: u64) -> io::Result<Option<Commit>> {
    table
        .read(&commit_name(version))?
        .map(|bytes| parse(&bytes))
        .transpose()
}

/// Reads the commits of several versions; `None` when one of them is not there (any more).
pub(crate) fn read_all(table: &Storage, versions: RangeInclusive<u64>) -> io::Result<Option<Vec<Commit>>> {
    read_each(table, versions).map(|commits| commits.into_iter().collect())
}

/// The same, without those that are not there.
pub(crate) fn read_each(
    table: &Storage,
    versions: impl Iterator<Item = u64>,
) -> io::Result<Vec<Option<Commit>>> {
    let names: Vec<_> = versions.map(commit_name).collect();
    let found = table.read_all(&names)?.into_iter();
    found
        .map(|bytes| bytes.map(|bytes| parse(&bytes)).transpose())
        .collect()
}

fn parse(bytes: &[u8]) -> io::Result<Commit> {
    let mut commit = Commit::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let action: Action = serde_json::from_slice(line)?;
        commit.adds.extend(action.add);
        commit.removes.extend(action.remove);
        commit.transactions.extend(action.txn);
        commit.domains.extend(action.domain_metadata);
        commit.redefined |= action.meta_data.is_some() || action.protocol.is_some();
    }
    Ok(commit)
}
