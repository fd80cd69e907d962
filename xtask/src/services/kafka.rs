//! Apache Kafka: one process that is broker and controller.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::home::{Home, write_private};
use super::process::output;
use super::server::{Launch, Server};
use super::{install, probe};

pub(super) struct Kafka;

impl Kafka {
    fn class_path() -> Result<String, String> {
        Ok(install::kafka_libraries()?.join("*").display().to_string())
    }

    fn write_settings(home: &Home) -> Result<PathBuf, String> {
        let controller = home.address("controller");
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@{controller}\n\
             listeners=PLAINTEXT://{},CONTROLLER://{controller}\n\
             controller.listener.names=CONTROLLER\n\
             log.dirs={}/log\n\
             # Of one broker there is one copy.\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             # Made when the first group joins, which waits for it.\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\n\
             # An eighth of the heap otherwise.\n\
             log.cleaner.dedupe.buffer.size=8388608\n",
            home.address("port"),
            home.data(),
        );
        let path = home.directory().join("server.properties");
        write_private(&path, &settings)?;
        Ok(path)
    }
}

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["port", "controller"]
    }

    fn prepare(&self, home: &Home) -> Result<(), String> {
        let settings = Self::write_settings(home)?;
        let class_path = Self::class_path()?;
        output(
            Command::new("java")
                .args(["-cp", &class_path, "kafka.tools.StorageTool", "format"])
                .args(["-t", &cluster_id(home), "-c"])
                .arg(settings)
                .current_dir(home.data()),
        )
        .map(|_| ())
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        let settings = Self::write_settings(home)?;
        Ok(Launch::of("java")
            .with(["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .with(["-Dorg.slf4j.simpleLogger.showDateTime=true"])
            .with(["-cp", &Self::class_path()?, "kafka.Kafka"])
            .with([settings.display().to_string()]))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        probe::kafka(&home.address("port"))
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let mut variables = vec![("KAFKA_BROKERS", home.address("port"))];
        if let Ok(libraries) = install::kafka_libraries() {
            variables.push(("KAFKA_LIBS", libraries.display().to_string()));
        }
        variables
    }

    /// After a kill it reads its log again.
    fn patience(&self) -> Duration {
        Duration::from_secs(180)
    }
}

/// 16 bytes in base64, as Kafka wants to have it: the random word has 24 digits, and 22 letters are needed, of
/// which the last has only two bits.
fn cluster_id(home: &Home) -> String {
    let word = home.value("password");
    format!("{}A", word.get(..21).unwrap_or("tidemill-tidemill-tid"))
}
