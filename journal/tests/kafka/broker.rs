//! A broker of one test's own, which it may kill, pause and start again.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::variable;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(180);

/// A broker process with its directory.
pub(crate) struct Broker {
    folder: tempfile::TempDir,
    libraries: String,
    pub(crate) address: String,
    process: Option<Child>,
}

impl Broker {
    /// Formats and starts one with further settings; `None` where there are no jars and none are required.
    /// `{FOLDER}`, `{ADDRESS}` and `{CONTROLLER}` in the settings stand for its directory and its two ports.
    pub(crate) fn start(settings: &str, format_options: &[&str]) -> Option<Self> {
        let libraries = variable("KAFKA_LIBS")?;
        let folder = tempfile::tempdir().expect("a folder");
        let address = format!("127.0.0.1:{}", free_port());
        let controller = format!("127.0.0.1:{}", free_port());
        let path = folder.path().display().to_string();
        let listeners = if settings.contains("listeners=") {
            String::new()
        } else {
            format!("listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n")
        };
        let all = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n{listeners}\
             controller.listener.names=CONTROLLER\nlog.dirs={path}/log\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=2\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=8388608\n{}\n",
            settings
                .replace("{FOLDER}", &path)
                .replace("{ADDRESS}", &address)
                .replace("{CONTROLLER}", &controller)
        );
        std::fs::write(folder.path().join("server.properties"), all).expect("written");
        let mut broker = Self {
            folder,
            libraries,
            address,
            process: None,
        };
        let formatted = broker
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
            .arg(broker.folder.path().join("server.properties"))
            .args(format_options)
            .output()
            .expect("java runs");
        assert!(
            formatted.status.success(),
            "{}",
            String::from_utf8_lossy(&formatted.stderr)
        );
        broker.resume_after_kill();
        Some(broker)
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args([
            "-Xmx512m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
        ])
        .arg(Path::new(&self.libraries).join("*"))
        .arg(class)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
        java
    }

    /// Starts the process, for the first time or after a kill, and waits for nothing.
    pub(crate) fn resume_after_kill(&mut self) {
        let process = self
            .java("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .spawn()
            .expect("java runs");
        self.process = Some(process);
    }

    /// Waits until it answers a client of that configuration.
    pub(crate) fn wait(&self, config: &ClientConfig) {
        let client: BaseConsumer = config.create().expect("a client");
        let deadline = Instant::now() + START;
        while let Err(error) = client.fetch_metadata(None, Duration::from_secs(1)) {
            assert!(
                Instant::now() < deadline,
                "the broker answers within {START:?}: {error}"
            );
        }
    }

    /// A client's configuration without encryption.
    pub(crate) fn plain(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    /// Sends a signal by its name, such as `STOP` and `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &process.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port below those that the system gives to connections, or one of them could take it before the broker does.
fn free_port() -> u16 {
    (0..1_000)
        .map(|_| rand::random_range(20_000..32_000_u16))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}
