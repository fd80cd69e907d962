//! Topics of one scenario on the real broker that `KAFKA_BROKERS` names.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use benches::Anything;
use serde_json::json;

/// Where the brokers are, if there are any.
pub(super) fn brokers() -> Option<String> {
    std::env::var_os("KAFKA_BROKERS")?.into_string().ok()
}

/// Topics under a prefix of their own, removed when dropped.
pub(super) struct Topics {
    brokers: String,
    prefix: String,
}

impl Topics {
    pub(super) fn new(brokers: String) -> Result<Self, Anything> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let prefix = format!("bench_{}_{}.", std::process::id(), since.subsec_nanos());
        Ok(Self { brokers, prefix })
    }

    /// The configuration of a server with those roles. What this program cannot remove, since it was killed or
    /// finds no client, the broker removes itself after ten minutes.
    pub(super) fn configuration(&self, roles: &str) -> String {
        // What JSON quotes, TOML reads.
        let (brokers, prefix) = (json!(self.brokers), json!(self.prefix));
        format!(
            "roles = [\"{roles}\"]\n\
             journal.kind = \"kafka\"\n\
             journal.kafka.brokers = {brokers}\n\
             journal.kafka.topic_prefix = {prefix}\n\
             journal.kafka.partitions = 1\n\
             journal.kafka.retention = \"10m\"\n\
             lake.group = {prefix}\n"
        )
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let Some(libraries) = std::env::var_os("KAFKA_LIBS") else {
            return;
        };
        let mut classes = libraries;
        classes.push("/*");
        let pattern = format!("{}.*", self.prefix.replace('.', "\\."));
        // When it fails, retention does it.
        let _ = Command::new("java")
            .arg("-cp")
            .arg(classes)
            .arg("org.apache.kafka.tools.TopicCommand")
            .args([
                "--bootstrap-server",
                &self.brokers,
                "--delete",
                "--topic",
                &pattern,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
