//! The processes of one small installation, and the servers behind them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::Program;

/// Where the real servers are. `None`, loudly, when they are not up.
pub(crate) struct Servers {
    pub(crate) kafka: String,
    pub(crate) mysql: String,
    pub(crate) mysql_client: Vec<String>,
    pub(crate) postgres: String,
}

impl Servers {
    pub(crate) fn find() -> Option<Self> {
        let found = Self::of(|name| std::env::var_os(name)?.into_string().ok());
        if found.is_none() {
            assert!(
                std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none(),
                "KAFKA_BROKERS, MYSQL_URL, MYSQL_CLIENT_ARGS, POSTGRES_URL must be set"
            );
            println!("SKIPPED: needs Kafka, MariaDB and PostgreSQL (cargo xtask services up)");
        }
        found
    }

    /// Those that some variables name.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let client = variable("MYSQL_CLIENT_ARGS")?;
        Some(Self {
            kafka: variable("KAFKA_BROKERS")?,
            mysql: variable("MYSQL_URL")?,
            mysql_client: client.split(' ').map(str::to_owned).collect(),
            postgres: variable("POSTGRES_URL")?,
        })
    }

    /// What a statement gives in MariaDB, a line a row, with tabs between the columns.
    pub(crate) fn mysql(&self, statement: &str) -> String {
        let mut client = Command::new("mariadb");
        client
            .args(&self.mysql_client)
            .args(["--batch", "--skip-column-names", "-e", statement]);
        output(&mut client)
    }

    /// The same in PostgreSQL.
    pub(crate) fn postgres(&self, statement: &str) -> String {
        let mut client = Command::new("psql");
        client.args([
            self.postgres.as_str(),
            "-X",
            "-q",
            "-At",
            "-F",
            "\t",
            "-c",
            statement,
        ]);
        output(&mut client)
    }

    /// How many events the records of a topic say that they hold.
    pub(crate) fn kafka_rows(&self, topic: &str) -> u64 {
        let mut client = Command::new("kcat");
        client.args([
            "-b",
            &self.kafka,
            "-C",
            "-t",
            topic,
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%h\n",
        ]);
        let headers = output(&mut client);
        let rows = headers.lines().flat_map(|line| line.split(','));
        rows.filter_map(|header| header.strip_prefix("rows=")?.parse::<u64>().ok())
            .sum()
    }
}

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {said}",
        command.get_program().display()
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// One process: its role, its directory, and the running program.
pub(crate) struct Process {
    pub(crate) role: &'static str,
    directory: PathBuf,
    pub(crate) program: Program,
}

impl Process {
    /// Ends as a power cut of the process would.
    pub(crate) fn kill(&mut self) {
        self.program.child.kill().expect("kill");
        self.program.child.wait().expect("the end");
    }

    /// Ends in order, and says how.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.program.signal("TERM");
        self.program.wait()
    }
}

/// An installation under a name of its own, so that tests share the servers.
pub(crate) struct Installation {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) name: String,
    config: PathBuf,
}

impl Installation {
    /// Writes the configuration, with the lake in a directory of its own. `more` is TOML that comes last.
    pub(crate) fn new(servers: &Servers, partitions: u32, more: &str) -> Self {
        Self::with_lake(servers, partitions, more, None)
    }

    /// The same with the lake in a bucket, under the installation's name.
    pub(crate) fn with_lake(servers: &Servers, partitions: u32, more: &str, bucket: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let name = format!("t{}_{}", std::process::id(), since.subsec_nanos());
        let lake = match bucket {
            Some(bucket) => format!("s3://{bucket}/{name}"),
            None => folder.path().join("lake").display().to_string(),
        };
        let text = format!(
            r#"
journal.kind = "kafka"
lake.url = "{lake}"
lake.group = "{name}.lake"
lake.roll.every = "500ms"
lake.compact.every = "1s"
journal.kafka.brokers = "{kafka}"
journal.kafka.topic_prefix = "{name}."
journal.kafka.partitions = {partitions}

[destinations.maria]
kind = "mysql"
url = "{mysql}"
table_prefix = "{name}_"
group = "{name}.maria"

[destinations.postgres]
kind = "postgres"
url = "{postgres}"
table_prefix = "{name}_"
group = "{name}.postgres"

{more}"#,
            kafka = servers.kafka,
            mysql = servers.mysql,
            postgres = servers.postgres,
        );
        let config = folder.path().join("tidemill.toml");
        std::fs::write(&config, text).expect("the configuration is written");
        Self { folder, name, config }
    }

    /// Starts one process of a role in a directory of its own.
    pub(crate) fn start(&self, role: &'static str, number: usize) -> Process {
        let directory = self.folder.path().join(format!("{role}-{number}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let program = self.run(role, &directory);
        Process {
            role,
            directory,
            program,
        }
    }

    fn run(&self, role: &str, directory: &Path) -> Program {
        let config = self.config.to_str().expect("UTF-8");
        Program::start(directory, &["--config", config, "--role", role])
    }

    /// Starts a process that has ended again, in its directory.
    pub(crate) fn restart(&self, process: &mut Process) {
        process.program = self.run(process.role, &process.directory);
    }

    /// The directory of a stream's table in the lake.
    pub(crate) fn table(&self, stream: &str) -> PathBuf {
        self.folder.path().join("lake").join(stream)
    }
}

/// Whether every partition of a stream is with one of the sinks, committed up to the journal's end, in every
/// destination.
pub(crate) fn caught_up(sinks: &[&Program], stream: &str, partitions: usize) -> bool {
    let bodies: Vec<Value> = sinks.iter().map(|sink| sink.get("/readyz").json()).collect();
    let destinations = ["lake", "maria", "postgres"];
    destinations.iter().all(|destination| {
        let lists = bodies.iter().map(|body| match *destination {
            "lake" => &body["sink"],
            other => &body["destinations"][other],
        });
        let own = lists.flat_map(|list| list.as_array().expect("a list"));
        let own: Vec<_> = own.filter(|one| one["stream"] == stream).collect();
        let done = |one: &&&Value| {
            one["lag_records"] == 0 && one["open_rows"] == 0 && one["read"] == one["committed"]
        };
        own.len() == partitions && own.iter().filter(done).count() == partitions
    })
}
