//! One commit of a table's log, read directly: what a follower needs to go from one version to the next without
//! listing all files of the table again.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

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
pub(crate) fn checkpoint_hint(table: &Path) -> io::Result<Option<u64>> {
    match std::fs::read(table.join("_delta_log/_last_checkpoint")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        hint => Ok(Some(serde_json::from_slice::<Hint>(&hint?)?.version)),
    }
}

/// Where the commit of a version lies.
pub(crate) fn commit_path(table: &Path, version: u64) -> PathBuf {
    table.join("_delta_log").join(format!("{version:020}.json"))
}

/// Reads the commit of a version; `None` when it is not there (any more).
pub(crate) fn read(table: &Path, version: u64) -> io::Result<Option<Commit>> {
    let file = match std::fs::File::open(commit_path(table, version)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut commit = Commit::default();
    for line in BufReader::new(file).lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let action: Action = serde_json::from_str(&line)?;
        commit.adds.extend(action.add);
        commit.removes.extend(action.remove);
        commit.transactions.extend(action.txn);
        commit.domains.extend(action.domain_metadata);
        commit.redefined |= action.meta_data.is_some() || action.protocol.is_some();
    }
    Ok(Some(commit))
}
