//! Topics of one measurement on the real broker that `KAFKA_BROKERS` names.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Anything;
use serde_json::json;

/// Where the brokers are, if there are any.
#[must_use]
pub fn brokers() -> Option<String> {
    std::env::var_os("KAFKA_BROKERS")?.into_string().ok()
}

/// Topics under a prefix of their own, removed when dropped.
#[derive(Debug)]
pub struct Topics {
    brokers: String,
    prefix: String,
}

impl Topics {
    /// A prefix that nobody else has.
    ///
    /// # Errors
    /// When the clock is before 1970.
    pub fn new(brokers: String) -> Result<Self, Anything> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let prefix = format!("bench_{}_{}.", std::process::id(), since.subsec_nanos());
        Ok(Self { brokers, prefix })
    }

    /// Where the brokers are.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Makes a topic of one partition with records of up to 8 MiB, and gives its name.
    ///
    /// # Errors
    /// When there is no client of Kafka's own, or it fails.
    pub fn create(&self, name: &str) -> Result<String, Anything> {
        let topic = format!("{}{name}", self.prefix);
        let mut command = tool("org.apache.kafka.tools.TopicCommand")?;
        let output = command
            .args(["--bootstrap-server", &self.brokers, "--create", "--topic", &topic])
            .args(["--partitions", "1", "--replication-factor", "1"])
            .args([
                "--config",
                "max.message.bytes=8388608",
                "--config",
                "retention.ms=600000",
            ])
            .output()?;
        match output.status.success() {
            true => Ok(topic),
            false => Err(format!(
                "make topic `{topic}`: {}",
                String::from_utf8_lossy(&output.stdout)
            )
            .into()),
        }
    }

    /// The configuration of a server with those roles. What this program cannot remove, since it was killed or
    /// finds no client, the broker removes itself after ten minutes.
    #[must_use]
    pub fn configuration(&self, roles: &str) -> String {
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
        let Ok(mut command) = tool("org.apache.kafka.tools.TopicCommand") else {
            return;
        };
        let pattern = format!("{}.*", self.prefix.replace('.', "\\."));
        // When it fails, retention does it.
        let _ = command
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

/// A program of Kafka's own.
///
/// # Errors
/// When `KAFKA_LIBS` does not say where they are.
pub fn tool(class: &str) -> Result<Command, Anything> {
    let mut classes = std::env::var_os("KAFKA_LIBS").ok_or("needs KAFKA_LIBS (cargo xtask services up)")?;
    classes.push("/*");
    let mut command = Command::new("java");
    command.arg("-cp").arg(classes).arg(class);
    Ok(command)
}
