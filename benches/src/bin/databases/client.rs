//! A database as its own command-line client sees it: the measure for what the sink does.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use benches::Anything;
use serde_json::json;

/// The file of rows in the directory in which clients run. Its name needs no escape anywhere.
const ROWS: &str = "rows.tsv";

/// One database server that the environment names.
pub(super) enum Client {
    /// MariaDB or MySQL.
    Mysql {
        url: String,
        /// How the client reaches it.
        arguments: Vec<String>,
    },
    /// PostgreSQL.
    Postgres { url: String },
}

impl Client {
    /// Those that the environment names. Says which are left out, and why.
    pub(super) fn find() -> Vec<Self> {
        let variable = |name: &str| {
            let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
            if value.is_none() {
                println!("LEFT OUT: what needs {name} (cargo xtask services up)");
            }
            value
        };
        let mysql = || {
            let (url, arguments) = (variable("MYSQL_URL")?, variable("MYSQL_CLIENT_ARGS")?);
            let arguments = arguments.split(' ').map(str::to_owned).collect();
            Some(Self::Mysql { url, arguments })
        };
        let postgres = || {
            Some(Self::Postgres {
                url: variable("POSTGRES_URL")?,
            })
        };
        mysql().into_iter().chain(postgres()).collect()
    }

    /// Its kind, as a configuration names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Mysql { .. } => "mysql",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// How its client loads rows.
    pub(super) fn way(&self) -> &'static str {
        match self {
            Self::Mysql { .. } => "LOAD DATA LOCAL INFILE",
            Self::Postgres { .. } => "\\copy",
        }
    }

    /// The destination in a configuration, with tables and positions of its own.
    pub(super) fn destination(&self, prefix: &str) -> String {
        let (Self::Mysql { url, .. } | Self::Postgres { url }) = self;
        // What JSON quotes, TOML reads.
        let (kind, url, prefix) = (json!(self.kind()), json!(url), json!(prefix));
        format!(
            "[destinations.measured]\nkind = {kind}\nurl = {url}\nstreams = [\"running\"]\n\
             table_prefix = {prefix}\ngroup = {prefix}\n"
        )
    }

    /// Writes all rows of a table to the file, in the form that its client loads.
    pub(super) fn dump(&self, table: &str, directory: &Path) -> Result<(), Anything> {
        match self {
            Self::Mysql { .. } => {
                let key = "ORDER BY `_partition`, `_offset`, `_row`";
                let mut client = self.client(directory);
                client.args(["--quick", "-e", &format!("SELECT * FROM `{table}` {key}")]);
                run(client.stdout(File::create(directory.join(ROWS))?)).map(drop)
            }
            Self::Postgres { .. } => self
                .ask(directory, &format!("\\copy {table} TO '{ROWS}'"))
                .map(drop),
        }
    }

    /// Makes an empty table of the same columns and keys.
    pub(super) fn create_like(&self, table: &str, other: &str, directory: &Path) -> Result<(), Anything> {
        let statement = match self {
            Self::Mysql { .. } => format!("CREATE TABLE `{table}` LIKE `{other}`"),
            Self::Postgres { .. } => format!("CREATE TABLE {table} (LIKE {other} INCLUDING ALL)"),
        };
        self.ask(directory, &statement).map(drop)
    }

    /// Loads the file into a table.
    pub(super) fn load(&self, table: &str, directory: &Path) -> Result<(), Anything> {
        let statement = match self {
            Self::Mysql { .. } => {
                format!("LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE `{table}` CHARACTER SET utf8mb4")
            }
            Self::Postgres { .. } => format!("\\copy {table} FROM '{ROWS}'"),
        };
        self.ask(directory, &statement).map(drop)
    }

    /// The number of rows, and a sum that tells other rows from these.
    pub(super) fn contents(&self, table: &str, directory: &Path) -> Result<String, Anything> {
        let count = self.ask(directory, &format!("SELECT count(*) FROM {table}"))?;
        let sum = match self {
            Self::Mysql { .. } => {
                let answer = self.ask(directory, &format!("CHECKSUM TABLE `{table}`"))?;
                answer.split('\t').nth(1).map(str::to_owned)
            }
            Self::Postgres { .. } => {
                let query = format!("SELECT sum(hashtextextended(t::text, 0)::numeric) FROM {table} t");
                Some(self.ask(directory, &query)?)
            }
        };
        let sum = sum.ok_or("no checksum")?;
        Ok(format!("{} rows, checksum {}", count.trim(), sum.trim()))
    }

    /// Removes tables, and what is known of destinations with that prefix.
    pub(super) fn forget(&self, prefix: &str, tables: &[&str], directory: &Path) -> Result<(), Anything> {
        for table in tables {
            self.ask(directory, &format!("DROP TABLE IF EXISTS {table}"))?;
        }
        let length = prefix.len();
        let delete = format!("DELETE FROM tidemill_positions WHERE left(target, {length}) = '{prefix}'");
        self.ask(directory, &delete).map(drop)
    }

    /// What a statement gives, a line a row, with tabs between the columns.
    fn ask(&self, directory: &Path, statement: &str) -> Result<String, Anything> {
        let mut client = self.client(directory);
        match self {
            Self::Mysql { .. } => client.args(["-e", statement]),
            Self::Postgres { .. } => client.args(["-c", statement]),
        };
        run(client.stdout(Stdio::piped()))
    }

    fn client(&self, directory: &Path) -> Command {
        let mut client;
        match self {
            Self::Mysql { arguments, .. } => {
                client = Command::new("mariadb");
                client.args(arguments).args([
                    "--local-infile=1",
                    "--default-character-set=utf8mb4",
                    "--batch",
                    "--skip-column-names",
                ]);
            }
            Self::Postgres { url } => {
                client = Command::new("psql");
                client.args([
                    url.as_str(),
                    "-X",
                    "-q",
                    "-At",
                    "-F",
                    "\t",
                    "-v",
                    "ON_ERROR_STOP=1",
                ]);
            }
        }
        client.current_dir(directory).stdin(Stdio::null());
        client
    }
}

fn run(client: &mut Command) -> Result<String, Anything> {
    let name = client.get_program().to_string_lossy().into_owned();
    let child = client.stderr(Stdio::piped()).spawn();
    let output = child
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| format!("start `{name}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name}` ended with {}: {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
